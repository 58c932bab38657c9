//! Stays with one job: waits for its moments, runs it, remembers what became of it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, watch};

use crate::agent::jobs::ScheduledJob;
use crate::agent::log::Told;
use crate::agent::status::{AgentStatus, JobStatus, Phase};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::pg::log_line::Severity;
use crate::progress::{Event, ProgressSink};
use crate::schedule::record::{JobRecord, Outcome};
use crate::schedule::timetable::Due;
use crate::wording::moment;
use crate::workers;

/// How long it sleeps at most before it looks at the clock again: the clock may be set, or the machine sleep.
const LOOK: Duration = Duration::from_secs(5);

/// Whether an attendant goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It goes on.
    Stay,
    /// It ends when no run is under way.
    WhenDone,
    /// It drops what is under way, and ends.
    Now,
}

/// What an attendant works with.
#[derive(Debug)]
pub(crate) struct Attendant {
    pub(crate) scheduled: ScheduledJob,
    /// The folder of our own files.
    pub(crate) own: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) told: Told,
    pub(crate) status: watch::Sender<AgentStatus>,
    pub(crate) leave: watch::Receiver<Leave>,
    /// Rung when a run is wanted.
    pub(crate) bell: Arc<Notify>,
    /// Rung when a run has succeeded.
    pub(crate) followers: Vec<Arc<Notify>>,
    /// Held by the one attendant that this job has at a time.
    pub(crate) alone: Arc<Mutex<()>>,
    /// Held while the job runs, also by somebody who does the same by hand.
    pub(crate) slot: Arc<Mutex<()>>,
}

impl Attendant {
    /// Stays until it is told to leave.
    pub(crate) async fn attend(mut self) {
        let alone = Arc::clone(&self.alone);
        let _alone = tokio::select! {
            guard = alone.lock() => guard,
            () = told_to_leave(&mut self.leave, Leave::WhenDone) => return,
        };
        let mut record = self.take_up().await;
        while *self.leave.borrow() == Leave::Stay {
            let now = self.clock.now();
            let due = self.scheduled.timetable.next(&record, now);
            self.publish(&record, due);
            let wait = match due {
                None => Some(LOOK),
                Some(due) if due.at > now => Some(Duration::try_from(due.at - now).unwrap_or(LOOK).min(LOOK)),
                Some(_) if self.scheduled.job.needs_server() && self.status.borrow().phase != Phase::Ready => Some(LOOK),
                Some(_) => None,
            };
            match (wait, due) {
                (None, Some(due)) => self.run(&mut record, due).await,
                (wait, _) => {
                    let mut status = self.status.subscribe();
                    tokio::select! {
                        () = tokio::time::sleep(wait.unwrap_or(LOOK)) => {}
                        // What is due waits for a server, and for nothing else.
                        () = ready(&mut status), if due.is_some_and(|due| due.at <= now) => {}
                        () = self.bell.notified() => {
                            record.ask_for(self.clock.now());
                            self.keep(&record).await;
                        }
                        () = told_to_leave(&mut self.leave, Leave::WhenDone) => {}
                    }
                }
            }
        }
    }

