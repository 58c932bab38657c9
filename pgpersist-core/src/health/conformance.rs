//! The suite that every [`HealthCheck`] must pass, whatever state the world it looks at is in.
//!
//! ```
//! use std::sync::Arc;
//! use pgpersist_core::health::{Finding, HealthCheck, conformance};
//!
//! #[derive(Debug)]
//! struct QueueLength;
//!
//! #[async_trait::async_trait]
//! impl HealthCheck for QueueLength {
//!     fn name(&self) -> &str {
//!         "queue"
//!     }
//!
//!     async fn check(&self) -> Finding {
//!         Finding::pass(self.name(), "3 jobs waiting").observing("jobs", 3)
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let broken = conformance::violations(Arc::new(QueueLength)).await;
//! assert!(broken.is_empty(), "{broken:?}");
//! # });
//! ```
//!
//! That a check changes nothing cannot be asked from here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, join_all};

use crate::health::{Finding, HealthCheck, Status};

/// How many are asked at a time.
const TOGETHER: usize = 4;
/// What a check may take beyond its deadline on a busy machine.
const GRACE: Duration = Duration::from_millis(500);

/// A promise that a check did not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise, such as `a_warning_or_failure_names_the_next_step`.
    pub promise: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Asks a check several times, one after the other and at once, and returns what it did not keep. Needs tokio's runtime of
/// several threads: a check that blocks is one of the things to be found.
pub async fn violations(check: Arc<dyn HealthCheck>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut broken = |promise: &'static str, seen: String| violations.push(Violation { promise, seen });
    let name = check.name().to_owned();
    if name.is_empty() || name.chars().any(char::is_control) {
        broken("its_name_is_a_word", format!("the name is {name:?}"));
    }
    if check.deadline().is_zero() {
        broken("it_gives_itself_time", "its deadline is 0".to_owned());
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(answer(&check).await);
    }
    answers.extend(join_all((0..TOGETHER).map(|_| answer(&check))).await);
    if check.name() != name {
        broken("its_name_never_changes", format!("{name:?} became {:?}", check.name()));
    }
    for answer in answers {
        match answer {
            Err(Trouble::Late) => {
                broken("it_answers_within_its_deadline", format!("no answer within {} s", check.deadline().as_secs_f64()))
            }
            Err(Trouble::Panic) => broken("it_does_not_panic", "it panicked".to_owned()),
            Ok(finding) => {
                if finding.name != name {
                    broken("its_finding_bears_its_name", format!("the finding is called {:?}", finding.name));
                }
                let has_remedy = finding.remedy.as_deref().is_some_and(|remedy| !remedy.trim().is_empty());
                if matches!(finding.status, Status::Warn | Status::Fail) && !has_remedy {
                    broken("a_warning_or_failure_names_the_next_step", format!("{} without a remedy", finding.status.as_str()));
                }
                if finding.summary.trim().is_empty() {
                    broken("it_says_what_it_saw", "the summary is empty".to_owned());
                }
            }
        }
    }
    // What is broken each time is told once.
    violations.sort_by_key(|violation| violation.promise);
    violations.dedup_by_key(|violation| violation.promise);
    violations
}

enum Trouble {
    Late,
    Panic,
}

async fn answer(check: &Arc<dyn HealthCheck>) -> Result<Finding, Trouble> {
    let deadline = check.deadline();
    let check = Arc::clone(check);
    let asked = tokio::spawn(async move { std::panic::AssertUnwindSafe(check.check()).catch_unwind().await });
    let stop = asked.abort_handle();
    match tokio::time::timeout(deadline + GRACE, asked).await {
        Ok(Ok(Ok(finding))) => Ok(finding),
        Ok(_) => Err(Trouble::Panic),
        Err(_) => {
            stop.abort();
            Err(Trouble::Late)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug)]
    enum Fault {
        None,
        NoName,
        Late,
        Panics,
        OtherName,
        NoRemedy,
        EmptyRemedy,
        NoSummary,
        Renames(AtomicBool),
    }

    #[async_trait]
    impl HealthCheck for Fault {
        fn name(&self) -> &str {
            match self {
                Self::NoName => "",
                Self::Renames(asked) if asked.load(Ordering::SeqCst) => "later",
                _ => "faulty",
            }
        }

        async fn check(&self) -> Finding {
            match self {
                Self::Late => std::future::pending().await,
                Self::Panics => panic!("on purpose"),
                Self::OtherName => Finding::pass("another", "seen"),
                Self::NoRemedy => Finding { remedy: None, ..Finding::warn("faulty", "seen", "") },
                Self::EmptyRemedy => Finding::fail("faulty", "seen", " "),
                Self::NoSummary => Finding::pass("faulty", ""),
                Self::Renames(asked) => {
                    asked.store(true, Ordering::SeqCst);
                    Finding::pass("faulty", "seen")
                }
                Self::NoName | Self::None => Finding::pass(self.name(), "seen"),
            }
        }

        fn deadline(&self) -> Duration {
            Duration::from_millis(200)
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_fault_is_found() {
        for (fault, promise) in [
            (Fault::NoName, "its_name_is_a_word"),
            (Fault::Late, "it_answers_within_its_deadline"),
            (Fault::Panics, "it_does_not_panic"),
            (Fault::OtherName, "its_finding_bears_its_name"),
            (Fault::NoRemedy, "a_warning_or_failure_names_the_next_step"),
            (Fault::EmptyRemedy, "a_warning_or_failure_names_the_next_step"),
            (Fault::NoSummary, "it_says_what_it_saw"),
            (Fault::Renames(AtomicBool::new(false)), "its_name_never_changes"),
        ] {
            let found = violations(Arc::new(fault)).await;
            assert_eq!(found.iter().map(|v| v.promise).collect::<Vec<_>>(), [promise], "{found:?}");
        }
        assert_eq!(violations(Arc::new(Fault::None)).await, []);
    }
}
