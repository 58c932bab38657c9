//! What an agent knows at any moment, for whoever asks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::schedule::record::JobRecord;
use crate::server::recovery::RecoveryProgress;

/// How often the loop says that it turns.
const BEAT: Duration = Duration::from_secs(2);

/// What the agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

impl Phase {
    /// All there are, in the order in which they come.
    pub const ALL: [Self; 7] =
        [Self::Preparing, Self::Starting, Self::Recovering, Self::Ready, Self::Waiting, Self::Stopping, Self::Fenced];

    /// The word that JSON documents and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Recovering => "recovering",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Fenced => "fenced",
        }
    }
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
    /// Whether a server has been ready in this agent's life, or is kept down on purpose.
    pub has_started: bool,
    /// When the agent's loop has turned last. It turns every few seconds, also while it waits for something.
    #[serde(skip)]
    pub beat: Instant,
    /// What was told by each hook, and the heartbeat.
    pub hooks: BTreeMap<String, HookStatus>,
    /// Where HTTP is answered.
    pub http: Option<SocketAddr>,
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

/// How often a hook was told something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HookStatus {
    /// So often with success.
    pub successes: u64,
    /// So often it failed, or did not end in time.
    pub failures: u64,
}

impl HookStatus {
    pub(crate) fn count(&mut self, is_success: bool) {
        if is_success { self.successes += 1 } else { self.failures += 1 }
    }
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
            has_started: false,
            beat: Instant::now(),
            hooks: BTreeMap::new(),
            http: None,
        }
    }
}

/// Says every now and then that the loop turns, without waking those who wait for news.
pub(crate) async fn beat(status: watch::Sender<AgentStatus>) -> Infallible {
    loop {
        status.send_if_modified(|status| {
            status.beat = Instant::now();
            false
        });
        tokio::time::sleep(BEAT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_has_one_word_everywhere() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
    }
}
