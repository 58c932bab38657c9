//! [`SyncReport`]: what was brought to each store, and what is still missing there.

use serde::{Serialize, Serializer};

use crate::error::{Error, ErrorKind};
use crate::logical::sync::plan::{Left, SyncPlan};
use crate::logical::verify::told;

/// What became of all copies. As JSON it is what `sync` reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SyncReport {
    /// The stores that receive copies, in their order.
    pub stores: Vec<StoreSync>,
}

/// What became of one copy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreSync {
    /// Its place among the stores; the primary has 1.
    pub place: usize,
    /// What it is called.
    pub store: String,
    /// How many dumps, those of roles included, were copied.
    pub copied: u64,
    /// How many bytes that were.
    pub bytes: u64,
    /// How many dumps of databases are still missing there; nothing where that is not known.
    pub behind: Option<u64>,
    /// By how many seconds the newest dump there is older than the newest one in the primary store; nothing where that is not
    /// known, or there is none there.
    pub behind_s: Option<f64>,
    /// What lies there under the same name and is something else.
    pub conflicts: Vec<Left>,
    /// What is damaged in the primary store, and was not copied.
    pub damaged: Vec<Left>,
    /// What kept the rest from being copied.
    #[serde(flatten)]
    pub error: StoreError,
}

/// What would be done with one copy. As JSON it is what `sync --dry-run` tells of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorePlan {
    /// Its place among the stores; the primary has 1.
    pub place: usize,
    /// What it is called.
    pub store: String,
    /// What would be copied and what left; nothing where that cannot be known.
    #[serde(flatten)]
    pub plan: Option<SyncPlan>,
    /// Why it cannot be known.
    #[serde(flatten)]
    pub error: StoreError,
}

/// An error of one store among several.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StoreError {
    /// The error and its causes.
    pub error: Option<String>,
    /// What it means.
    #[serde(serialize_with = "kind_word")]
    pub kind: Option<ErrorKind>,
    /// The next step.
    pub remedy: Option<String>,
}

fn kind_word<S: Serializer>(kind: &Option<ErrorKind>, serializer: S) -> Result<S::Ok, S::Error> {
    kind.map(ErrorKind::as_str).serialize(serializer)
}

impl From<&Error> for StoreError {
    fn from(error: &Error) -> Self {
        Self { error: Some(told(error)), kind: Some(error.kind()), remedy: error.remedy() }
    }
}

impl SyncReport {
    /// The worst that happened, where anything is left to do: damage before a store that failed, that before a conflict.
    pub fn trouble(&self) -> Option<ErrorKind> {
        if self.stores.iter().any(|store| !store.damaged.is_empty()) {
            return Some(ErrorKind::Damaged);
        }
        let failed = self.stores.iter().find_map(|store| store.error.kind);
        failed.or_else(|| self.stores.iter().any(|store| !store.conflicts.is_empty()).then_some(ErrorKind::Conflict))
    }

    /// What is to be said about it, one line each; nothing where all is well.
    pub fn troubles(&self) -> Vec<String> {
        self.stores.iter().flat_map(StoreSync::troubles).collect()
    }
}

impl StoreSync {
    /// What is to be said about this store, one line each.
    pub fn troubles(&self) -> Vec<String> {
        let behind = match self.behind {
            Some(0) | None => String::new(),
            Some(1) => ", and 1 dump is missing there".to_owned(),
            Some(number) => format!(", and {number} dumps are missing there"),
        };
        let mut troubles: Vec<String> =
            self.error.error.iter().map(|error| format!("the copy in {} is not up to date{behind}: {error}", self.store)).collect();
        let tell = |left: &Left, what: &str| format!("{} was not copied to {}: {what}{}", left.name, self.store, left.reason);
        troubles.extend(self.conflicts.iter().map(|left| tell(left, "")));
        troubles.extend(self.damaged.iter().map(|left| tell(left, "it is damaged in the primary store: ")));
        troubles
    }
}
