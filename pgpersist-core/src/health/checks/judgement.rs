//! Several observations, one finding: the worst decides, all are told.

use crate::error::Error;
use crate::health::{Finding, Status};

/// What is wrong, as it is found.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Problem {
    status: Status,
    what: String,
    remedy: String,
}

impl Judgement {
    pub(super) fn add(&mut self, status: Status, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { status, what: what.into(), remedy: remedy.into() });
    }

    pub(super) fn warn(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Status::Warn, what, remedy);
    }

    pub(super) fn fail(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Status::Fail, what, remedy);
    }

    /// The finding: `all_well` where nothing is wrong, else what is wrong, worst first, each remedy once.
    pub(super) fn finding(mut self, name: &str, all_well: impl FnOnce() -> String) -> Finding {
        // A stable sort: of equals the first found comes first.
        self.problems.sort_by_key(|problem| std::cmp::Reverse(problem.status));
        let Some(worst) = self.problems.first() else {
            return Finding::pass(name, all_well());
        };
        let status = worst.status;
        let summary: Vec<&str> = self.problems.iter().map(|problem| problem.what.as_str()).collect();
        let mut remedies: Vec<&str> = Vec::new();
        for problem in &self.problems {
            if !problem.remedy.is_empty() && !remedies.contains(&problem.remedy.as_str()) {
                remedies.push(&problem.remedy);
            }
        }
        let remedy = (!remedies.is_empty()).then(|| remedies.join("; "));
        Finding { status, remedy, ..Finding::pass(name, summary.join("; ")) }
    }
}

/// An error in one line, with the cause at its bottom: that is what the server or the system said.
pub(super) fn told(error: &Error) -> String {
    match error.causes().last() {
        Some(cause) => format!("{error}: {}", cause.lines().next().unwrap_or_default()),
        None => error.to_string(),
    }
}

/// What an error that kept us from knowing comes to.
pub(super) fn not_known(name: &str, error: &Error) -> Finding {
    Finding::unknown(name, told(error), error.remedy()).observing("error", error.kind().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_a_remedy_is_told_once() {
        let mut judgement = Judgement::default();
        judgement.warn("a", "mend");
        judgement.fail("b", "mend");
        judgement.warn("c", "look");
        let finding = judgement.finding("x", || unreachable!());
        assert_eq!((finding.status, finding.summary.as_str(), finding.remedy.as_deref()), (Status::Fail, "b; a; c", Some("mend; look")));
        assert_eq!(Judgement::default().finding("x", || "fine".into()), Finding::pass("x", "fine"));
    }
}
