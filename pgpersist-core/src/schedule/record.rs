//! What is remembered of a job: a small JSON file on the volume, so that the next process knows what was missed, what failed,
//! and what was cut off.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::schedule::timetable::{Due, Timetable};

/// The format that this version writes.
const FORMAT: u32 = 1;
/// The folder of the records in that of our own files.
const FOLDER: &str = "schedule";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it is for.
    Success,
    /// It did not.
    Failure,
    /// It was stopped on request.
    Cancelled,
    /// Its process was killed, or the machine.
    Interrupted,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The moment that it was for.
    #[serde(with = "time::serde::rfc3339")]
    pub planned: OffsetDateTime,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it did, or why it failed.
    pub summary: String,
}

/// A run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The moment that it is for.
    #[serde(with = "time::serde::rfc3339")]
    pub planned: OffsetDateTime,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Which attempt it is, from 1.
    pub attempt: u32,
}

/// A run that is wanted outside of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The moment that it is for.
    #[serde(with = "time::serde::rfc3339")]
    pub planned: OffsetDateTime,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// When it may begin.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
}

/// What is remembered of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    format: u32,
    /// How its schedule read.
    pub schedule: Option<String>,
    /// Up to when its moments are dealt with.
    #[serde(with = "time::serde::rfc3339")]
    pub handled: OffsetDateTime,
    /// What its jitter is drawn from.
    pub salt: u64,
    /// The run that is under way, or was when its process was killed.
    pub begun: Option<Begun>,
    /// The run that is wanted outside of the schedule.
    pub pending: Option<Pending>,
    /// The last run that has ended.
    pub last: Option<Run>,
    /// When the last run that succeeded began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success_at: Option<OffsetDateTime>,
    /// How many runs in a row have failed since.
    pub failures: u32,
}

impl JobRecord {
    /// Of a job that nothing is known of: what lies before `now` is none of its business.
    pub fn new(timetable: &Timetable, now: OffsetDateTime, salt: u64) -> Self {
        Self {
            format: FORMAT,
            schedule: timetable.describe(),
            handled: now,
            salt,
            begun: None,
            pending: None,
            last: None,
            last_success_at: None,
            failures: 0,
        }
    }

    /// Takes up what an earlier process left: another schedule begins now, and a run that was under way was cut off.
    pub fn take_up(&mut self, timetable: &Timetable, now: OffsetDateTime) {
        if self.schedule != timetable.describe() {
            self.schedule = timetable.describe();
            self.handled = now;
        }
        if self.begun.is_some() {
            self.end(Outcome::Interrupted, "it was cut off: its process, or the machine, ended", now, timetable, true);
        }
    }

    /// Wants a run as soon as may be.
    pub fn ask_for(&mut self, now: OffsetDateTime) {
        self.pending = Some(Pending { planned: now, attempt: 1, not_before: now });
    }

    /// A run begins.
    pub fn begin(&mut self, due: Due, now: OffsetDateTime) {
        self.handled = now;
        self.pending = None;
        self.begun = Some(Begun { planned: due.planned, started_at: now, attempt: due.attempt });
    }

    /// The run that has begun ends. One that failed is wanted again, where that `may_help`, unless it was the last attempt.
    pub fn end(&mut self, outcome: Outcome, summary: &str, now: OffsetDateTime, timetable: &Timetable, may_help: bool) {
        let Some(begun) = self.begun.take() else { return };
        let took = Duration::try_from(now - begun.started_at).unwrap_or_default();
        let again = |attempt, wait| Some(Pending { planned: begun.planned, attempt, not_before: now + wait });
        match outcome {
            Outcome::Success => {
                (self.failures, self.last_success_at) = (0, Some(begun.started_at));
            }
            Outcome::Cancelled => self.pending = again(begun.attempt, Duration::ZERO),
            Outcome::Failure | Outcome::Interrupted => {
                self.failures += 1;
                if may_help && begun.attempt < timetable.attempts {
                    // Whoever was killed has waited already.
                    let wait = if outcome == Outcome::Interrupted { Duration::ZERO } else { timetable.wait_after(begun.attempt) };
                    self.pending = again(begun.attempt + 1, wait);
                }
            }
        }
        self.last = Some(Run {
            planned: begun.planned,
            started_at: begun.started_at,
            duration_s: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            attempt: begun.attempt,
            outcome,
            summary: summary.to_owned(),
        });
    }

