//! The scheduled physical backup.

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::jobs::Job;
use crate::backup::physical::BackupOptions;
use crate::backup::request::BackupRequest;
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::logical::shelf::Shelf;
use crate::progress::ProgressSink;
use crate::schedule;
use crate::server::cluster::Cluster;
use crate::wording::size;

/// Backs up the files of the cluster.
#[derive(Debug, Clone)]
pub struct BackupJob {
    /// The cluster.
    pub cluster: Cluster,
    /// Its dumps: the backups lie in the same store, and are encrypted as they are.
    pub shelf: Shelf,
    /// How.
    pub options: BackupOptions,
}

#[async_trait]
impl Job for BackupJob {
    fn name(&self) -> &str {
        schedule::BACKUP
    }

    async fn run(&self, progress: &Arc<dyn ProgressSink>) -> Result<String> {
        // An agent lives long, and keys may have been renewed since the last backup.
        let request = BackupRequest::on(self.cluster.clone(), &self.shelf, self.options.clone())?;
        let report = request.carry_out(&SystemClock, progress.as_ref()).await?;
        let unknown: Vec<_> = report.damaged.iter().filter(|page| !page.known).collect();
        let Some(first) = unknown.first() else {
            return Ok(format!("{} ({}, {} of it new)", report.name, size(report.size_bytes), size(report.new_bytes)));
        };
        // Another backup would find the same.
        let (name, count, path, block) = (&report.name, unknown.len(), &first.path, first.block);
        Err(Error::damaged(
            format!("{name} was made, and damaged pages are on the disk: {count}, the first one block {block} of {path}"),
            "look at the disk, and see `pgpersist show NAME` for all of them; an older backup may have these pages whole",
        ))
    }
}
