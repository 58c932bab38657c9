//! An export as it is asked for: of a backup in a store, to somewhere.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::export::physical::{Destination, ExportReport, export};
use crate::progress::ProgressSink;
use crate::repo::keys::RepositoryKeys;
use crate::repo::live_intent::LiveIntent;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::chosen::choose;
use crate::store::{BackupStore, ObjectKey};

/// What is to be exported, and where to.
#[derive(Debug)]
pub struct ExportRequest {
    /// Where the repository lies.
    pub store: Arc<dyn BackupStore>,
    /// Where in the store.
    pub folder: ObjectKey,
    /// A backup's name, or [`LATEST`](crate::restore::chosen::LATEST).
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
    pub fn carry_out<'a>(self, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<ExportReport>> {
        Box::pin(async move {
            let (repository, backup) = self.find(progress).await?;
            // Garbage collection leaves alone what a run that lives reads.
            let live = LiveIntent::reading_or_warn(&repository, "export", vec![backup], progress).await;
            let exported = export(&repository, backup, self.destination, progress).await;
            if let Some(live) = live {
                live.end_or_leave().await;
            }
            exported
        })
    }

    /// Which backup it comes to. Looks only.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out).
    pub fn find<'a>(&self, progress: &'a dyn ProgressSink) -> impl Future<Output = Result<(Repository, RunName)>> + Send + use<'a> {
        // It waits without holding on to the destination, which is one thread's at a time.
        let (store, folder, keys, backup) = (Arc::clone(&self.store), self.folder.clone(), self.keys.clone(), self.backup.clone());
        async move { choose(&store, &folder, keys.as_ref(), &backup, progress).await }
    }
}
