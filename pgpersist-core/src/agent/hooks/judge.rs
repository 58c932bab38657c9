//! Decides from one look after the other what fails for certain. Pure: looks and times come in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::agent::hooks::condition::{Condition, Failing, Known, Since};
use crate::health::report::Report;
use crate::health::{Finding, Status};

/// So often in a row something is seen to fail, or to be well, before it counts: one look may meet a moment.
const LOOKS: u32 = 2;
/// What nobody could find out for so long counts as failing.
const UNKNOWN_FOR: Duration = Duration::from_secs(5 * 60);
/// Findings that are no moment but what became of a job after all its attempts count at once.
const AT_ONCE: &str = "schedule:";
/// The finding of a report that could not be made.
pub(crate) const NO_REPORT: &str = "health";
/// The finding of the server.
const SERVER: &str = "server";
/// The finding of an agent that ends by itself.
const AGENT: &str = "agent";

#[derive(Debug)]
struct Track {
    fails: bool,
    since: OffsetDateTime,
    /// How it was seen when it was not well.
    ill: Option<Finding>,
    /// How it was seen last.
    last: Option<Finding>,
    failed: u32,
    well: u32,
    unknown_since: Option<Instant>,
}

impl Track {
    fn new(since: OffsetDateTime, fails: bool) -> Self {
        Self { fails, since, ill: None, last: None, failed: 0, well: 0, unknown_since: None }
    }

    fn see(&mut self, finding: &Finding, at: OffsetDateTime, now: Instant) {
        let is_ill = finding.status > Status::Warn;
        if is_ill {
            if !self.fails && self.failed == 0 && self.unknown_since.is_none() {
                self.since = at;
            }
            self.well = 0;
            self.ill = Some(finding.clone());
        }
        match finding.status {
            Status::Warn if self.fails && is_tried_again(finding) => {}
            Status::Pass | Status::Warn => self.see_well(),
            Status::Unknown => {
                self.failed = 0;
                self.fails |= now.duration_since(*self.unknown_since.get_or_insert(now)) >= UNKNOWN_FOR;
            }
            Status::Fail => {
                self.unknown_since = None;
                self.failed += 1;
                self.fails |= self.failed >= LOOKS || finding.name.starts_with(AT_ONCE);
            }
        }
        self.last = Some(finding.clone());
    }

    fn see_well(&mut self) {
        (self.failed, self.unknown_since) = (0, None);
        self.well += 1;
        self.fails &= self.well < LOOKS;
    }

    fn is_undecided(&self) -> bool {
        if self.fails { self.well > 0 } else { self.failed > 0 }
    }
}

