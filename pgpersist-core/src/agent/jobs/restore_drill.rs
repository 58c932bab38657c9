//! The scheduled restore drill.

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::jobs::Job;
use crate::clock::{Clock, SystemClock};
use crate::data_directory::own_folder::OwnFolder;
use crate::drill::restore::{self, RestoreOptions};
use crate::drill::{Verdict, history};
use crate::error::{Error, Result};
use crate::logical::shelf::Shelf;
use crate::progress::ProgressSink;
use crate::schedule;

/// Proves that the newest dumps come back, and records it.
#[derive(Debug, Clone)]
pub struct RestoreDrillJob {
    /// The cluster's dumps.
    pub shelf: Shelf,
    /// How the drill goes.
    pub options: RestoreOptions,
    /// Where the cluster's own reports lie.
    pub own: OwnFolder,
}

#[async_trait]
impl Job for RestoreDrillJob {
    fn name(&self) -> &str {
        schedule::RESTORE_DRILL
    }

    async fn run(&self, progress: &Arc<dyn ProgressSink>) -> Result<String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let report = restore::run(&self.shelf, &self.options, &clock, progress).await?;
        history::keep_restore(&report, Some(&self.own), &self.shelf).await?;
        match report.verdict {
            Verdict::Pass => Ok(format!("{} of {} databases came back", report.databases.len(), report.databases.len())),
            // Another drill would find the same.
            Verdict::Fail => Err(Error::damaged(
                format!("what was dumped does not come back whole: {}", report.reasons.join("; ")),
                "look at it with `pgpersist drill list`, and make a new dump with `pgpersist dump`",
            )),
        }
    }

    /// It never asks the live one.
    fn needs_server(&self) -> bool {
        false
    }
}
