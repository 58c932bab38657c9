//! An export as it is asked for: of a backup in a store, to somewhere.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::export::physical::{Destination, ExportReport, export};
use crate::progress::ProgressSink;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::physical::newest;
use crate::restore::request::LATEST;
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
    /// Where it goes.
    pub destination: Destination,
}

impl ExportRequest {
    /// Exports it.
    ///
    /// # Errors
    /// As [`export`]; `Invalid` for a name that is none.
    pub async fn carry_out(self, progress: &dyn ProgressSink) -> Result<ExportReport> {
        let (repository, backup) = find(self.store, self.folder, &self.backup).await?;
        export(&repository, backup, self.destination, progress).await
    }

    /// Which backup it comes to. Looks only.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out).
    pub async fn find(&self) -> Result<(Repository, RunName)> {
        find(Arc::clone(&self.store), self.folder.clone(), &self.backup).await
    }
}

async fn find(store: Arc<dyn BackupStore>, folder: ObjectKey, backup: &str) -> Result<(Repository, RunName)> {
    let shown = store.to_string();
    let none = || Error::not_found(format!("there is no backup in {shown}"), "make one with `pgpersist backup`");
    let repository = Repository::open(store, folder).await?.ok_or_else(none)?;
    let backup = match backup {
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
