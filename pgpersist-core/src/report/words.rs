//! Moments, spans and counts as the page says them.

use std::time::Duration;

use time::{OffsetDateTime, UtcOffset};

use crate::health::Status;
use crate::wording::{ago, duration};

/// `2026-02-08 09:33:16 UTC`.
pub(super) fn moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second())
}

/// How far a moment lies from now: `2 h ago`, `in 2 h 5 min`.
pub(super) fn distance(at: OffsetDateTime, now: OffsetDateTime) -> String {
    match Duration::try_from(now - at) {
        Ok(age) => ago(age),
        Err(_) => format!("in {}", duration(Duration::try_from(at - now).unwrap_or_default())),
    }
}

/// `4.2 s`, `12 min`.
pub(super) fn seconds(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    if seconds < 60.0 { format!("{seconds:.1} s") } else { duration(whole(seconds)) }
}

/// A number in a file may be anything.
pub(super) fn whole(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// `41 days`, `5 hours`: how long something will still take, said coarsely.
pub(super) fn about(span: Duration) -> String {
    match span.as_secs() {
        0..7_200 => count(span.as_secs() / 60, "minute"),
        7_200..172_800 => count(span.as_secs() / 3_600, "hour"),
        172_800..63_072_000 => count(span.as_secs() / 86_400, "day"),
        _ => "2 years or more".to_owned(),
    }
}

/// `1 dump`, `12 dumps`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1 234 567`, with spaces that break no line.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        // A number of four digits needs no help.
        if place > 0 && digits.len() > 4 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The sign of a status; its meaning is never told by colour alone.
pub(super) fn sign(status: Status) -> &'static str {
    match status {
        Status::Pass => "✓",
        Status::Warn => "!",
        Status::Fail => "✗",
        Status::Unknown => "?",
    }
}

/// The word of a status.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::Pass => "well",
        Status::Warn => "warning",
        Status::Fail => "failure",
        Status::Unknown => "not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn spans_read_as_people_say_them() {
        let now = datetime!(2026-02-08 11:33:16 UTC);
        assert_eq!(moment(datetime!(2026-02-08 12:33:16 +01:00)), "2026-02-08 11:33:16 UTC");
        assert_eq!(distance(datetime!(2026-02-08 09:33:16 UTC), now), "2 h ago");
        assert_eq!(distance(datetime!(2026-02-08 13:38:16 UTC), now), "in 2 h 5 min");
        assert_eq!([4.24, 90.0, -1.0, f64::NAN, f64::INFINITY].map(seconds), ["4.2 s", "1 min", "0.0 s", "0.0 s", "0.0 s"]);
        assert_eq!(
            [60, 7_200, 41 * 86_400, u64::MAX].map(|s| about(Duration::from_secs(s))),
            ["1 minute", "2 hours", "41 days", "2 years or more"]
        );
        assert_eq!(whole(f64::MAX), Duration::MAX);
        assert_eq!([1, 1234, 12345, 1_234_567].map(grouped), ["1", "1234", "12\u{202f}345", "1\u{202f}234\u{202f}567"]);
    }
}
