//! Brings one hook from what it was told last to what is now.
//!
//! There is no queue: while a hook hangs, the condition goes on, and when it is free again it is told the difference. So the last
//! state always arrives, and what came and went meanwhile does not.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, watch};

use crate::agent::hooks::Hook;
use crate::agent::hooks::condition::Condition;
use crate::agent::hooks::event::{EventKind, Subject};
use crate::agent::hooks::memory::Memory;
use crate::agent::log::{Told, with_causes};
use crate::agent::status::AgentStatus;
use crate::error::{Error, Result};
use crate::pg::log_line::Severity;

/// How long it waits after a failure; twice that after the next one, and so on.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// But no longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long the last word of an agent may take: whoever would restart it waits.
pub(crate) const LAST_WORD: Duration = Duration::from_secs(10);

/// What a courier works with.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) hook: Arc<dyn Hook>,
    pub(crate) subject: Subject,
    pub(crate) deadline: Duration,
    pub(crate) memory: Arc<Memory>,
    pub(crate) told: Told,
    pub(crate) status: watch::Sender<AgentStatus>,
    /// Held while the hook is told something, also by a courier of an earlier configuration.
    pub(crate) alone: Arc<Mutex<()>>,
}

/// What became of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    NothingNew,
    Delivered,
    Failed,
    /// The last word came while it was under way.
    Overtaken,
}

