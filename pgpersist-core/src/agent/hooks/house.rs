//! All hooks of an agent: the watchman, a courier for each hook, and the heartbeat.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::agent::hooks::condition::Condition;
use crate::agent::hooks::courier::{Courier, LAST_WORD};
use crate::agent::hooks::event::Subject;
use crate::agent::hooks::judge::Judge;
use crate::agent::hooks::memory::Memory;
use crate::agent::hooks::options::HooksOptions;
use crate::agent::hooks::watchman::Watchman;
use crate::agent::log::{Told, with_causes};
use crate::agent::reporter::Reporter;
use crate::agent::status::AgentStatus;
use crate::clock::{Clock, SystemClock};
use crate::error::Error;

/// The hooks. Dropping it drops what they do.
#[derive(Debug)]
pub(crate) struct House {
    told: Told,
    status: watch::Sender<AgentStatus>,
    reporter: Arc<Reporter>,
    memory: Arc<Memory>,
    /// By hook. What a courier holds while its hook is told something, so that it is never told two things at once.
    alone: BTreeMap<String, Arc<Mutex<()>>>,
    running: Option<Running>,
    /// Couriers of earlier configurations that still tell something.
    leaving: JoinSet<()>,
}

#[derive(Debug)]
struct Running {
    conditions: Arc<watch::Sender<Condition>>,
    couriers: JoinSet<()>,
    /// The watchman and the heartbeat.
    others: JoinSet<()>,
}

impl House {
    /// No hooks yet; `own` is the folder of our own files.
    pub(crate) fn new(own: PathBuf, told: Told, status: watch::Sender<AgentStatus>, reporter: Arc<Reporter>) -> Self {
        let memory = Arc::new(Memory::new(own, told.clone()));
        Self { told, status, reporter, memory, alone: BTreeMap::new(), running: None, leaving: JoinSet::new() }
    }

    /// Goes on with these hooks. What one of the old ones is being told is told to its end.
    pub(crate) fn replace(&mut self, options: Option<&HooksOptions>) {
        while self.leaving.try_join_next().is_some() {}
        if let Some(old) = self.running.take() {
            let Running { conditions, mut couriers, others } = old;
            // The watchman and his end of the conditions go, and then the couriers, as soon as they look.
            drop((conditions, others));
            self.leaving.spawn(async move { while couriers.join_next().await.is_some() {} });
        }
        let Some(options) = options.filter(|options| !options.hooks.is_empty() || options.heartbeat.is_some()) else { return };
        let (conditions, receiver) = watch::channel(Condition::unseen());
        let conditions = Arc::new(conditions);
        let (seen, looks) = watch::channel(None);
        let (mut couriers, mut others) = (JoinSet::new(), JoinSet::new());
        let subject = Subject::here(&options.health.cluster_name);
        for hook in &options.hooks {
            let courier = Courier {
                hook: Arc::clone(hook),
                subject: subject.clone(),
                deadline: options.deadline,
                memory: Arc::clone(&self.memory),
                told: self.told.clone(),
                status: self.status.clone(),
                alone: Arc::clone(self.alone.entry(hook.name().to_owned()).or_default()),
            };
            couriers.spawn(courier.attend(receiver.clone()));
        }
        let watchman = Watchman {
            reporter: Arc::clone(&self.reporter),
            health: options.health.clone(),
            interval: options.interval,
            status: self.status.subscribe(),
            memory: Arc::clone(&self.memory),
            hooks: options.hooks.iter().map(|hook| hook.name().to_owned()).collect(),
            conditions: Arc::clone(&conditions),
            seen,
        };
        others.spawn(watchman.watch());
        if let Some(heartbeat) = &options.heartbeat {
            others.spawn(heartbeat.clone().beat(looks, options.interval, self.told.clone(), self.status.clone()));
        }
        self.running = Some(Running { conditions, couriers, others });
    }

    /// Tells that the agent ends by itself, and why; overtakes what is being told, and takes some seconds at most.
    pub(crate) async fn tell_end(&mut self, why: &Error) {
        let Some(mut running) = self.running.take() else { return };
        // Nobody looks any more.
        running.others.abort_all();
        self.leaving.abort_all();
        running.conditions.send_modify(|known| {
            let mut judge = Judge::remembering([]);
            judge.agent_ends(&with_causes(why), why.remedy(), SystemClock.now());
            let ends = judge.condition();
            known.failing.extend(ends.failing);
            (known.at, known.status, known.is_last) = (ends.at, ends.status, true);
        });
        let telling = async { while running.couriers.join_next().await.is_some() {} };
        // A little more, so that each can say that it was too late.
        let _ = tokio::time::timeout(LAST_WORD + LAST_WORD / 10, telling).await;
    }
}
