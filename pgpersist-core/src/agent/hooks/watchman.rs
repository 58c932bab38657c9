//! Looks at the cluster's health every now and then, and when something has happened.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::agent::hooks::condition::Condition;
use crate::agent::hooks::judge::Judge;
use crate::agent::hooks::memory::Memory;
use crate::agent::reporter::{self, Looked, Reporter};
use crate::agent::status::{AgentStatus, Phase};
use crate::health::Status;
use crate::health::checks::standard::HealthOptions;

/// How soon a look follows that decides: a report is kept for almost as long.
const DECIDING: Duration = Duration::from_secs(6);
/// How soon a look follows that found a report from before what it is to tell.
const TOO_OLD: Duration = Duration::from_secs(1);

/// What a watchman works with.
#[derive(Debug)]
pub(crate) struct Watchman {
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) health: HealthOptions,
    pub(crate) interval: Duration,
    pub(crate) status: watch::Receiver<AgentStatus>,
    pub(crate) memory: Arc<Memory>,
    /// The hooks that are there.
    pub(crate) hooks: Vec<String>,
    /// What fails for certain.
    pub(crate) conditions: Arc<watch::Sender<Condition>>,
    /// When it looked last, and whether all was well.
    pub(crate) seen: watch::Sender<Option<(Instant, bool)>>,
}

/// What makes it look at once.
#[derive(Debug, PartialEq)]
struct Occasion {
    is_ready: bool,
    restarts: u64,
    /// When the last run of each job began.
    runs: Vec<Option<OffsetDateTime>>,
}

impl Occasion {
    fn of(status: &AgentStatus) -> Self {
        let runs = status.jobs.values().map(|job| job.record.last.as_ref().map(|run| run.started_at)).collect();
        Self { is_ready: status.phase == Phase::Ready, restarts: status.restarts, runs }
    }
}

impl Watchman {
    /// Watches from the moment on when the server has been ready first.
    pub(crate) async fn watch(mut self) {
        // From before it has started: a server that ends right after it was ready must not be missed.
        let mut occasion = Occasion::of(&self.status.borrow());
        let mut judge = Judge::remembering(&self.memory.of_all(&self.hooks).await);
        if self.status.wait_for(|status| status.has_started).await.is_err() {
            return;
        }
        // Down since it is fenced, and on its way up again: nothing of it is news.
        let mut is_down_on_purpose = false;
        let (mut next, mut not_before) = (Instant::now(), Instant::now());
        let mut looking: Option<BoxFuture<'static, Looked>> = None;
        loop {
            let status = self.status.borrow_and_update().clone();
            let now = Occasion::of(&status);
            if now.restarts > occasion.restarts {
                judge.server_ended(status.last_failure.as_deref().unwrap_or("it tells no reason"), self.health.clock.now());
                self.publish(&judge);
            }
            if now != occasion {
                (occasion, next, not_before) = (now, Instant::now(), Instant::now());
            }
            match status.phase {
                Phase::Fenced | Phase::Stopping => is_down_on_purpose = true,
                Phase::Ready | Phase::Waiting => is_down_on_purpose = false,
                Phase::Preparing | Phase::Starting | Phase::Recovering => {}
            }
            if is_down_on_purpose {
                looking = None;
                self.seen.send_replace(None);
            } else if looking.is_none() && Instant::now() >= next {
                let (reporter, health) = (Arc::clone(&self.reporter), self.health.clone());
                looking = Some(async move { reporter.get(&health).await }.boxed());
            }
            let waits = looking.is_none() && !is_down_on_purpose;
            let look = async {
                match &mut looking {
                    Some(looking) => looking.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                looked = look => {
                    looking = None;
                    next = self.take_in(&mut judge, &looked, not_before);
                    // A report that is kept for a while is looked at once.
                    if let Some(found) = &looked {
                        not_before = not_before.max(found.begun() + Duration::from_nanos(1));
                    }
                }
                () = tokio::time::sleep_until(next.into()), if waits => {}
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Takes in what was found; returns when to look again.
    fn take_in(&self, judge: &mut Judge, looked: &Looked, not_before: Instant) -> Instant {
        let now = Instant::now();
        let status = match looked {
            Some(found) if found.begun() < not_before => return now + TOO_OLD.min(self.interval),
            Some(found) => {
                judge.look(&found.value, now);
                found.value.status
            }
            None => {
                let report = reporter::missing(&*self.health.clock);
                judge.look(&report, now);
                report.status
            }
        };
        self.publish(judge);
        self.seen.send_replace(Some((now, status <= Status::Warn)));
        now + if judge.is_undecided() { DECIDING.min(self.interval) } else { self.interval }
    }

    fn publish(&self, judge: &Judge) {
        let condition = judge.condition();
        self.conditions.send_if_modified(|known| {
            // After the last word there is none.
            let is_news = !known.is_last && known.differs(&condition);
            if !known.is_last {
                *known = condition;
            }
            is_news
        });
    }
}
