//! A restore as it is asked for: of a backup in a store, into a cluster's data directory.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::data_directory::placement;
use crate::error::{Error, Result};
use crate::progress::{Event, ProgressSink};
use crate::repo::keys::RepositoryKeys;
use crate::repo::live_intent::LiveIntent;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::chosen::choose;
use crate::restore::delta::journey;
use crate::restore::physical::{RestoreOptions, RestoreReport, plan, restore_surveyed};
use crate::restore::plan::{RestorePlan, may_take};
use crate::restore::survey::Survey;
use crate::server::cluster::Cluster;
use crate::server::lock::ServerLock;
use crate::server::process::Presence;
use crate::server::{orphans, stale};
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

/// How long what a killed server left behind gets to end.
const ORPHANS: Duration = Duration::from_secs(60);
/// How long a directory with somebody's `postmaster.pid` may be watched for signs of life.
const WATCH: Duration = Duration::from_secs(60);

/// What is to be restored, and where to.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The cluster whose data directory it becomes.
    pub cluster: Cluster,
    /// Where its repository lies.
    pub store: Arc<dyn BackupStore>,
    /// Where in the store.
    pub folder: ObjectKey,
    /// A backup's name, or [`LATEST`](crate::restore::chosen::LATEST).
    pub backup: String,
    /// What opens it, where it is encrypted.
    pub keys: Option<Arc<RepositoryKeys>>,
    /// How.
    pub options: RestoreOptions,
}

impl RestoreRequest {
    /// Restores it, under the claim on the data directory, and under the server's lock where a cluster makes room.
    ///
    /// # Errors
    /// As [`restore`](crate::restore::physical::restore); `NotFound` when there is no such backup; `Conflict` when another pgpersist works on the
    /// directory or a server runs in it; `Unsafe` when the consent is missing, or when nothing proves that the server of a left `postmaster.pid`
    /// is gone.
    pub fn carry_out<'a>(&'a self, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<RestoreReport>> {
        Box::pin(async move {
            let directory = self.cluster.directory();
            if self.options.delta {
                return self.carry_out_delta(progress).await;
            }
            may_take(&directory.state().await?, directory.path(), self.options.in_place)?;
            let (repository, survey) = self.survey(progress).await?;
            // What needs no claim is refused before anything, even a lock file, is made.
            plan(&survey, directory.as_ref(), &self.options).await?.ask(self.options.consent)?;
            self.look_for_programs(&survey, progress).await;
            let claim = directory.claim().await?;
            directory.prepare(&claim).await?;
            let lock = if self.options.in_place { self.lock().await? } else { None };
            let own = directory.own_folder().clone();
            // A place that takes no writes, or gives back other bytes, is known before it holds anything.
            workers::run(move || placement::probe(own.path())).await?;
            // Garbage collection leaves alone what a run that lives reads.
            let live = LiveIntent::reading_or_warn(&repository, "restore", vec![survey.manifest.backup], progress).await;
            let restoring = restore_surveyed(&repository, &survey, directory.as_ref(), &self.options, progress);
            let restored = workers::holding(Arc::new((claim, lock)), restoring).await;
            if let Some(live) = live {
                live.end_or_leave().await;
            }
            restored
        })
    }

    /// The same over a stopped cluster, of which stays what is as it should be.
    async fn carry_out_delta(&self, progress: &dyn ProgressSink) -> Result<RestoreReport> {
        let directory = self.cluster.directory();
        let (repository, survey) = self.survey(progress).await?;
        journey::ask_first(&survey, directory.as_ref(), &self.options).await?;
        self.look_for_programs(&survey, progress).await;
        let held = (directory.claim().await?, self.lock().await?);
        let live = LiveIntent::reading_or_warn(&repository, "restore", vec![survey.manifest.backup], progress).await;
        let restoring = journey::restore(&repository, &survey, directory.as_ref(), &self.options, progress);
        let restored = workers::holding(Arc::new(held), restoring).await;
        if let Some(live) = live {
            live.end_or_leave().await;
        }
        restored
    }

    /// What it comes to. Looks only.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out), but for the consent that is missing.
    pub fn plan<'a>(&'a self, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<RestorePlan>> {
        Box::pin(async move {
            let directory = self.cluster.directory();
            if !self.options.delta {
                may_take(&directory.state().await?, directory.path(), self.options.in_place)?;
            }
            let (repository, survey) = self.survey(progress).await?;
            let plan = if self.options.delta {
                journey::look(&repository, &survey, directory.as_ref(), &self.options, progress).await?
            } else {
                plan(&survey, directory.as_ref(), &self.options).await?
            };
            self.look_for_programs(&survey, progress).await;
            Ok(plan)
        })
    }

    /// Which backup it comes to. Looks only.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out).
    pub fn find<'a>(&'a self, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<(Repository, RunName)>> {
        Box::pin(async move { choose(&self.store, &self.folder, self.keys.as_ref(), &self.backup, progress).await })
    }

    async fn survey(&self, progress: &dyn ProgressSink) -> Result<(Repository, Survey)> {
        let (repository, backup) = self.find(progress).await?;
        let survey = Survey::look_with(&repository, backup, self.options.tolerance(), progress).await?;
        Ok((repository, survey))
    }

    /// Says what is missing where no programs of the backup's major version are at hand: it can be restored, and not started here.
    async fn look_for_programs(&self, survey: &Survey, progress: &dyn ProgressSink) {
        let (search, path, major) = (self.cluster.search().clone(), self.cluster.path().to_owned(), survey.manifest.cluster.major);
        if let Err(error) = workers::run(move || search.for_cluster(&path, major)).await {
            progress.event(Event::Warning(format!("what is restored cannot be started on this machine yet: {error}")));
        }
    }

    /// The server's lock, so that no server starts while its cluster makes room, and whatever a killed one has left has ended.
    async fn lock(&self) -> Result<Option<ServerLock>> {
        if !self.cluster.path().is_dir() {
            return Ok(None);
        }
        let lock = orphans::outlast(&self.cluster, ORPHANS).await?;
        match self.cluster.presence().await? {
            Presence::None => Ok(Some(lock)),
            Presence::Running(server) => Err(Error::conflict(
                format!("a server runs in {} (process {})", self.cluster.path().display(), server.pid),
                "stop it with `pgpersist stop`",
            )),
            Presence::Stale(pid_file) => {
                stale::prove(&self.cluster, &pid_file, WATCH, false).await.map(|()| Some(lock)).map_err(with_own_remedy)
            }
        }
    }
}

/// `start` has an option to insist, and this says whom to tell.
fn with_own_remedy(error: Error) -> Error {
    match error {
        Error::Unsafe { what, remedy: Some(remedy) } if remedy.contains("--yes") => Error::refused(
            what,
            "restore into another directory (`-D`); if you are sure that no other machine or container uses this one, move it away yourself",
        ),
        other => other,
    }
}
