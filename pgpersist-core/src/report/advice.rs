//! What to do next: what mends the findings, and what would make things safer. From the overview alone.

use serde::Serialize;

use crate::health::Status;
use crate::health::render::text::label;
use crate::report::overview::Overview;
use crate::schedule;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What it is about: the name of a finding, or a word.
    pub about: String,
    /// How bad it is as it stands; `pass` where nothing is wrong and it could still be better.
    pub status: Status,
    /// What to do; commands stand between backticks.
    pub advice: String,
}

impl Advice {
    /// What nobody has found wrong.
    fn better(about: &str, advice: &str) -> Self {
        Self { about: about.to_owned(), status: Status::Pass, advice: advice.to_owned() }
    }
}

/// All advice, the most urgent first. What two findings ask for is told once.
pub fn advise(overview: &Overview) -> Vec<Advice> {
    let mut findings: Vec<_> = overview.health.findings.iter().filter(|finding| finding.status != Status::Pass).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.status));
    let mut all: Vec<Advice> = Vec::new();
    for finding in findings {
        let Some(remedy) = finding.remedy.clone().filter(|remedy| !remedy.is_empty()) else { continue };
        if !all.iter().any(|known| known.advice == remedy) {
            all.push(Advice { about: label(&finding.name), status: finding.status, advice: remedy });
        }
    }
    all.extend(improvements(overview));
    all
}

fn improvements(overview: &Overview) -> Vec<Advice> {
    // Without a store there is a finding that says what comes first.
    if overview.stores.is_empty() {
        return Vec::new();
    }
    let has = |job: &str| overview.schedules.iter().any(|schedule| schedule.job == job);
    let mut better = Vec::new();
    if !has(schedule::DUMP) {
        better.push(Advice::better(
            "Backups",
            "dumps are made only when somebody asks: set `schedule = \"0 2 * * *\"` in `[dump]` and let `pgpersist run` supervise the server, or run `pgpersist dump` from cron",
        ));
    }
    if overview.retention.rules.is_empty() {
        better.push(Advice::better(
            "Retention",
            "nothing is ever dropped, so the store grows until it is full: set `keep_days = 14` in `[retention]`, and see with `pgpersist prune --dry-run` what that means",
        ));
    }
    let has_dumps = overview.dumps.iter().any(|dump| dump.state != "damaged");
    if has_dumps && overview.gap("drills").is_none() && !overview.drills.iter().any(|drill| drill.kind == "restore") {
        better.push(Advice::better(
            "Restore drill",
            "no restore was tried yet: `pgpersist drill restore` loads the newest dumps into a throw-away cluster and times it",
        ));
    }
    if has_dumps && !has(schedule::RESTORE_DRILL) {
        better.push(Advice::better(
            "Restore drill",
            "restores are proven only when somebody asks: set `restore = \"0 4 * * 0\"` in `[drill]`",
        ));
    }
    if overview.gap("drills").is_none() && overview.last_drill("crash").is_none() {
        better.push(Advice::better(
            "Crash drill",
            "no crash was rehearsed yet: `pgpersist drill crash` kills a throw-away cluster under load and counts what it still knows",
        ));
    }
    if overview.dumps.iter().any(|dump| dump.state == "damaged") {
        better.push(Advice::better("Backups", "some dumps are damaged: `pgpersist verify` tells which are good"));
    } else if overview.dumps.iter().any(|dump| dump.state == "unknown") {
        better.push(Advice::better(
            "Backups",
            "some dumps have no side file, so only reading them tells whether they are whole: `pgpersist verify`",
        ));
    }
    better
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::overview::Gap;
    use crate::report::sections::fixture::overview;
    use crate::retention::Retention;

    #[test]
    fn advice_is_for_what_is_missing() {
        let mut overview = overview();
        let about = |overview: &Overview| advise(overview).into_iter().map(|advice| advice.about).collect::<Vec<_>>();
        assert_eq!(about(&overview), ["Restore drill"]);
        overview.drills.clear();
        overview.schedules.clear();
        overview.retention.rules = Retention::default();
        overview.dumps[1].state = "unknown";
        assert_eq!(about(&overview), ["Backups", "Retention", "Restore drill", "Restore drill", "Crash drill", "Backups"]);
        // What could not be read is not missing.
        overview.gaps.push(Gap { part: "drills", reason: "no".into(), remedy: None });
        assert_eq!(about(&overview), ["Backups", "Retention", "Restore drill", "Backups"]);
        overview.stores.clear();
        assert_eq!(about(&overview), Vec::<String>::new());
    }
}
