//! [`Observation`]: something that was found out about a store by trying.

use serde::Serialize;

/// How good that is for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it should be.
    Pass,
    /// It cannot be found out.
    Unknown,
    /// The store can be used, with a weaker promise that the summary tells.
    Warn,
    /// The store is not to be used.
    Fail,
}

/// Something that was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// What was asked, in one word, such as `conditional_put`.
    pub name: &'static str,
    /// How good the answer is.
    pub status: Standing,
    /// The answer, in one line for people.
    pub summary: String,
    /// What to do about it, where something can be done.
    pub remedy: Option<String>,
}

impl Observation {
    /// All is well.
    pub fn pass(name: &'static str, summary: impl Into<String>) -> Self {
        Self { name, status: Standing::Pass, summary: summary.into(), remedy: None }
    }

    /// Nobody knows.
    pub fn unknown(name: &'static str, summary: impl Into<String>) -> Self {
        Self { name, status: Standing::Unknown, summary: summary.into(), remedy: None }
    }

    /// Weaker than it should be.
    pub fn warn(name: &'static str, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Standing::Warn, summary: summary.into(), remedy: Some(remedy.into()) }
    }

    /// Not good enough.
    pub fn fail(name: &'static str, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Standing::Fail, summary: summary.into(), remedy: Some(remedy.into()) }
    }
}
