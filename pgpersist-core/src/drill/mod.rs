//! Drills do the real thing to prove it: kill a server under load and count what it still knows; load the dumps and count
//! what comes back.

use serde::{Deserialize, Serialize};

pub mod books;
pub mod checks;
pub(crate) mod copy;
pub mod crash;
pub mod dice;
pub mod ground;
pub mod history;
pub mod invariants;
pub mod judge;
pub mod kill;
pub mod ledger;
pub mod planted;
pub mod report;
pub mod restore;
pub(crate) mod restore_ground;
pub mod restore_report;
pub(crate) mod row_counts;
pub mod subjects;
pub mod writers;

/// What a drill concludes. There is no third word: what could not be looked at is told as such, and what was lost fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything acknowledged is there, whole, and every check that could be made found nothing.
    Pass,
    /// Something acknowledged is missing, torn or damaged, or a setting gives it up beforehand.
    Fail,
}

impl Verdict {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// What one look at the recovered cluster, or at a restored database, found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It looked and found nothing wrong.
    Pass,
    /// It found something wrong.
    Fail,
    /// It could not look: a program or extension is missing, or the cluster may not be stopped. Never counts as passed.
    Unknown,
}

impl CheckStatus {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// Which processes of the server get the SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillKind {
    /// The postmaster alone; its backends notice and end.
    Postmaster,
    /// The backend of one writer, while it is in a transaction; the postmaster restarts all others and recovers.
    Backend,
    /// The postmaster and all of its descendants at once: what the out-of-memory killer or the end of a container does.
    Group,
}

impl KillKind {
    /// The word that the command line and documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Backend => "backend",
            Self::Group => "group",
        }
    }
}

/// A fault that is put in on purpose, so that anyone can see the drill fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// The rows of one acknowledged transaction are deleted after the recovery.
    DeletedRow,
    /// The WAL since the last checkpoint is cut in its middle before the recovery.
    TruncatedWal,
    /// One half of an acknowledged transaction is undone after the recovery.
    HalfTransaction,
    /// The writers commit without waiting for the WAL, and the whole group is killed.
    SynchronousCommitOff,
}

impl Plant {
    /// The word that the command line and documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeletedRow => "deleted-row",
            Self::TruncatedWal => "truncated-wal",
            Self::HalfTransaction => "half-transaction",
            Self::SynchronousCommitOff => "synchronous-commit-off",
        }
    }
}
