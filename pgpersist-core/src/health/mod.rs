//! Is everything well? Questions with a bounded answer time: the trait [`HealthCheck`] with its contract, and what it answers.
//!
//! Checks only look. They take no lock and change nothing, so they may run at any moment, as often as somebody likes, and
//! beside everything else.

pub mod checks;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod render;
pub mod report;
pub mod space;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How long a check may take that says nothing else.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// One question about a cluster.
///
/// # Contract for implementors
/// The suite in `health/conformance.rs` (feature `testing`) asks for it.
///
/// - **It never fails.** What keeps it from knowing is its finding: [`Status::Unknown`], with the reason.
/// - **It ends.** It answers within its deadline. One that does not is dropped at its next `await` and reported as unknown,
///   so it keeps nothing half-done across an `await`. What may block a thread goes through [`workers::run`](crate::workers::run).
/// - **It only looks.** It may be asked at any time, by several at once, and repeated freely: it changes nothing that another
///   question, or the next answer, depends on.
/// - **It does not panic.** A panic is caught and reported as unknown.
/// - **Its name** is not empty and never changes; a finding bears the name of its check. Names are `word` or `word:object`.
/// - **A warning or failure names the next step**, in [`Finding::remedy`].
#[async_trait]
pub trait HealthCheck: Debug + Send + Sync + 'static {
    /// The name of its finding, unique in a report.
    fn name(&self) -> &str;

    /// Looks, and says what it saw.
    async fn check(&self) -> Finding;

    /// How long it may take.
    fn deadline(&self) -> Duration {
        DEFAULT_DEADLINE
    }
}

/// How it stands with one thing, or with all of them. In the order of what is worse: not knowing is worse than a warning,
/// since it may hide a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is well.
    Pass,
    /// It works, and somebody should look at it.
    Warn,
    /// It could not be found out.
    Unknown,
    /// It is broken, or data is in danger.
    Fail,
}

impl Status {
    /// The word that JSON documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        }
    }
}

/// The answer of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the check.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What was seen, in one line for people. May hold names as they are, so whoever prints it escapes control characters.
    pub summary: String,
    /// What was seen, for programs: sizes in bytes, durations in seconds, each with its unit in its name. Fields may be added.
    pub observed: Map<String, Value>,
    /// The next step, where there is one.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn pass(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Pass, summary: summary.into(), observed: Map::new(), remedy: None }
    }

    /// It works, and somebody should look at it.
    pub fn warn(name: impl Into<String>, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Warn, remedy: Some(remedy.into()), ..Self::pass(name, summary) }
    }

    /// It is broken.
    pub fn fail(name: impl Into<String>, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Fail, remedy: Some(remedy.into()), ..Self::pass(name, summary) }
    }

    /// It could not be found out; the summary says why.
    pub fn unknown(name: impl Into<String>, summary: impl Into<String>, remedy: Option<String>) -> Self {
        Self { status: Status::Unknown, remedy, ..Self::pass(name, summary) }
    }

    /// Adds something that was seen; the unit is part of the key, as in `free_bytes`.
    #[must_use]
    pub fn observing(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.observed.insert(key.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_knowing_is_worse_than_a_warning_and_better_than_a_failure() {
        assert!(Status::Pass < Status::Warn && Status::Warn < Status::Unknown && Status::Unknown < Status::Fail);
    }
}
