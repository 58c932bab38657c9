//! What a hook is told: a document.

use serde::Serialize;
use time::OffsetDateTime;

use crate::health::{Finding, Status};

/// A line that a pager shows; the findings have all of it.
const LONGEST_SUMMARY: usize = 1000;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Something fails that did not fail before.
    Failure,
    /// What failed is well again.
    Recovery,
}

impl EventKind {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
        }
    }
}

/// A finding that changed, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangedFinding {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// When it began to fail, also in a recovery.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// What a hook is told. Fields may be added.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// What has happened.
    pub event: EventKind,
    /// The cluster's name in the stores.
    pub cluster: String,
    /// The name of this machine; of a pod, its own.
    pub host: String,
    /// When it was seen.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How it stands altogether, as it was seen last.
    pub status: Status,
    /// All of it in one line for people, without control characters.
    pub summary: String,
    /// The same line, under the name by which Slack, Mattermost and others take a message.
    pub text: String,
    /// In a failure what fails now and was not told before, in a recovery what is well again.
    pub findings: Vec<ChangedFinding>,
    /// The names of all that fails now; empty when a recovery leaves nothing.
    pub failing: Vec<String>,
}

/// Of whom it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) cluster: String,
    pub(crate) host: String,
}

impl Subject {
    /// This cluster on this machine.
    pub(crate) fn here(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), host: rustix::system::uname().nodename().to_string_lossy().into_owned() }
    }
}

impl Event {
    pub(crate) fn new(
        event: EventKind,
        subject: &Subject,
        at: OffsetDateTime,
        status: Status,
        findings: Vec<ChangedFinding>,
        failing: Vec<String>,
    ) -> Self {
        let Subject { cluster, host } = subject.clone();
        let (what, still) = match event {
            EventKind::Failure => ("fails", String::new()),
            EventKind::Recovery if failing.is_empty() => ("is well again", String::new()),
            EventKind::Recovery => ("is better", format!("; still failing: {}", failing.join(", "))),
        };
        let first = findings.first().map(|changed| format!(": {}: {}", changed.finding.name, changed.finding.summary)).unwrap_or_default();
        let more = match findings.len() {
            0 | 1 => String::new(),
            more => format!(", and {} more", more - 1),
        };
        let summary: String = format!("{cluster} on {host} {what}{first}{more}{still}");
        let summary: String = summary.chars().take(LONGEST_SUMMARY).map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
        Self { event, cluster, host, at, status, text: summary.clone(), summary, findings, failing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_document_has_its_fields_in_order_and_one_line_for_people() {
        let since = datetime!(2026-02-08 10:00 UTC);
        let changed = |name: &str| ChangedFinding { finding: Finding::fail(name, "two\nlines", "mend it").observing("age_s", 7), since };
        let subject = Subject { cluster: "main".to_owned(), host: "db-0".to_owned() };
        let event = Event::new(
            EventKind::Failure,
            &subject,
            since,
            Status::Fail,
            vec![changed("dumps"), changed("disk")],
            vec!["dumps".to_owned()],
        );
        let document = serde_json::to_value(&event).unwrap();
        let names: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["event", "cluster", "host", "at", "status", "summary", "text", "findings", "failing"]);
        assert_eq!(
            (&document["event"], &document["status"], &document["at"]),
            (&"failure".into(), &"fail".into(), &"2026-02-08T10:00:00Z".into())
        );
        assert_eq!(document["summary"], "main on db-0 fails: dumps: two lines, and 1 more");
        let recovery = |failing: &[&str]| {
            let failing = failing.iter().map(|name| (*name).to_owned()).collect();
            Event::new(EventKind::Recovery, &subject, since, Status::Pass, vec![changed("disk")], failing).summary
        };
        assert_eq!(recovery(&[]), "main on db-0 is well again: disk: two lines");
        assert_eq!(recovery(&["dumps", "x"]), "main on db-0 is better: disk: two lines; still failing: dumps, x");
        let names: Vec<_> = document["findings"][0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["name", "status", "summary", "observed", "remedy", "since"]);
    }
}
