//! When a job is to be run, from what is remembered of it: a pure decision.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use time::OffsetDateTime;

use crate::schedule::cron::CronSchedule;
use crate::schedule::record::JobRecord;

/// How far ahead of the clock what is remembered may lie. Beyond that the clock was wrong then, and it is not waited for.
const AHEAD: time::Duration = time::Duration::HOUR;

/// When a job is run, and what happens when it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// Its moments; none for a job that only follows another one.
    pub schedule: Option<CronSchedule>,
    /// Up to how much later it is run, so that many clusters do not all begin in one second. How much is another one for each
    /// moment and each cluster, and is the same however often it is asked.
    pub jitter: Duration,
    /// How often a run is tried in all.
    pub attempts: u32,
    /// How long after a failure it is tried again; twice as long after each further one.
    pub retry_wait: Duration,
}

/// A run that is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The moment that it is for.
    pub planned: OffsetDateTime,
    /// When it is to begin.
    pub at: OffsetDateTime,
    /// Which attempt it is, from 1.
    pub attempt: u32,
}

impl Timetable {
    /// A job of these moments: no jitter, four attempts, the second one after a minute.
    pub fn new(schedule: CronSchedule) -> Self {
        Self { schedule: Some(schedule), ..Self::following() }
    }

    /// A job that is run when another one has succeeded.
    pub fn following() -> Self {
        Self { schedule: None, jitter: Duration::ZERO, attempts: 4, retry_wait: Duration::from_secs(60) }
    }

    /// How the schedule reads, to notice another one.
    pub fn describe(&self) -> Option<String> {
        self.schedule.as_ref().map(ToString::to_string)
    }

    /// The next run of `job`, which is to begin when `at` has come. However many moments were missed, they are one run.
    pub fn next(&self, record: &JobRecord, now: OffsetDateTime) -> Option<Due> {
        // After a clock was put back, what was dealt with "later" says nothing.
        let handled = if record.handled > now + AHEAD { now } else { record.handled };
        let regular = self.schedule.as_ref().and_then(|schedule| schedule.next_after(handled)).map(|planned| {
            let jitter = time::Duration::seconds_f64(self.jitter.as_secs_f64() * share(record.salt, planned));
            Due { planned, at: planned + jitter, attempt: 1 }
        });
        let again = record.pending.map(|pending| {
            let longest = self.wait_after(self.attempts);
            let at = if pending.not_before > now + longest + AHEAD { now } else { pending.not_before };
            Due { planned: pending.planned, at, attempt: pending.attempt }
        });
        match (regular, again) {
            (Some(regular), Some(again)) if regular.at <= again.at => Some(regular),
            (regular, None) => regular,
            (_, again) => again,
        }
    }

    /// How long is waited after this attempt has failed.
    pub fn wait_after(&self, attempt: u32) -> Duration {
        self.retry_wait.saturating_mul(1 << attempt.saturating_sub(1).min(10))
    }
}