impl Courier {
    /// Stays until nobody looks any more, or the last word was told.
    pub(crate) async fn attend(self, mut conditions: watch::Receiver<Condition>) {
        let alone = Arc::clone(&self.alone);
        let mut wait = FIRST_WAIT;
        loop {
            let condition = conditions.borrow_and_update().clone();
            let outcome = {
                let _alone = alone.lock().await;
                self.deliver(&condition, wait, &conditions).await
            };
            if condition.is_last {
                return;
            }
            match outcome {
                Outcome::Overtaken => {}
                Outcome::Delivered => wait = FIRST_WAIT,
                Outcome::NothingNew => {
                    wait = FIRST_WAIT;
                    if conditions.changed().await.is_err() {
                        return;
                    }
                }
                Outcome::Failed => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => wait = (2 * wait).min(LONGEST_WAIT),
                        changed = conditions.changed() => if changed.is_err() {
                            return;
                        },
                    }
                }
            }
        }
    }

    async fn deliver(&self, condition: &Condition, wait: Duration, conditions: &watch::Receiver<Condition>) -> Outcome {
        let name = self.hook.name();
        let known = self.memory.of(name).await;
        let Some((event, after)) = known.news(condition, &self.subject) else { return Outcome::NothingNew };
        let deadline = if condition.is_last { self.deadline.min(LAST_WORD) } else { self.deadline };
        let telling = AssertUnwindSafe(tokio::time::timeout(deadline, self.hook.tell(&event))).catch_unwind();
        // Of its own, so that what it sees does not count as seen.
        let mut last = conditions.clone();
        let told = tokio::select! {
            biased;
            told = telling => told,
            Ok(_) = last.wait_for(|condition| condition.is_last), if !condition.is_last => return Outcome::Overtaken,
        };
        let result: Result<()> = match told {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Deadline { what: "it did not end".to_owned(), after: deadline, remedy: None }),
            Err(_) => Err(Error::Bug("it panicked".to_owned())),
        };
        self.status.send_modify(|status| status.hooks.entry(name.to_owned()).or_default().count(result.is_ok()));
        let what = match event.event {
            EventKind::Failure => "the failure",
            EventKind::Recovery => "the recovery",
        };
        let named: Vec<&str> = event.findings.iter().map(|changed| changed.finding.name.as_str()).collect();
        let what = format!("{what} of {}", named.join(", "));
        match result {
            Ok(()) => {
                self.told.say(Severity::Log, &format!("hook {name}: told {what}"));
                self.memory.keep(name, after).await;
                Outcome::Delivered
            }
            Err(error) => {
                let again = if condition.is_last { String::new() } else { format!("; again in {} s, as it is then", wait.as_secs()) };
                let remedy = error.remedy().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
                self.told.say(Severity::Error, &format!("hook {name}: could not tell {what}: {}{remedy}{again}", with_causes(&error)));
                Outcome::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use async_trait::async_trait;
    use time::macros::datetime;

    use super::*;
    use crate::agent::hooks::condition::Failing;
    use crate::agent::hooks::event::Event;
    use crate::agent::log::Unheard;
    use crate::health::{Finding, Status};

    /// Notes what it is told, and hangs as long as somebody holds its door.
    #[derive(Debug, Default)]
    struct Noted {
        told: StdMutex<Vec<String>>,
        door: Mutex<()>,
        fails: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl Hook for Arc<Noted> {
        fn name(&self) -> &str {
            "noted"
        }

        async fn tell(&self, event: &Event) -> Result<()> {
            let names: Vec<&str> = event.findings.iter().map(|changed| changed.finding.name.as_str()).collect();
            self.told.lock().unwrap().push(format!("{} {}", event.event.as_str(), names.join("+")));
            let _door = self.door.lock().await;
            assert!(names != ["panic"], "a bad cable");
            if self.fails.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(Error::unavailable("nobody is there", "wait"));
            }
            Ok(())
        }
    }

    fn condition(failing: &[&str]) -> Condition {
        let at = datetime!(2026-02-08 10:00 UTC);
        let seen = |name: &&str| Failing { since: at, seen: Some(Finding::fail(*name, "it fails", "mend it")) };
        let failing = failing.iter().map(|name| ((*name).to_owned(), seen(name))).collect();
        Condition { at, status: Status::Fail, failing, is_seen: true, ..Condition::unseen() }
    }

    struct Post {
        folder: tempfile::TempDir,
        hook: Arc<Noted>,
        conditions: watch::Sender<Condition>,
        courier: tokio::task::JoinHandle<()>,
        status: watch::Sender<AgentStatus>,
    }

    fn post() -> Post {
        let (folder, hook) = (tempfile::tempdir().unwrap(), Arc::new(Noted::default()));
        let (conditions, receiver) = watch::channel(Condition::unseen());
        let (status, _) = watch::channel(AgentStatus::new());
        let told = Told(Arc::new(Unheard));
        let courier = Courier {
            hook: Arc::new(Arc::clone(&hook)),
            subject: Subject { cluster: "main".to_owned(), host: "db-0".to_owned() },
            deadline: Duration::from_secs(600),
            memory: Arc::new(Memory::new(folder.path().to_owned(), told.clone())),
            told,
            status: status.clone(),
            alone: Arc::default(),
        };
        let courier = tokio::spawn(courier.attend(receiver));
        Post { folder, hook, conditions, courier, status }
    }

    impl Post {
        async fn until(&self, told: &[&str]) {
            let is_so = async {
                while *self.hook.told.lock().unwrap() != told {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let waited = tokio::time::timeout(Duration::from_secs(60), is_so).await;
            assert!(waited.is_ok(), "{:?} is not {told:?}", self.hook.told.lock().unwrap());
        }
    }

    #[tokio::test]
    async fn while_a_hook_hangs_the_last_state_wins() {
        let post = post();
        let door = post.hook.door.lock().await;
        post.conditions.send_replace(condition(&["dumps"]));
        post.until(&["failure dumps"]).await;
        // Much happens meanwhile, and what is left of it is told.
        for names in [&["disk", "dumps"][..], &["disk"], &[], &["server"], &["dumps", "server"]] {
            post.conditions.send_replace(condition(names));
        }
        drop(door);
        post.until(&["failure dumps", "failure server"]).await;
        post.conditions.send_replace(condition(&["server"]));
        post.until(&["failure dumps", "failure server", "recovery dumps"]).await;
        post.conditions.send_replace(condition(&[]));
        post.until(&["failure dumps", "failure server", "recovery dumps", "recovery server"]).await;
        drop(post.conditions);
        post.courier.await.unwrap();
        assert!(std::fs::read_to_string(post.folder.path().join("hooks.json")).unwrap().contains("\"failing\": {}"));
        assert_eq!(post.status.borrow().hooks["noted"].successes, 4);
    }

    #[tokio::test]
    async fn the_last_word_overtakes_what_hangs_and_is_the_last() {
        let post = post();
        let door = post.hook.door.lock().await;
        post.conditions.send_replace(condition(&["dumps"]));
        post.until(&["failure dumps"]).await;
        post.conditions.send_replace(Condition { is_last: true, ..condition(&["agent", "dumps"]) });
        post.until(&["failure dumps", "failure agent+dumps"]).await;
        drop(door);
        post.courier.await.unwrap();
    }

    #[tokio::test]
    async fn what_failed_or_panicked_is_told_again_as_it_is_then() {
        let post = post();
        post.conditions.send_replace(condition(&["panic"]));
        post.until(&["failure panic"]).await;
        post.hook.fails.store(true, std::sync::atomic::Ordering::SeqCst);
        post.conditions.send_replace(condition(&["dumps", "panic"]));
        post.until(&["failure panic", "failure dumps+panic"]).await;
        post.hook.fails.store(false, std::sync::atomic::Ordering::SeqCst);
        // Never having known of it, it need not know that it is over.
        post.conditions.send_replace(condition(&[]));
        post.conditions.send_replace(Condition { is_last: true, ..condition(&["agent"]) });
        post.until(&["failure panic", "failure dumps+panic", "failure agent"]).await;
        post.courier.await.unwrap();
        let status = post.status.borrow().hooks["noted"];
        assert_eq!((status.successes, status.failures), (1, 2));
    }
}