/// A job that failed is not well before it has succeeded: while it is tried again, health only warns.
fn is_tried_again(finding: &Finding) -> bool {
    let failures = finding.observed.get("failures").and_then(serde_json::Value::as_u64);
    finding.name.starts_with(AT_ONCE) && failures.is_some_and(|failures| failures > 0)
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Judge {
    tracks: BTreeMap<String, Track>,
    at: OffsetDateTime,
    status: Status,
}

impl Judge {
    /// Takes for failing what was told to fail, until it is seen to be well.
    pub(crate) fn remembering<'a>(told: impl IntoIterator<Item = &'a Known>) -> Self {
        let failing = told.into_iter().flat_map(|known| &known.failing);
        let tracks = failing.map(|(name, Since { since })| (name.clone(), Track::new(*since, true))).collect();
        Self { tracks, at: OffsetDateTime::UNIX_EPOCH, status: Status::Unknown }
    }

    /// Takes in what a look has found.
    pub(crate) fn look(&mut self, report: &Report, now: Instant) {
        (self.at, self.status) = (report.time, report.status);
        for finding in &report.findings {
            self.tracks.entry(finding.name.clone()).or_insert_with(|| Track::new(report.time, false)).see(finding, report.time, now);
        }
        // A report that could not be made says nothing of the others.
        if report.finding(NO_REPORT).is_some() {
            return;
        }
        for (_, track) in self.tracks.iter_mut().filter(|(name, _)| report.finding(name).is_none()) {
            track.see_well();
            track.last = None;
        }
        self.tracks.retain(|_, track| track.fails || track.last.is_some());
    }

    /// The server has ended by itself: that is certain at once.
    pub(crate) fn server_ended(&mut self, why: &str, at: OffsetDateTime) {
        let finding =
            Finding::fail(SERVER, format!("the server has ended by itself: {why}"), "look at its log, and whether it stays up now");
        self.fails_now(finding, at);
    }

    /// The agent ends by itself.
    pub(crate) fn agent_ends(&mut self, why: &str, remedy: Option<String>, at: OffsetDateTime) {
        let remedy = remedy.unwrap_or_else(|| "look at the log of `pgpersist run`".to_owned());
        self.fails_now(Finding::fail(AGENT, format!("`pgpersist run` ends: {why}"), remedy), at);
    }

    fn fails_now(&mut self, finding: Finding, at: OffsetDateTime) {
        (self.at, self.status) = (at, Status::Fail);
        let track = self.tracks.entry(finding.name.clone()).or_insert_with(|| Track::new(at, false));
        if !track.fails {
            track.since = at;
        }
        (track.fails, track.well) = (true, 0);
        (track.ill, track.last) = (Some(finding.clone()), Some(finding));
    }

    /// Whether the next look may change something, and so should not be long.
    pub(crate) fn is_undecided(&self) -> bool {
        self.tracks.values().any(Track::is_undecided)
    }

    /// What is certain.
    pub(crate) fn condition(&self) -> Condition {
        let failing = self.tracks.iter().filter(|(_, track)| track.fails);
        let well = self.tracks.iter().filter(|(_, track)| !track.fails);
        Condition {
            at: self.at,
            status: self.status,
            failing: failing.map(|(name, track)| (name.clone(), Failing { since: track.since, seen: track.ill.clone() })).collect(),
            well: well.filter_map(|(name, track)| Some((name.clone(), track.last.clone()?))).collect(),
            is_seen: true,
            is_last: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const AT: OffsetDateTime = datetime!(2026-02-08 10:00 UTC);

    fn report(findings: &[(&str, Status)]) -> Report {
        let finding = |(name, status): &(&str, Status)| Finding { status: *status, ..Finding::pass(*name, "seen") };
        Report::new(AT, findings.iter().map(finding).collect())
    }

    fn failing(judge: &Judge) -> Vec<String> {
        judge.condition().failing.into_keys().collect()
    }

    #[test]
    fn a_moment_is_no_failure_and_no_recovery() {
        let mut judge = Judge::remembering([]);
        let now = Instant::now();
        for status in [Status::Fail, Status::Pass, Status::Fail, Status::Warn] {
            judge.look(&report(&[("server", status)]), now);
            assert_eq!((failing(&judge), judge.is_undecided()), (vec![], status == Status::Fail));
        }
        judge.look(&report(&[("server", Status::Fail)]), now);
        judge.look(&report(&[("server", Status::Fail)]), now);
        assert_eq!((failing(&judge), judge.is_undecided()), (vec!["server".to_owned()], false));
        judge.look(&report(&[("server", Status::Pass)]), now);
        assert_eq!((failing(&judge), judge.is_undecided()), (vec!["server".to_owned()], true));
        judge.look(&report(&[("server", Status::Warn)]), now);
        assert_eq!((failing(&judge), judge.is_undecided(), judge.condition().status), (vec![], false, Status::Warn));
    }

    #[test]
    fn a_job_and_the_servers_end_count_at_once() {
        let mut judge = Judge::remembering([]);
        judge.look(&report(&[("schedule:dump", Status::Fail)]), Instant::now());
        judge.server_ended("killed", AT);
        judge.server_ended("killed", AT);
        assert_eq!(failing(&judge), ["schedule:dump", "server"]);
        assert_eq!(judge.condition().status, Status::Fail);
        assert!(judge.condition().failing["server"].seen.as_ref().unwrap().summary.ends_with(": killed"));
    }

    #[test]
    fn a_job_that_is_tried_again_is_not_well_yet() {
        let mut judge = Judge::remembering([]);
        for (status, failures, expected) in [
            // Tried again before it counted.
            (Status::Warn, 1, false),
            (Status::Fail, 4, true),
            (Status::Warn, 4, true),
            (Status::Warn, 5, true),
            (Status::Warn, 5, true),
            (Status::Pass, 0, true),
            (Status::Pass, 0, false),
        ] {
            let finding = Finding { status, ..Finding::pass("schedule:dump", "seen") }.observing("failures", failures);
            judge.look(&Report::new(AT, vec![finding]), Instant::now());
            assert_eq!(!failing(&judge).is_empty(), expected, "{status:?}, {failures} failures");
        }
    }

    #[test]
    fn not_knowing_is_a_failure_when_it_lasts() {
        let (mut judge, began) = (Judge::remembering([]), Instant::now());
        for minutes in 0..5 {
            judge.look(&report(&[("connection", Status::Unknown)]), began + Duration::from_secs(60 * minutes));
            assert!(failing(&judge).is_empty());
        }
        judge.look(&report(&[("connection", Status::Unknown)]), began + UNKNOWN_FOR);
        assert_eq!(failing(&judge), ["connection"]);
    }

    #[test]
    fn what_was_told_fails_until_it_is_seen_to_be_well_or_is_gone() {
        let known = Known { failing: ["agent", "dumps"].map(|name| (name.to_owned(), Since { since: AT })).into() };
        let mut judge = Judge::remembering([&known]);
        assert_eq!(failing(&judge), ["agent", "dumps"]);
        assert!(judge.condition().failing["dumps"].seen.is_none());
        judge.look(&report(&[("dumps", Status::Pass)]), Instant::now());
        // A report that could not be made says nothing.
        judge.look(&report(&[(NO_REPORT, Status::Unknown)]), Instant::now());
        assert_eq!(failing(&judge), ["agent", "dumps"]);
        judge.look(&report(&[("dumps", Status::Pass)]), Instant::now());
        assert!(failing(&judge).is_empty());
        assert_eq!(judge.condition().well.into_keys().collect::<Vec<_>>(), ["dumps"]);
    }
}
