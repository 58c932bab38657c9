//! What is said on the socket. Fields that are not known are ignored, so that an older command can ask a newer agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::agent::status::{AgentStatus, JobStatus, Phase};
use crate::schedule::record::Run;

/// A question, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Question {
    /// How it is.
    Status,
    /// Shut the server down and end; the connection ends with the agent.
    Stop {
        /// At once: the next start recovers.
        now: bool,
    },
    /// Do not run this job as long as the connection is open.
    Hold { job: String },
}

/// An answer, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// How it is.
    Status(Box<AgentView>),
    /// It ends.
    Stopping,
    /// The job is under way; [`Answer::Held`] follows when it is done.
    Busy,
    /// It is the asker's.
    Held,
    /// This is no question.
    Refused { reason: String },
}

/// How an agent is, for who asks it from another process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentView {
    /// The agent's process, as it is numbered where it runs.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// What it is doing.
    pub phase: Phase,
    /// For how many seconds.
    pub phase_s: f64,
    /// How often the server was started again after it had ended by itself.
    pub restarts: u64,
    /// How far a recovery is; null where there is none. The fields are those of the probes' documents.
    pub recovery: Value,
    /// Why the server ended last, when it did so by itself.
    pub last_failure: Option<String>,
    /// How it stands with each job.
    pub jobs: BTreeMap<String, JobView>,
    /// Where HTTP is answered.
    pub http: Option<String>,
}

/// How it stands with a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobView {
    /// When it is done; none for one that only follows another one.
    pub schedule: Option<String>,
    /// Since when a run is under way.
    #[serde(with = "time::serde::rfc3339::option")]
    pub running_since: Option<OffsetDateTime>,
    /// When it begins next; none while it runs, and for one that only follows another one.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
    /// The last run that has ended.
    pub last: Option<Run>,
    /// When the last run that succeeded began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success_at: Option<OffsetDateTime>,
    /// How many runs in a row have failed since.
    pub failures: u32,
}

impl JobView {
    fn of(JobStatus { record, next_at }: &JobStatus) -> Self {
        Self {
            schedule: record.schedule.clone(),
            running_since: record.begun.map(|begun| begun.started_at),
            next_at: *next_at,
            last: record.last.clone(),
            last_success_at: record.last_success_at,
            failures: record.failures,
        }
    }
}

impl AgentView {
    /// The same of an agent of this process, without asking.
    pub fn of(status: &AgentStatus) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: status.phase,
            phase_s: status.since.elapsed().as_millis() as f64 / 1000.0,
            restarts: status.restarts,
            recovery: serde_json::to_value(status.recovery).unwrap_or_default(),
            last_failure: status.last_failure.clone(),
            jobs: status.jobs.iter().map(|(job, status)| (job.clone(), JobView::of(status))).collect(),
            http: status.http.map(|address| address.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for (question, line) in [
            (Question::Status, r#"{"ask":"status"}"#),
            (Question::Stop { now: true }, r#"{"ask":"stop","now":true}"#),
            (Question::Hold { job: "dump".into() }, r#"{"ask":"hold","job":"dump"}"#),
        ] {
            assert_eq!(serde_json::to_string(&question).unwrap(), line);
            assert_eq!(serde_json::from_str::<Question>(line).unwrap(), question);
        }
        let view = Answer::Status(Box::new(AgentView::of(&AgentStatus::new())));
        assert_eq!(serde_json::from_str::<Answer>(&serde_json::to_string(&view).unwrap()).unwrap(), view);
    }

    #[test]
    fn a_newer_agent_is_understood() {
        let mut view = serde_json::to_value(Answer::Status(Box::new(AgentView::of(&AgentStatus::new())))).unwrap();
        view["more"] = true.into();
        assert!(matches!(serde_json::from_value(view).unwrap(), Answer::Status(_)));
    }
}
