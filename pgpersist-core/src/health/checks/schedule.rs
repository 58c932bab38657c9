//! `schedule:<job>`: is what should be done at its times done, and does it succeed?
//!
//! Told from what the agent remembers on the volume, so it can be asked whether an agent runs or not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::data_directory::own_folder::OwnFolder;
use crate::health::checks::judgement::not_known;
use crate::health::{Finding, HealthCheck, Status};
use crate::schedule;
use crate::schedule::record::{JobRecord, Outcome};
use crate::schedule::timetable::Timetable;
use crate::wording::{ago, duration, moment, shortened};
use crate::workers;

/// What the name of its finding begins with.
pub const PREFIX: &str = "schedule:";

/// How late a run may begin before somebody should look: a server may be restarting.
const LATE: time::Duration = time::Duration::minutes(15);

/// How many characters of an error fit into a line.
const SHOWN: usize = 160;

/// Looks at what is remembered of one job.
#[derive(Debug, Clone)]
pub struct ScheduleCheck {
    name: String,
    job: String,
    timetable: Timetable,
    own: OwnFolder,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl ScheduleCheck {
    /// A check of the job of this name, whose record lies in the folder of our own files.
    pub fn new(job: &str, timetable: Timetable, own: OwnFolder, clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        Self { name: format!("{PREFIX}{job}"), job: job.to_owned(), timetable, own, clock, deadline }
    }
}

#[async_trait]
impl HealthCheck for ScheduleCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Finding {
        let (own, job) = (self.own.path().to_owned(), self.job.clone());
        match workers::run(move || JobRecord::read(&own, &job)).await {
            Ok(record) => judge(&self.job, &self.timetable, record.as_ref(), self.clock.now()),
            Err(error) => not_known(&self.name, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(job: &str, timetable: &Timetable, record: Option<&JobRecord>, now: OffsetDateTime) -> Finding {
    let name = format!("{PREFIX}{job}");
    let Some(record) = record else {
        let Some(schedule) = timetable.describe() else { return Finding::pass(name, "not run yet") };
        return Finding::warn(
            name,
            format!("nobody has taken it up ({schedule})"),
            "start `pgpersist run`, which does it at its times; with cron instead, take the schedule out of the configuration",
        )
        .observing("schedule", schedule);
    };
    let due = if record.begun.is_some() { None } else { timetable.next(record, now) };
    let next = match (&record.begun, due) {
        (Some(begun), _) => format!("under way for {}", duration(Duration::try_from(now - begun.started_at).unwrap_or_default())),
        (None, Some(due)) if due.at <= now => "due now".to_owned(),
        (None, Some(due)) => format!("next at {}", moment(due.at)),
        (None, None) => "next when what it follows has succeeded".to_owned(),
    };
    let last = match &record.last {
        None => "not run yet".to_owned(),
        Some(run) => {
            let age = ago(Duration::try_from(now - run.started_at).unwrap_or_default());
            match run.outcome {
                Outcome::Success => format!("last {age}, took {}", duration(Duration::from_secs_f64(run.duration_s.max(0.0)))),
                Outcome::Failure => format!("failed {age}: {}", shortened(&run.summary, SHOWN)),
                Outcome::Cancelled => format!("stopped with its agent {age}"),
                Outcome::Interrupted => format!("cut off {age}: {}", shortened(&run.summary, SHOWN)),
            }
        }
    };
    let overdue = due.is_some_and(|due| due.at + LATE < now);
    let remedy = match (record.failures, overdue) {
        (0, false) => None,
        (0, true) => Some("see whether `pgpersist run` is up and its server accepts connections".to_owned()),
        (_, _) => Some(format!("run it by hand to see: `pgpersist {}`", command(job))),
    };
    let status = match (record.failures, record.pending.is_some() || record.begun.is_some()) {
        (0, _) if overdue => Status::Warn,
        (0, _) => Status::Pass,
        // It is tried again.
        (_, true) => Status::Warn,
        (_, false) => Status::Fail,
    };
    let finding = Finding { status, remedy, ..Finding::pass(name, format!("{last}; {next}")) };
    let mut finding = finding.observing("failures", record.failures).observing("running", record.begun.is_some());
    if let Some(schedule) = timetable.describe() {
        finding = finding.observing("schedule", schedule);
    }
    if let Some(due) = due {
        finding = finding.observing("next_at", moment(due.at));
    }
    if let Some(run) = &record.last {
        finding = finding.observing("last_outcome", serde_json::json!(run.outcome)).observing("last_duration_s", run.duration_s);
    }
    if let Some(success) = record.last_success_at {
        finding = finding.observing("last_success_age_s", (now - success).as_seconds_f64().max(0.0).round());
    }
    finding
}

/// The command that does the same.
fn command(job: &str) -> &str {
    if job == schedule::RESTORE_DRILL { "drill restore" } else { job }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::cron::CronSchedule;
    use time::macros::datetime;

    const TWO: OffsetDateTime = datetime!(2026-02-08 02:00 UTC);

    fn ran(outcome: Outcome, may_help: bool) -> (Timetable, JobRecord) {
        let table = Timetable::new(CronSchedule::parse("0 2 * * *", "UTC").unwrap());
        let mut record = JobRecord::new(&table, datetime!(2026-02-07 18:00 UTC), 7);
        record.begin(table.next(&record, TWO).unwrap(), TWO);
        record.end(outcome, "the store is down", TWO + time::Duration::seconds(12), &table, may_help);
        (table, record)
    }

    fn seen(table: &Timetable, record: &JobRecord, now: OffsetDateTime) -> (Status, String) {
        let finding = judge("dump", table, Some(record), now);
        assert_eq!((finding.name.as_str(), finding.remedy.is_some()), ("schedule:dump", finding.status != Status::Pass));
        (finding.status, finding.summary)
    }

    #[test]
    fn a_success_passes_until_the_next_one_is_late() {
        let (table, record) = ran(Outcome::Success, true);
        let noon = datetime!(2026-02-08 12:00 UTC);
        assert_eq!(seen(&table, &record, noon), (Status::Pass, "last 10 h ago, took 12 s; next at 2026-02-09T02:00:00Z".into()));
        assert_eq!(seen(&table, &record, datetime!(2026-02-09 02:10 UTC)).0, Status::Pass);
        let late = seen(&table, &record, datetime!(2026-02-09 02:20 UTC));
        assert_eq!(late, (Status::Warn, "last 24 h ago, took 12 s; due now".into()));
    }

    #[test]
    fn a_failure_warns_while_it_is_tried_again_and_then_fails() {
        let (table, record) = ran(Outcome::Failure, true);
        let now = TWO + time::Duration::seconds(20);
        let retried = "failed just now: the store is down; next at 2026-02-08T02:01:12Z";
        assert_eq!(seen(&table, &record, now), (Status::Warn, retried.into()));
        let (table, record) = ran(Outcome::Failure, false);
        assert_eq!(seen(&table, &record, now).0, Status::Fail);
    }

    #[test]
    fn a_job_that_nobody_took_up_is_told() {
        let (table, _) = ran(Outcome::Success, true);
        assert_eq!(judge("dump", &table, None, TWO).status, Status::Warn);
        assert_eq!(judge("prune", &Timetable::following(), None, TWO).status, Status::Pass);
    }

    #[test]
    fn a_run_under_way_is_told_with_its_age() {
        let (table, mut record) = ran(Outcome::Success, true);
        let next = datetime!(2026-02-09 02:00 UTC);
        record.begin(table.next(&record, next).unwrap(), next);
        let later = next + time::Duration::minutes(30);
        assert_eq!(seen(&table, &record, later), (Status::Pass, "last 24 h ago, took 12 s; under way for 30 min".into()));
    }
}
