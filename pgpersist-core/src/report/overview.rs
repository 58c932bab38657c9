//! [`Overview`]: everything that the page tells, as plain values.

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::health::Status;
use crate::health::report::Report;
use crate::report::advice::Advice;
use crate::report::drills::DrillFacts;
use crate::report::storage::{PlaceFacts, Survival};
use crate::retention::Retention;
use crate::schedule::record::Outcome;

/// How it stands with a cluster's persistence. Serialised, it is the document of `pgpersist report --json`. What is not known is
/// empty or null, and [`gaps`](Self::gaps) says why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// When it was looked.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The version of pgpersist that looked.
    pub program_version: String,
    /// The machine, pod or container where it looked.
    pub host: Option<String>,
    /// The cluster.
    pub cluster: ClusterFacts,
    /// The worst of all findings.
    pub status: Status,
    /// What the health checks found.
    pub health: Report,
    /// Every place that the cluster depends on.
    pub storage: Vec<PlaceFacts>,
    /// In how many boots of the machine the volume was seen.
    pub survival: Option<Survival>,
    /// The databases of the server, those that are configured, and those that have dumps, in order of their names.
    pub databases: Vec<DatabaseFacts>,
    /// The stores, the primary one first. Dumps are those of the primary one.
    pub stores: Vec<String>,
    /// The dumps, newest first.
    pub dumps: Vec<DumpFacts>,
    /// What is kept for how long.
    pub retention: RetentionFacts,
    /// The newest drills of each kind, newest first.
    pub drills: Vec<DrillFacts>,
    /// What `pgpersist run` does at its times.
    pub schedules: Vec<ScheduleFacts>,
    /// The settings of the server on which durability hangs.
    pub settings: Map<String, Value>,
    /// What to do next: first what mends a finding, then what would make things safer.
    pub recommendations: Vec<Advice>,
    /// What could not be found out.
    pub gaps: Vec<Gap>,
}

/// Which cluster it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterFacts {
    /// Its name in the stores.
    pub name: String,
    /// Its data directory.
    pub data_directory: String,
    /// The folder of our own files.
    pub own_folder: String,
    /// The system identifier, as text.
    pub system_identifier: Option<String>,
    /// The server's version.
    pub version: Option<String>,
    /// What the server is doing, as `pgpersist status` tells it.
    pub state: Option<String>,
    /// Why, where the state alone does not say it.
    pub detail: Option<String>,
    /// The server's port.
    pub port: Option<u16>,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Whether the server has it; null when the server could not be asked.
    pub present: Option<bool>,
    /// Its size; null when it is not known.
    pub size_bytes: Option<u64>,
    /// How many dumps there are of it.
    pub dumps: usize,
    /// When the newest dump that is not known to be damaged was made.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_dump_at: Option<OffsetDateTime>,
    /// When a restore of it was proven last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub proven_at: Option<OffsetDateTime>,
}

/// One dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DumpFacts {
    /// Its name in the store.
    pub name: String,
    /// The database; null when nothing tells.
    pub database: Option<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub taken_at: OffsetDateTime,
    /// Its size in the store.
    pub size_bytes: u64,
    /// `complete`, `unknown` (it has no side file) or `damaged`.
    pub state: &'static str,
    /// What is damaged.
    pub reason: Option<String>,
    /// How many rows its side file tells.
    pub rows: Option<u64>,
}

/// What is kept for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetentionFacts {
    /// The rules.
    pub rules: Retention,
    /// The same in words, one rule each; empty where nothing is ever dropped.
    pub meaning: Vec<String>,
    /// What `pgpersist prune` would drop now; null when that is not known.
    pub next: Option<NextPrune>,
}

/// What pruning would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextPrune {
    /// What would go, the oldest first.
    pub dropped: Vec<String>,
    /// How much that would free.
    pub freed_bytes: u64,
}

/// One job of `pgpersist run`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScheduleFacts {
    /// The job.
    pub job: String,
    /// Its schedule; null for one that follows another.
    pub schedule: Option<String>,
    /// Whether it is under way.
    pub running: bool,
    /// How often it has failed in a row.
    pub failures: u32,
    /// When it ran last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_at: Option<OffsetDateTime>,
    /// How that ended.
    pub last_outcome: Option<Outcome>,
    /// How long it took, in seconds.
    pub last_duration_s: Option<f64>,
    /// What it did, or why it failed.
    pub last_summary: Option<String>,
    /// When it begins next.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
}

/// Something that could not be found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Which part of the overview: the name of its field.
    pub part: &'static str,
    /// Why it is not known.
    pub reason: String,
    /// The next step, where one is known.
    pub remedy: Option<String>,
}

impl Overview {
    /// Why this part is not known, where it is not.
    pub fn gap(&self, part: &str) -> Option<&Gap> {
        self.gaps.iter().find(|gap| gap.part == part)
    }

    /// The newest drill of this kind: `crash` or `restore`.
    pub fn last_drill(&self, kind: &str) -> Option<&DrillFacts> {
        self.drills.iter().find(|drill| drill.kind == kind)
    }
}
