//! One server, from its start (or from the moment it was found running) to its end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use crate::agent::status::Phase;
use crate::agent::volume::Volume;
use crate::data_directory::Claim;
use crate::data_directory::fence::{self, Fence};
use crate::error::{Error, Result};
use crate::pg::control_file::ClusterState;
use crate::server::cluster::Cluster;
use crate::server::installation::PostgresInstallation;
use crate::server::lock::ServerLock;
use crate::server::postmaster::Postmaster;
use crate::server::process::{self, Presence};
use crate::server::promotion;
use crate::server::recovery::{RecoveryProgress, RecoveryWatch};
use crate::server::start::{self, Launched};
use crate::workers;

/// A server that is not ready by then is looked at more closely.
const SLOW_START: Duration = Duration::from_secs(1);

/// What a look at a server found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    pub(crate) phase: Phase,
    pub(crate) recovery: Option<RecoveryProgress>,
}

/// What a look at the place of the data found.
#[derive(Debug)]
pub(crate) struct Place {
    /// An error when it is gone or takes no writes.
    pub(crate) volume: Result<()>,
    /// Whether no server is to run there.
    pub(crate) fence: Result<Option<Fence>>,
}

/// What a look at a server and at its place found.
#[derive(Debug)]
pub(crate) struct Round {
    /// What the server is doing.
    pub(crate) look: Result<Look>,
    /// What its place is like, where that was looked at.
    pub(crate) place: Option<Place>,
}

/// A server that runs, or ran a moment ago.
#[derive(Debug)]
pub(crate) struct Life {
    postmaster: Postmaster,
    end: watch::Receiver<bool>,
    began: Instant,
    launched: Option<Launched>,
    /// Where its lines in the log begin.
    pub(crate) log_offset: u64,
    volume: Volume,
    recovery: Mutex<RecoveryWatch>,
    /// Whether it is to leave the timeline of a backup first: before that it is not up.
    promotes: bool,
}

impl Life {
    /// The server that runs already and holds our lock: one whose agent was killed. `None` when there is none.
    pub(crate) async fn adopt(cluster: &Cluster) -> Result<Option<Self>> {
        let (path, log_offset) = (cluster.path().to_owned(), cluster.log_file().size());
        workers::run(move || {
            let Some(postmaster) = Postmaster::of(&path)? else { return Ok(None) };
            Self::of(postmaster, None, log_offset, Volume::of(&path)?, promotion::is_pending(&path)?).map(Some)
        })
        .await
    }

    /// Starts one. Not to be dropped half-way: a server could come up that nobody knows of.
    pub(crate) async fn begin(cluster: &Cluster, claim: &Claim, installation: &PostgresInstallation, lock: ServerLock) -> Result<Self> {
        let launched = start::launch(cluster, claim, installation, lock).await?;
        let (path, pid, log_offset) = (cluster.path().to_owned(), launched.pid, launched.log_offset);
        let seen = workers::run(move || Ok((Postmaster::launched(pid), Volume::of(&path)?, promotion::is_pending(&path)?))).await?;
        match seen {
            (Some(postmaster), volume, promotes) => Self::of(postmaster, Some(launched), log_offset, volume, promotes),
            (None, ..) => Err(start::failed(cluster, log_offset)),
        }
    }

    fn of(postmaster: Postmaster, launched: Option<Launched>, log_offset: u64, volume: Volume, promotes: bool) -> Result<Self> {
        let end = postmaster.end()?;
        Ok(Self { postmaster, end, began: Instant::now(), launched, log_offset, volume, recovery: Mutex::default(), promotes })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.postmaster.pid()
    }

    /// Whether it was found running.
    pub(crate) fn is_adopted(&self) -> bool {
        self.launched.is_none()
    }

