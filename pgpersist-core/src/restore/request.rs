//! A restore as it is asked for: of a backup in a store, into a cluster's data directory.

use std::sync::Arc;

use crate::data_directory::placement;
use crate::error::{Error, Result};
use crate::progress::ProgressSink;
use crate::repo::keys::RepositoryKeys;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::physical::{RestoreOptions, RestoreReport, newest, restore};
use crate::server::cluster::Cluster;
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

/// The name that means the newest backup.
pub const LATEST: &str = "latest";

/// What is to be restored, and where to.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The cluster whose data directory it becomes.
    pub cluster: Cluster,
    /// Where its repository lies.
    pub store: Arc<dyn BackupStore>,
    /// Where in the store.
    pub folder: ObjectKey,
    /// A backup's name, or [`LATEST`].
    pub backup: String,
    /// What opens it, where it is encrypted.
    pub keys: Option<Arc<RepositoryKeys>>,
    /// How.
    pub options: RestoreOptions,
}

impl RestoreRequest {
    /// Restores it, under the claim on the data directory.
    ///
    /// # Errors
    /// As [`restore`]; `NotFound` when there is no such backup; `Conflict` when another pgpersist works on the directory.
    pub async fn carry_out(&self, progress: &dyn ProgressSink) -> Result<RestoreReport> {
        let (repository, backup) = self.find().await?;
        let directory = self.cluster.directory();
        let claim = directory.claim().await?;
        directory.prepare(&claim).await?;
        let own = directory.own_folder().clone();
        // A place that takes no writes, or gives back other bytes, is known before it holds anything.
        workers::run(move || placement::probe(own.path())).await?;
        restore(&repository, backup, directory.as_ref(), &self.options, progress).await
    }

    /// Which backup it comes to. Looks only.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out).
    pub async fn find(&self) -> Result<(Repository, RunName)> {
        let none = || Error::not_found(format!("there is no backup in {}", self.store), "make one with `pgpersist backup`");
        let repository = Repository::open(Arc::clone(&self.store), self.folder.clone()).await?.ok_or_else(none)?;
        let repository = match &self.keys {
            Some(keys) => repository.with_keys(Arc::clone(keys)),
            None => repository,
        };
        repository.refuse_downgrade()?;
        let backup = match self.backup.as_str() {
            LATEST => newest(&repository).await?,
            name => name.parse().map_err(|_| {
                Error::invalid(
                    format!("`{name}` is no name of a backup, such as 20260208T093316Z-0f8e7d6c"),
                    "see `pgpersist list` for their names",
                )
            })?,
        };
        Ok((repository, backup))
    }
}
