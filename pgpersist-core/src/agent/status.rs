//! What an agent knows at any moment, for whoever asks.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use time::OffsetDateTime;

use crate::schedule::record::JobRecord;
use crate::server::recovery::RecoveryProgress;

/// What the agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Makes the data directory ready.
    Preparing,
    /// The server is on its way up.
    Starting,
    /// The server replays its log.
    Recovering,
    /// The server accepts connections.
    Ready,
    /// The server has ended by itself and is to be started again.
    Waiting,
    /// The server is being shut down.
    Stopping,
    /// The server is down until somebody takes the fence away.
    Fenced,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentStatus {
    /// What the agent is doing.
    pub phase: Phase,
    /// Since when.
    #[serde(skip)]
    pub since: Instant,
    /// The postmaster's process id, while there is one.
    pub pid: Option<i32>,
    /// How often the server was started again after it had ended by itself.
    pub restarts: u64,
    /// How far a recovery is.
    pub recovery: Option<RecoveryProgress>,
    /// Why the server ended last, when it did so by itself.
    pub last_failure: Option<String>,
    /// How it stands with each job.
    pub jobs: BTreeMap<String, JobStatus>,
}

/// How it stands with a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobStatus {
    /// What is remembered of it.
    pub record: JobRecord,
    /// When it begins next; none while it runs, and for one that only follows another one.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
}

impl AgentStatus {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Preparing,
            since: Instant::now(),
            pid: None,
            restarts: 0,
            recovery: None,
            last_failure: None,
            jobs: BTreeMap::new(),
        }
    }
}
