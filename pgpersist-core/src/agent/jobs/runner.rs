//! All jobs of an agent, each with its attendant.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinSet;

use crate::agent::jobs::ScheduledJob;
use crate::agent::jobs::attendant::{Attendant, Leave};
use crate::agent::jobs::slots::Slots;
use crate::agent::log::Told;
use crate::agent::status::AgentStatus;
use crate::clock::SystemClock;

/// How long attendants may take to leave: they drop what they do and write a small file.
const LEAVING: Duration = Duration::from_secs(5);

/// The jobs. Dropping it drops what they do; the next agent takes that for interrupted.
#[derive(Debug)]
pub(crate) struct Runner {
    own: PathBuf,
    told: Told,
    status: watch::Sender<AgentStatus>,
    leave: watch::Sender<Leave>,
    attendants: JoinSet<()>,
    /// By job. What an attendant holds while it lives, so that there are never two of one job.
    alone: BTreeMap<String, Arc<Mutex<()>>>,
    slots: Slots,
}

impl Runner {
    /// No jobs yet; `own` is the folder of our own files.
    pub(crate) fn new(own: PathBuf, told: Told, status: watch::Sender<AgentStatus>) -> Self {
        let (leave, _) = watch::channel(Leave::Stay);
        Self { own, told, status, leave, attendants: JoinSet::new(), alone: BTreeMap::new(), slots: Slots::default() }
    }

    /// Goes on with these jobs. A run that is under way ends first.
    pub(crate) fn replace(&mut self, jobs: &[ScheduledJob]) {
        while self.attendants.try_join_next().is_some() {}
        self.leave.send_replace(Leave::WhenDone);
        let (leave, receiver) = watch::channel(Leave::Stay);
        // The old ones keep their end: only the new channel can tell them to leave now.
        let old = std::mem::replace(&mut self.leave, leave);
        self.attendants.spawn(pass_on(old, receiver.clone()));
        self.status.send_modify(|status| status.jobs.retain(|name, _| jobs.iter().any(|job| job.job.name() == name)));
        let bells: BTreeMap<&str, Arc<Notify>> = jobs.iter().map(|job| (job.job.name(), Arc::new(Notify::new()))).collect();
        for scheduled in jobs {
            let name = scheduled.job.name();
            let attendant = Attendant {
                scheduled: scheduled.clone(),
                own: self.own.clone(),
                clock: Arc::new(SystemClock),
                told: self.told.clone(),
                status: self.status.clone(),
                leave: receiver.clone(),
                bell: Arc::clone(&bells[name]),
                followers: jobs
                    .iter()
                    .filter(|job| job.follows.iter().any(|followed| followed == name))
                    .map(|job| bells[job.job.name()].clone())
                    .collect(),
                alone: Arc::clone(self.alone.entry(name.to_owned()).or_default()),
                slot: self.slots.of(name),
            };
            self.attendants.spawn(attendant.attend());
        }
    }

    /// Who may run a job now.
    pub(crate) fn slots(&self) -> Slots {
        self.slots.clone()
    }

    /// Tells all to drop what they do, at once.
    pub(crate) fn dismiss(&self) {
        self.leave.send_replace(Leave::Now);
    }

    /// Waits until they have.
    pub(crate) async fn finish(mut self) {
        self.dismiss();
        let all = async { while self.attendants.join_next().await.is_some() {} };
        // What hangs on a dead volume is aborted.
        let _ = tokio::time::timeout(LEAVING, all).await;
    }
}

/// Keeps the attendants of an earlier configuration until they are done, or all are to leave at once.
async fn pass_on(old: watch::Sender<Leave>, mut new: watch::Receiver<Leave>) {
    tokio::select! {
        () = old.closed() => {}
        _ = new.wait_for(|told| *told == Leave::Now) => {
            old.send_replace(Leave::Now);
        }
    }
}
