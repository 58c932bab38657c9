//! [`CheckReport`]: what was found out about a store.

use serde::Serialize;

use crate::store::observation::{Observation, Standing};

/// Whether the store is good for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fitness {
    /// It keeps every promise.
    Good,
    /// It can be used, with weaker promises that the observations tell.
    Weak,
    /// It is not to be used.
    Unfit,
}

/// What was found out. As JSON it is what `store check` reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// The store, for people.
    pub store: String,
    /// Whether it is good for us.
    pub fitness: Fitness,
    /// One line for each thing that was asked, in a fixed order.
    pub findings: Vec<Observation>,
    /// How long small requests take.
    pub latency_s: Latency,
    /// How fast bytes move; none where that was not asked for.
    pub throughput: Option<Throughput>,
}

/// The median of some requests, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Of putting an object of 1 KiB.
    pub put: f64,
    /// Of reading it.
    pub get: f64,
    /// Of asking for its size.
    pub head: f64,
    /// Of listing it.
    pub list: f64,
}

/// How fast bytes move, as an upload and as a download of one object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Throughput {
    /// The object's size.
    pub bytes: u64,
    /// Into the store.
    pub put_bytes_per_second: f64,
    /// Out of it.
    pub get_bytes_per_second: f64,
}

impl CheckReport {
    pub(super) fn judge(findings: &[Observation]) -> Fitness {
        match findings.iter().map(|finding| finding.status).max() {
            Some(Standing::Fail) => Fitness::Unfit,
            Some(Standing::Warn) => Fitness::Weak,
            _ => Fitness::Good,
        }
    }
}
