//! An export as it is asked for: of a backup in a store, to somewhere.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::export::physical::{Destination, ExportReport, export};
use crate::progress::ProgressSink;
use crate::repo::keys::RepositoryKeys;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::physical::newest;
use crate::restore::request::{LATEST, parse_name};
use crate::store::{BackupStore, ObjectKey};

/// What is to be exported, and where to.
#[derive(Debug)]
pub struct ExportRequest {
    /// Where the repository lies.
    pub store: Arc<dyn BackupStore>,
    /// Where in the store.
    pub folder: ObjectKey,
    /// A backup's name, or [`LATEST`].
    pub backup: String,
    /// What opens it, where it is encrypted.
    pub keys: Option<Arc<RepositoryKeys>>,
    /// Where it goes.
    pub destination: Destination,
}

impl ExportRequest {
    /// Exports it.
    ///
    /// # Errors
    /// As [`export`]; `Invalid` for a name that is none.
    pub async fn carry_out(self, progress: &dyn ProgressSink) -> Result<ExportReport> {
        let (repository, backup) = self.find().await?;
        export(&repository, backup, self.destination, progress).await
    }

    /// Which backup it comes to. Looks only.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out).
    pub fn find(&self) -> impl Future<Output = Result<(Repository, RunName)>> + Send + use<> {
        // It waits without holding on to the destination, which is one thread's at a time.
        find(Arc::clone(&self.store), self.folder.clone(), self.keys.clone(), self.backup.clone())
    }
}

async fn find(
    store: Arc<dyn BackupStore>,
    folder: ObjectKey,
    keys: Option<Arc<RepositoryKeys>>,
    backup: String,
) -> Result<(Repository, RunName)> {
    let none = || Error::not_found(format!("there is no backup in {store}"), "make one with `pgpersist backup`");
    let repository = Repository::open(Arc::clone(&store), folder).await?.ok_or_else(none)?;
    let repository = match keys {
        Some(keys) => repository.with_keys(keys),
        None => repository,
    };
    repository.refuse_downgrade()?;
    let backup = match backup.as_str() {
        LATEST => newest(&repository).await?,
        name => parse_name(name)?,
    };
    Ok((repository, backup))
}
