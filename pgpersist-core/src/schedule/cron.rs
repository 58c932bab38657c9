//! Five-field cron expressions in a time zone.
//!
//! Source: `crontab(5)`, with the names of days and months, steps, and the short forms such as `@daily`. A day matches when
//! either of day of month and day of week does, where both are restricted. When clocks are put forward, a moment that falls
//! into the gap comes right after it; when they are put back, a moment that would come twice comes once.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use time::OffsetDateTime;

/// The zone of a schedule that names none.
pub const DEFAULT_TIME_ZONE: &str = "UTC";

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronSchedule {
    text: String,
    cron: Cron,
    zone_name: String,
    zone: TimeZone,
}

impl CronSchedule {
    /// Reads an expression, such as `0 2 * * *`, to be understood in a zone of the IANA database, such as `Asia/Kolkata`.
    ///
    /// # Errors
    /// In words: what is wrong with the expression or the zone. An expression that never comes, such as 30 February, is wrong.
    pub fn parse(text: &str, zone: &str) -> Result<Self, String> {
        let zone_value = time_zone(zone)?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let example = "a schedule of five fields, such as `0 2 * * *` for 02:00 each day";
        let cron = parser.parse(text).map_err(|error| format!("expected {example}, found `{text}` ({error})"))?;
        let schedule = Self { text: text.to_owned(), cron, zone_name: zone.to_owned(), zone: zone_value };
        // Eight years hold every day that there is, also 29 February around a century.
        if schedule.next_after(OffsetDateTime::UNIX_EPOCH).is_none() {
            return Err(format!("`{text}` never comes; expected {example}"));
        }
        Ok(schedule)
    }

    /// The first moment later than this one; none when there is none that a calendar knows.
    pub fn next_after(&self, moment: OffsetDateTime) -> Option<OffsetDateTime> {
        let moment = Timestamp::from_second(moment.unix_timestamp()).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&moment, false).ok()?;
        OffsetDateTime::from_unix_timestamp(next.timestamp().as_second()).ok()
    }
}

impl fmt::Display for CronSchedule {
    /// The expression with its zone, such as `0 2 * * * UTC`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.text, self.zone_name)
    }
}

/// Checks the name of a time zone.
///
/// # Errors
/// In words, when nobody knows it.
pub fn check_time_zone(name: &str) -> Result<(), String> {
    time_zone(name).map(drop)
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    // The machine's own database is newer; minimal images have none.
    jiff::tz::db()
        .get(name)
        .or_else(|_| TimeZoneDatabase::bundled().get(name))
        .map_err(|_| format!("expected a time zone such as `UTC` or `Asia/Kolkata`, found `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn next(text: &str, zone: &str, after: OffsetDateTime) -> Option<OffsetDateTime> {
        CronSchedule::parse(text, zone).unwrap().next_after(after)
    }

    #[test]
    fn a_moment_is_later_than_the_one_before() {
        assert_eq!(next("0 2 * * *", "UTC", datetime!(2026-02-08 01:59:59.9 UTC)), Some(datetime!(2026-02-08 02:00 UTC)));
        assert_eq!(next("0 2 * * *", "UTC", datetime!(2026-02-08 02:00:00.9 UTC)), Some(datetime!(2026-02-09 02:00 UTC)));
        assert_eq!(next("*/15 * * * *", "UTC", datetime!(2026-02-08 23:45:00 UTC)), Some(datetime!(2026-02-09 00:00 UTC)));
        assert_eq!(next("0 4 * * sun", "UTC", datetime!(2026-02-09 00:00 UTC)), Some(datetime!(2026-02-15 04:00 UTC)));
        assert_eq!(next("@daily", "UTC", datetime!(2026-02-09 00:00 UTC)), Some(datetime!(2026-02-10 00:00 UTC)));
        assert_eq!(next("0 0 29 2 *", "UTC", datetime!(2026-03-01 00:00 UTC)), Some(datetime!(2028-02-29 00:00 UTC)));
    }

    #[test]
    fn either_of_two_restricted_days_counts() {
        let after = datetime!(2026-02-08 00:00 UTC);
        assert_eq!(next("0 0 20 * mon", "UTC", after), Some(datetime!(2026-02-09 00:00 UTC)));
        assert_eq!(next("0 0 10 * fri", "UTC", after), Some(datetime!(2026-02-10 00:00 UTC)));
    }

    #[test]
    fn a_zone_is_where_the_day_begins() {
        assert_eq!(next("0 2 * * *", "Asia/Kolkata", datetime!(2026-02-08 00:00 UTC)), Some(datetime!(2026-02-08 20:30 UTC)));
    }

    #[test]
    fn what_a_summer_time_skips_comes_right_after_and_what_it_repeats_comes_once() {
        // 29 March 2026, 02:00 to 03:00 does not exist in Berlin; 25 October 02:00 to 03:00 comes twice.
        let spring = datetime!(2026-03-28 12:00 UTC);
        assert_eq!(next("30 2 * * *", "Europe/Berlin", spring), Some(datetime!(2026-03-29 01:00 UTC)));
        assert_eq!(next("30 2 * * *", "Europe/Berlin", datetime!(2026-03-29 01:00 UTC)), Some(datetime!(2026-03-30 00:30 UTC)));
        let autumn = datetime!(2026-10-24 12:00 UTC);
        let first = next("30 2 * * *", "Europe/Berlin", autumn).unwrap();
        assert_eq!(first, datetime!(2026-10-25 00:30 UTC));
        assert_eq!(next("30 2 * * *", "Europe/Berlin", first), Some(datetime!(2026-10-26 01:30 UTC)));
        // What is due every so often goes on through both hours.
        assert_eq!(next("*/30 * * * *", "Europe/Berlin", datetime!(2026-10-25 00:30 UTC)), Some(datetime!(2026-10-25 01:00 UTC)));
    }

    #[test]
    fn what_is_no_schedule_is_told_why() {
        for (text, zone, said) in [
            ("0 2 * *", "UTC", "five fields"),
            ("0 0 2 * * *", "UTC", "five fields"),
            ("61 2 * * *", "UTC", "five fields"),
            ("daily", "UTC", "five fields"),
            ("0 0 30 2 *", "UTC", "never comes"),
            ("0 2 * * *", "Mars/Olympus", "time zone"),
            ("", "UTC", "five fields"),
        ] {
            let error = CronSchedule::parse(text, zone).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
