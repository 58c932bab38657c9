//! Retention after each scheduled dump: where dumps fail, nothing is dropped.

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::jobs::Job;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::logical::shelf::Shelf;
use crate::progress::ProgressSink;
use crate::retention::Retention;
use crate::schedule;
use crate::wording::size;

/// Drops the dumps that no rule keeps.
#[derive(Debug, Clone)]
pub struct PruneJob {
    /// The cluster's dumps.
    pub shelf: Shelf,
    /// The rules.
    pub retention: Retention,
}

#[async_trait]
impl Job for PruneJob {
    fn name(&self) -> &str {
        schedule::PRUNE
    }

    async fn run(&self, _progress: &Arc<dyn ProgressSink>) -> Result<String> {
        let plan = self.shelf.prune_plan(&self.retention, SystemClock.now()).await?;
        if plan.drops_more_than_half() {
            return Err(Error::ConsentNeeded {
                action: "dropping more than half of the dumps at once".to_owned(),
                plan: plan.dropped.iter().map(|dropped| format!("drop {} ({})", dropped.name, dropped.reason)).collect(),
            });
        }
        plan.execute(self.shelf.store().as_ref()).await?;
        Ok(format!("{} dropped, {} kept, {} freed", plan.dropped.len(), plan.kept.len(), size(plan.freed_bytes)))
    }

    fn needs_server(&self) -> bool {
        false
    }
}