/// A number from 0 to 1 that looks drawn.
fn share(salt: u64, planned: OffsetDateTime) -> f64 {
    let mut hasher = DefaultHasher::new();
    (salt, planned.unix_timestamp()).hash(&mut hasher);
    f64::from((hasher.finish() >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::record::Outcome;
    use time::macros::datetime;

    const EVENING: OffsetDateTime = datetime!(2026-02-07 18:00 UTC);
    const TWO: OffsetDateTime = datetime!(2026-02-08 02:00 UTC);

    fn nightly() -> Timetable {
        Timetable::new(CronSchedule::parse("0 2 * * *", "UTC").unwrap())
    }

    fn record(timetable: &Timetable) -> JobRecord {
        JobRecord::new(timetable, EVENING, 7)
    }

    #[test]
    fn a_new_job_waits_for_its_first_moment() {
        let table = nightly();
        assert_eq!(table.next(&record(&table), EVENING), Some(Due { planned: TWO, at: TWO, attempt: 1 }));
    }

    #[test]
    fn many_missed_moments_are_caught_up_once() {
        let (table, mut record) = (nightly(), record(&nightly()));
        let now = datetime!(2026-02-12 08:00 UTC);
        let due = table.next(&record, now).unwrap();
        assert_eq!(due.planned, TWO);
        record.begin(due, now);
        record.end(Outcome::Success, "done", now, &table, true);
        assert_eq!(table.next(&record, now).unwrap().planned, datetime!(2026-02-13 02:00 UTC));
    }

    #[test]
    fn a_failure_is_tried_again_ever_later_and_then_left_to_the_next_moment() {
        let (table, mut record) = (nightly(), record(&nightly()));
        let mut now = TWO;
        for (attempt, wait) in [(1, 1), (2, 2), (3, 4)] {
            let due = table.next(&record, now).unwrap();
            assert_eq!((due.planned, due.attempt), (TWO, attempt));
            record.begin(due, now);
            record.end(Outcome::Failure, "no", now, &table, true);
            let again = table.next(&record, now).unwrap();
            assert_eq!(again.at, now + time::Duration::minutes(wait));
            now = again.at;
        }
        record.begin(table.next(&record, now).unwrap(), now);
        record.end(Outcome::Failure, "no", now, &table, true);
        assert_eq!(table.next(&record, now).unwrap().planned, datetime!(2026-02-09 02:00 UTC));
        assert_eq!(record.failures, 4);
    }

    #[test]
    fn what_cannot_be_mended_by_waiting_is_not_tried_again() {
        let (table, mut record) = (nightly(), record(&nightly()));
        record.begin(table.next(&record, TWO).unwrap(), TWO);
        record.end(Outcome::Failure, "no such database", TWO, &table, false);
        assert_eq!(table.next(&record, TWO).unwrap().planned, datetime!(2026-02-09 02:00 UTC));
    }

    #[test]
    fn the_next_moment_comes_before_another_attempt() {
        let mut table = nightly();
        table.retry_wait = Duration::from_secs(48 * 3600);
        let mut record = record(&table);
        record.begin(table.next(&record, TWO).unwrap(), TWO);
        record.end(Outcome::Failure, "no", TWO, &table, true);
        let due = table.next(&record, TWO).unwrap();
        assert_eq!((due.planned, due.attempt), (datetime!(2026-02-09 02:00 UTC), 1));
    }

    #[test]
    fn a_run_that_was_cut_off_is_made_again() {
        let table = nightly();
        for (cut, attempt) in [(Outcome::Cancelled, 1), (Outcome::Interrupted, 2)] {
            let mut record = record(&table);
            record.begin(table.next(&record, TWO).unwrap(), TWO);
            record.end(cut, "", TWO, &table, true);
            assert_eq!(table.next(&record, TWO), Some(Due { planned: TWO, at: TWO, attempt }));
        }
    }

    #[test]
    fn a_clock_put_back_repeats_nothing_and_one_that_was_wrong_is_not_waited_for() {
        let (table, mut record) = (nightly(), record(&nightly()));
        record.begin(table.next(&record, TWO).unwrap(), TWO);
        record.end(Outcome::Success, "", TWO, &table, true);
        let tomorrow = datetime!(2026-02-09 02:00 UTC);
        assert_eq!(table.next(&record, TWO - time::Duration::minutes(50)).unwrap().planned, tomorrow);
        // In the year 2031 it was dumped, and then somebody set the clock.
        record.handled = datetime!(2031-01-01 00:00 UTC);
        assert_eq!(table.next(&record, TWO).unwrap().planned, tomorrow);
    }

    #[test]
    fn jitter_is_bounded_and_steady_and_differs_between_clusters() {
        let mut table = nightly();
        table.jitter = Duration::from_secs(600);
        let at = |salt| table.next(&JobRecord::new(&table, EVENING, salt), EVENING).unwrap().at;
        let mut seen: Vec<_> = (0..50).map(at).collect();
        assert!(seen.iter().all(|at| (TWO..=TWO + time::Duration::seconds(600)).contains(at)));
        assert_eq!(seen, (0..50).map(at).collect::<Vec<_>>());
        seen.dedup();
        assert_eq!(seen.len(), 50);
    }

    #[test]
    fn a_job_that_follows_has_no_moments_of_its_own() {
        let table = Timetable::following();
        let mut record = JobRecord::new(&table, EVENING, 7);
        assert_eq!(table.next(&record, TWO), None);
        record.ask_for(TWO);
        assert_eq!(table.next(&record, TWO), Some(Due { planned: TWO, at: TWO, attempt: 1 }));
    }
}