    async fn run(&mut self, record: &mut JobRecord, due: Due) {
        let slot = Arc::clone(&self.slot);
        let _slot = match slot.try_lock() {
            Ok(free) => free,
            Err(_) => {
                self.say(Severity::Log, "waits, since somebody does the same by hand");
                tokio::select! {
                    free = slot.lock() => free,
                    () = told_to_leave(&mut self.leave, Leave::WhenDone) => return,
                }
            }
        };
        let began = self.clock.now();
        record.begin(due, began);
        self.keep(record).await;
        self.publish(record, None);
        self.say(Severity::Log, &format!("begins, {}", describe(due, began)));
        let (job, deadline) = (Arc::clone(&self.scheduled.job), self.scheduled.deadline);
        let progress: Arc<dyn ProgressSink> = Arc::new(JobTold { told: self.told.clone(), job: job.name().to_owned() });
        let work = AssertUnwindSafe(tokio::time::timeout(deadline, job.run(&progress))).catch_unwind();
        let done = tokio::select! {
            // A stop comes first: what fails since the server is being shut down has not failed.
            biased;
            () = told_to_leave(&mut self.leave, Leave::Now) => None,
            done = work => Some(done),
        };
        let now = self.clock.now();
        let table = &self.scheduled.timetable;
        let (outcome, summary, may_help) = match done {
            None => (Outcome::Cancelled, "it was stopped with its agent".to_owned(), true),
            Some(Ok(Ok(Ok(summary)))) => (Outcome::Success, summary, true),
            Some(Ok(Ok(Err(error)))) => {
                let may_help = !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsafe | ErrorKind::Damaged);
                (Outcome::Failure, in_one_line(&error), may_help)
            }
            Some(Ok(Err(_))) => {
                let error = Error::Deadline { what: "it did not end".to_owned(), after: deadline, remedy: None };
                (Outcome::Failure, error.to_string(), true)
            }
            Some(Err(panic)) => (Outcome::Failure, format!("a defect: {}", message(&*panic)), true),
        };
        record.end(outcome, &summary, now, table, may_help);
        // Remembered first: whoever reads that it is done finds it so.
        self.keep(record).await;
        match outcome {
            Outcome::Success => {
                self.say(Severity::Log, &format!("done in {:.1} s: {summary}", (now - began).as_seconds_f64()));
                self.followers.iter().for_each(|bell| bell.notify_one());
            }
            Outcome::Failure => {
                let again = match self.scheduled.timetable.next(record, now) {
                    Some(due) => format!("next at {}", moment(due.at)),
                    None => "not tried again by itself".to_owned(),
                };
                self.say(Severity::Error, &format!("failed: {summary}; {again}"));
            }
            Outcome::Cancelled | Outcome::Interrupted => self.say(Severity::Log, &summary),
        }
    }

    /// What is remembered of the job, or a new record.
    async fn take_up(&self) -> JobRecord {
        let (own, name) = (self.own.clone(), self.scheduled.job.name().to_owned());
        let read = workers::run(move || JobRecord::read(&own, &name)).await;
        let known = read.unwrap_or_else(|error| {
            self.say(Severity::Warning, &format!("what became of it earlier is not known: {}", in_one_line(&error)));
            None
        });
        let (table, now) = (&self.scheduled.timetable, self.clock.now());
        let mut record = known.clone().unwrap_or_else(|| JobRecord::new(table, now, rand::random()));
        record.take_up(table, now);
        if known.as_ref() != Some(&record) {
            self.keep(&record).await;
        }
        record
    }

    /// A volume that takes no writes does not keep a dump from being made.
    async fn keep(&self, record: &JobRecord) {
        let (own, name, copy) = (self.own.clone(), self.scheduled.job.name().to_owned(), record.clone());
        if let Err(error) = workers::run(move || copy.write(&own, &name)).await {
            self.say(Severity::Warning, &format!("what becomes of it is not remembered: {}", in_one_line(&error)));
        }
    }

    fn publish(&self, record: &JobRecord, due: Option<Due>) {
        let now = JobStatus { record: record.clone(), next_at: due.map(|due| due.at) };
        self.status.send_if_modified(|status| {
            let known = status.jobs.get(self.scheduled.job.name());
            let is_new = known != Some(&now);
            if is_new {
                status.jobs.insert(self.scheduled.job.name().to_owned(), now);
            }
            is_new
        });
    }

    fn say(&self, severity: Severity, text: &str) {
        self.told.say(severity, &format!("{}: {text}", self.scheduled.job.name()));
    }
}

async fn ready(status: &mut watch::Receiver<AgentStatus>) {
    // An agent that is gone tells its attendants to leave.
    let _ = status.wait_for(|status| status.phase == Phase::Ready).await;
}

async fn told_to_leave(leave: &mut watch::Receiver<Leave>, at_least: Leave) {
    // Whoever has dropped the other end wants nobody to stay.
    let _ = leave.wait_for(|told| *told == Leave::Now || (*told != Leave::Stay && at_least != Leave::Now)).await;
}

fn describe(due: Due, now: OffsetDateTime) -> String {
    let late = now - due.at > time::Duration::minutes(1);
    match (due.attempt, late) {
        (1, false) => format!("as planned for {}", moment(due.planned)),
        (1, true) => format!("planned for {} and missed then", moment(due.planned)),
        (attempt, _) => format!("attempt {attempt} of what was planned for {}", moment(due.planned)),
    }
}

fn in_one_line(error: &Error) -> String {
    let causes: String = error.causes().iter().map(|cause| format!(": {cause}")).collect();
    let remedy = error.remedy().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
    format!("{error}{causes}{remedy}")
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

/// What a job tells of its progress: its warnings. Steps would fill a log that is read at night.
#[derive(Debug)]
struct JobTold {
    told: Told,
    job: String,
}

impl ProgressSink for JobTold {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.told.say(Severity::Warning, &format!("{}: {text}", self.job));
        }
    }
}