    /// Waits until the postmaster has ended.
    pub(crate) async fn ended(&self) {
        // A watcher that is gone has seen the end.
        let _ = self.end.clone().wait_for(|ended| *ended).await;
        // As a zombie its number would still be taken.
        while self.launched.as_ref().is_some_and(|launched| !launched.has_ended()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.postmaster.signal(signal).map_err(|e| Error::file("signal the server, process", self.pid().to_string(), e))
    }

    /// Looks at it after a pause, and at its place where that is wanted. On a volume that hangs this takes for ever, so there is
    /// never more than one at a time, and nobody waits for it alone.
    pub(crate) async fn look_around(&self, cluster: Cluster, pause: Duration, place: bool) -> Round {
        tokio::time::sleep(pause).await;
        let look = self.look(&cluster).await;
        if !place {
            return Round { look, place: None };
        }
        let (volume, own) = (self.volume.clone(), cluster.directory().own_folder().clone());
        let seen = workers::run(move || Ok(Place { volume: volume.check(), fence: fence::read(&own) })).await;
        Round { look, place: Some(seen.unwrap_or_else(|error| Place { volume: Ok(()), fence: Err(error) })) }
    }

    /// What it is doing.
    async fn look(&self, cluster: &Cluster) -> Result<Look> {
        let presence = cluster.presence().await?;
        let status = match &presence {
            Presence::Running(pid_file) if pid_file.pid == self.pid() => pid_file.status.as_deref(),
            _ => None,
        };
        match status {
            Some("ready") if !self.promotes || start::settle(cluster).await? => return Ok(Look { phase: Phase::Ready, recovery: None }),
            Some("standby") if !self.promotes => return Ok(Look { phase: Phase::Ready, recovery: None }),
            Some("stopping") => return Ok(Look { phase: Phase::Stopping, recovery: None }),
            _ => {}
        }
        let control = cluster.directory().state().await?.into_cluster(cluster.path())?.control;
        let recovers = matches!(control.state, ClusterState::InCrashRecovery | ClusterState::InArchiveRecovery);
        if !recovers && self.began.elapsed() < SLOW_START {
            return Ok(Look { phase: Phase::Starting, recovery: None });
        }
        let (path, pid) = (cluster.path().to_owned(), self.pid());
        let mut watch = std::mem::take(&mut *self.recovery());
        let (watch, recovery) = workers::run(move || {
            let seen = watch.look(&path, pid, control.redo, control.wal_segment_size);
            Ok((watch, seen))
        })
        .await?;
        *self.recovery() = watch;
        // It waits for its archive before it has read the checkpoint, and says in pg_control that it recovers only after that.
        let phase = if recovers || recovery.is_some() { Phase::Recovering } else { Phase::Starting };
        Ok(Look { phase, recovery })
    }

    fn recovery(&self) -> MutexGuard<'_, RecoveryWatch> {
        self.recovery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the place of its data is still there and takes writes.
    pub(crate) async fn check_volume(&self) -> Result<()> {
        let volume = self.volume.clone();
        workers::run(move || volume.check()).await
    }

    /// Why it ended, from what it wrote and how it ended; `None` when somebody shut it down cleanly. Blocking.
    pub(crate) fn why(self, cluster: &Cluster, state: Option<ClusterState>) -> Option<Error> {
        let adopted = self.is_adopted();
        match self.launched.and_then(Launched::into_status) {
            Some(status) if status.success() => None,
            // Nobody tells how somebody else's child ended; what it wrote last does.
            None if adopted && state == Some(ClusterState::ShutDown) => None,
            Some(status) if status.code().is_none() => Some(Error::unavailable(
                format!("the server (process {}) was killed: {status}", self.postmaster.pid()),
                "look for an out-of-memory kill (`dmesg`), and for whoever else sends signals",
            )),
            _ => Some(start::failed(cluster, self.log_offset)),
        }
    }

    /// Waits until the postmaster and all of its processes have ended; false when the time passes first.
    pub(crate) async fn all_ended(&self, cluster: &Cluster, deadline: Instant) -> Result<bool> {
        if tokio::time::timeout_at(deadline.into(), self.ended()).await.is_err() {
            return Ok(false);
        }
        loop {
            let path = cluster.path().to_owned();
            if workers::run(move || Ok(process::working_in(&path).is_empty())).await? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