    /// Reads the record of a job below the folder of our own files; none where there is none, or none that can be
    /// understood: it is only a memory, and must not stand in the way of a dump. Blocking.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(own: &Path, job: &str) -> Result<Option<Self>> {
        let path = file(own, job);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(|record: &Self| record.format == FORMAT)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(Error::file("read", path, error)),
        }
    }

    /// Writes it, durably. The folder of our own files must be there. Blocking.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, own: &Path, job: &str) -> Result<()> {
        let path = file(own, job);
        let folder = own.join(FOLDER);
        if !folder.is_dir() {
            durable::create_directory(&folder, 0o700)?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Bug(format!("could not write {}: {e}", path.display())))?;
        durable::write(&path, format!("{text}\n").as_bytes(), 0o600)
    }
}

fn file(own: &Path, job: &str) -> PathBuf {
    own.join(FOLDER).join(format!("{job}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::cron::CronSchedule;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-02-08 02:00 UTC);

    fn table(text: &str) -> Timetable {
        Timetable::new(CronSchedule::parse(text, "UTC").unwrap())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let table = table("0 2 * * *");
        assert_eq!(JobRecord::read(folder.path(), "dump").unwrap(), None);
        let mut record = JobRecord::new(&table, NOW, 3);
        record.begin(Due { planned: NOW, at: NOW, attempt: 1 }, NOW);
        record.write(folder.path(), "dump").unwrap();
        assert_eq!(JobRecord::read(folder.path(), "dump").unwrap(), Some(record.clone()));
        record.end(Outcome::Failure, "the store is down", NOW + Duration::from_millis(1500), &table, true);
        record.write(folder.path(), "dump").unwrap();
        let read = JobRecord::read(folder.path(), "dump").unwrap().unwrap();
        assert_eq!(read, record);
        assert_eq!(read.last.unwrap().duration_s, 1.5);
    }

    #[test]
    fn what_cannot_be_understood_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let record = JobRecord::new(&table("0 2 * * *"), NOW, 3);
        record.write(folder.path(), "dump").unwrap();
        let path = folder.path().join("schedule/dump.json");
        let text = fs::read_to_string(&path).unwrap();
        for wrong in [&text[..text.len() / 2], &text.replace("\"format\": 1", "\"format\": 9"), ""] {
            durable::write(&path, wrong.as_bytes(), 0o600).unwrap();
            assert_eq!(JobRecord::read(folder.path(), "dump").unwrap(), None);
        }
    }

    #[test]
    fn another_schedule_begins_when_it_is_seen() {
        let (nightly, hourly) = (table("0 2 * * *"), table("0 * * * *"));
        let mut record = JobRecord::new(&nightly, NOW, 3);
        let later = datetime!(2026-02-09 10:30 UTC);
        record.take_up(&hourly, later);
        assert_eq!(hourly.next(&record, later).unwrap().planned, datetime!(2026-02-09 11:00 UTC));
    }

    #[test]
    fn a_run_that_kills_its_process_every_time_is_given_up() {
        let table = table("0 2 * * *");
        let mut record = JobRecord::new(&table, datetime!(2026-02-07 12:00 UTC), 3);
        for attempt in 1..=4 {
            let due = table.next(&record, NOW).unwrap();
            assert_eq!((due.planned, due.attempt), (NOW, attempt));
            record.begin(due, NOW);
            record.take_up(&table, NOW);
        }
        assert_eq!(table.next(&record, NOW).unwrap().planned, datetime!(2026-02-09 02:00 UTC));
    }
}
