//! Asking all questions at once, each within its own deadline, and what comes of it: a [`Report`].

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::health::{Finding, HealthCheck, Status};

/// How much longer than its deadline a check is waited for that does not let itself be dropped, since it blocks its thread.
const GRACE: Duration = Duration::from_millis(250);

/// What all checks found, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The worst of all findings; [`Status::Unknown`] when nothing was asked.
    pub status: Status,
    /// When it was asked.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Puts findings together.
    pub fn new(time: OffsetDateTime, findings: Vec<Finding>) -> Self {
        let status = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Unknown);
        Self { status, time, duration_s: 0.0, findings }
    }

    /// The finding of this name.
    pub fn finding(&self, name: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.name == name)
    }

    /// How many findings have this status.
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }
}

/// Asks all checks at once and returns when each has answered or its deadline has passed, whatever they do: a check that
/// waits too long is dropped; one that blocks is left behind on its thread; one that panics is unknown. Needs tokio's
/// runtime.
pub async fn run(checks: &[Arc<dyn HealthCheck>], clock: &dyn Clock) -> Report {
    let (time, began) = (clock.now(), Instant::now());
    let findings = join_all(checks.iter().map(ask)).await;
    Report { duration_s: (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0, ..Report::new(time, findings) }
}

async fn ask(check: &Arc<dyn HealthCheck>) -> Finding {
    let (name, deadline) = (check.name().to_owned(), check.deadline());
    let (check, runtime) = (Arc::clone(check), Handle::current());
    // A thread of its own, so that a check which blocks holds up no other.
    let answer = tokio::task::spawn_blocking(move || {
        runtime.block_on(async move { tokio::time::timeout(deadline, async move { check.check().await }).await })
    });
    let late = || {
        let summary = format!("no answer within {} s", deadline.as_secs_f64());
        Finding::unknown(&name, summary, None).observing("deadline_s", deadline.as_secs_f64())
    };
    let finding = match tokio::time::timeout(deadline + GRACE, answer).await {
        Ok(Ok(Ok(finding))) => finding,
        Ok(Ok(Err(_))) | Err(_) => late(),
        Ok(Err(panic)) => {
            let said = panic.try_into_panic().map(|payload| message(&*payload)).unwrap_or_else(|_| "it was stopped".to_owned());
            Finding::unknown(&name, format!("the check failed: {said}"), Some("this is a defect of the check: report it".to_owned()))
        }
    };
    // Whoever looks for a finding by its check's name finds it.
    Finding { name, ..finding }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use async_trait::async_trait;

    #[derive(Debug)]
    enum Behaviour {
        Answer(Status),
        Wait,
        Block,
        Panic,
        OtherName,
    }

    #[derive(Debug)]
    struct Scripted(&'static str, Behaviour);

    #[async_trait]
    impl HealthCheck for Scripted {
        fn name(&self) -> &str {
            self.0
        }

        async fn check(&self) -> Finding {
            match self.1 {
                Behaviour::Answer(status) => Finding { status, ..Finding::pass(self.0, "seen") },
                Behaviour::Wait => std::future::pending().await,
                Behaviour::Block => {
                    std::thread::sleep(Duration::from_secs(2));
                    Finding::pass(self.0, "too late")
                }
                Behaviour::Panic => panic!("a bad {}", "cable"),
                Behaviour::OtherName => Finding::pass("somebody else", "seen"),
            }
        }

        fn deadline(&self) -> Duration {
            Duration::from_millis(300)
        }
    }

    async fn report(checks: Vec<Scripted>) -> Report {
        let checks: Vec<Arc<dyn HealthCheck>> = checks.into_iter().map(|check| Arc::new(check) as Arc<dyn HealthCheck>).collect();
        run(&checks, &SystemClock).await
    }

    // Of one thread, where a check that blocks would stop everything.
    #[tokio::test]
    async fn what_hangs_blocks_or_panics_is_unknown_and_holds_up_nobody() {
        use Behaviour::{Answer, Block, OtherName, Panic, Wait};
        let report = report(vec![
            Scripted("waits", Wait),
            Scripted("blocks", Block),
            Scripted("panics", Panic),
            Scripted("well", Answer(Status::Pass)),
            Scripted("renamed", OtherName),
        ])
        .await;
        let seen: Vec<_> = report.findings.iter().map(|f| (f.name.as_str(), f.status, f.summary.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("waits", Status::Unknown, "no answer within 0.3 s"),
                ("blocks", Status::Unknown, "no answer within 0.3 s"),
                ("panics", Status::Unknown, "the check failed: a bad cable"),
                ("well", Status::Pass, "seen"),
                ("renamed", Status::Pass, "seen"),
            ]
        );
        assert_eq!(report.status, Status::Unknown);
    }

    #[tokio::test]
    async fn the_worst_finding_decides() {
        let scripted = |statuses: &[Status]| statuses.iter().map(|status| Scripted("x", Behaviour::Answer(*status))).collect();
        use Status::{Fail, Pass, Unknown, Warn};
        for (statuses, expected) in [
            (vec![Pass, Pass], Pass),
            (vec![Pass, Warn], Warn),
            (vec![Unknown, Warn], Unknown),
            (vec![Unknown, Fail, Pass], Fail),
            (vec![], Unknown),
        ] {
            assert_eq!(report(scripted(&statuses)).await.status, expected);
        }
    }
}
