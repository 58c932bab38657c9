//! What fails, as far as it is certain, and what news that is to somebody who was told something earlier. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::agent::hooks::event::{ChangedFinding, Event, EventKind, Subject};
use crate::health::{Finding, Status};

/// Something that fails.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failing {
    /// Since when.
    pub(crate) since: OffsetDateTime,
    /// How it was seen; nothing when it was told by an agent before, and has not been seen since.
    pub(crate) seen: Option<Finding>,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) at: OffsetDateTime,
    /// Altogether, as it was seen last.
    pub(crate) status: Status,
    /// What fails for certain, by name.
    pub(crate) failing: BTreeMap<String, Failing>,
    /// What is well, by name.
    pub(crate) well: BTreeMap<String, Finding>,
    /// Whether anybody has looked: what is not failing before that is not known to be well.
    pub(crate) is_seen: bool,
    /// Whether nothing will follow, since the agent ends by itself.
    pub(crate) is_last: bool,
}

impl Condition {
    /// Nothing was seen yet, and so there is no news.
    pub(crate) fn unseen() -> Self {
        Self {
            at: OffsetDateTime::UNIX_EPOCH,
            status: Status::Unknown,
            failing: BTreeMap::new(),
            well: BTreeMap::new(),
            is_seen: false,
            is_last: false,
        }
    }

    /// Whether this could be news to somebody who knows the other one.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let names =
            |condition: &Self| condition.failing.iter().map(|(name, failing)| (name.clone(), failing.seen.is_some())).collect::<Vec<_>>();
        (self.is_seen, self.is_last) != (other.is_seen, other.is_last) || names(self) != names(other)
    }
}

/// What somebody was told to fail, and not yet to be well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) failing: BTreeMap<String, Since>,
}

/// When it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Since {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) since: OffsetDateTime,
}

impl Known {
    /// What is to be told, if anything, and what is known once that was told. Failures come first; what is well again is told
    /// also while something else fails.
    pub(crate) fn news(&self, condition: &Condition, subject: &Subject) -> Option<(Event, Self)> {
        let failing = || condition.failing.keys().cloned().collect();
        let new: Vec<ChangedFinding> = condition
            .failing
            .iter()
            .filter(|(name, _)| !self.failing.contains_key(*name))
            .filter_map(|(_, failing)| Some(ChangedFinding { finding: failing.seen.clone()?, since: failing.since }))
            .collect();
        let mut after = self.clone();
        if !new.is_empty() {
            after.failing.extend(new.iter().map(|changed| (changed.finding.name.clone(), Since { since: changed.since })));
            return Some((Event::new(EventKind::Failure, subject, condition.at, condition.status, new, failing()), after));
        }
        after.failing.retain(|name, _| !condition.is_seen || condition.failing.contains_key(name));
        if after == *self {
            return None;
        }
        let over = self.failing.iter().filter(|(name, _)| !after.failing.contains_key(*name));
        let over = over.map(|(name, Since { since })| ChangedFinding {
            finding: condition.well.get(name).cloned().unwrap_or_else(|| Finding::pass(name, "it fails no more")),
            since: *since,
        });
        Some((Event::new(EventKind::Recovery, subject, condition.at, condition.status, over.collect(), failing()), after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const AT: OffsetDateTime = datetime!(2026-02-08 10:00 UTC);

    fn condition(failing: &[&str]) -> Condition {
        let seen = |name: &&str| Failing { since: AT, seen: Some(Finding::fail(*name, "it fails", "mend it")) };
        let failing = failing.iter().map(|name| ((*name).to_owned(), seen(name))).collect();
        Condition { at: AT, status: Status::Fail, failing, is_seen: true, ..Condition::unseen() }
    }

    /// What is told, with what still fails, and what is known then.
    fn told(known: &Known, condition: &Condition) -> (String, Known) {
        let subject = Subject { cluster: "main".to_owned(), host: "db-0".to_owned() };
        let Some((event, after)) = known.news(condition, &subject) else { return (String::new(), known.clone()) };
        let names: Vec<_> = event.findings.iter().map(|changed| changed.finding.name.as_str()).collect();
        (format!("{} {} of {}", event.event.as_str(), names.join("+"), event.failing.join("+")), after)
    }

    #[test]
    fn each_failure_is_told_once_and_so_is_its_end() {
        let (event, known) = told(&Known::default(), &condition(&["dumps"]));
        assert_eq!(event, "failure dumps of dumps");
        assert_eq!(told(&known, &condition(&["dumps"])).0, "");
        let (event, known) = told(&known, &condition(&["disk", "dumps"]));
        assert_eq!(event, "failure disk of disk+dumps");
        let (event, known) = told(&known, &condition(&["dumps", "server"]));
        assert_eq!(event, "failure server of dumps+server");
        // Failures came first; the condition is the same.
        let (event, known) = told(&known, &condition(&["dumps", "server"]));
        assert_eq!(event, "recovery disk of dumps+server");
        let (event, known) = told(&known, &condition(&[]));
        assert_eq!((event.as_str(), &known), ("recovery dumps+server of ", &Known::default()));
        assert_eq!(told(&known, &condition(&[])).0, "");
    }

    #[test]
    fn what_nobody_has_looked_at_is_not_over() {
        let (_, known) = told(&Known::default(), &condition(&["dumps"]));
        assert_eq!(told(&known, &Condition::unseen()), (String::new(), known.clone()));
        let last = Condition { is_seen: false, is_last: true, ..condition(&["agent"]) };
        let (event, known) = told(&known, &last);
        assert_eq!((event.as_str(), known.failing.len()), ("failure agent of agent", 2));
    }

    #[test]
    fn what_another_agent_told_is_not_told_again_and_not_to_others_before_it_is_seen() {
        let (_, known) = told(&Known::default(), &condition(&["dumps"]));
        let mut unseen = condition(&["dumps"]);
        unseen.failing.get_mut("dumps").unwrap().seen = None;
        assert_eq!(told(&known, &unseen).0, "");
        assert_eq!(told(&Known::default(), &unseen).0, "");
        assert!(unseen.differs(&condition(&["dumps"])) && unseen.differs(&Condition::unseen()));
        assert!(!condition(&["dumps"]).differs(&condition(&["dumps"])));
    }
}
