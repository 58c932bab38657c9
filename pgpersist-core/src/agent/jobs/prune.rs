//! Retention after each scheduled dump, each store by its own rules: where dumps fail, nothing is dropped.

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::jobs::Job;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::logical::prune::{Consent, PruneRequest};
use crate::progress::ProgressSink;
use crate::schedule;
use crate::wording::size;

/// Drops the dumps and backups that no rule keeps.
#[derive(Debug, Clone)]
pub struct PruneJob(pub Vec<PruneRequest>);

#[async_trait]
impl Job for PruneJob {
    fn name(&self) -> &str {
        schedule::PRUNE
    }

    /// A store that fails keeps none of the others from it. One where somebody else is at work, such as a long copy, is left for the
    /// next time.
    async fn run(&self, _progress: &Arc<dyn ProgressSink>) -> Result<String> {
        let (mut told, mut first) = (Vec::new(), None::<Error>);
        for request in &self.0 {
            let store = request.shelf.store();
            let of = if self.0.len() > 1 { format!("{store}: ") } else { String::new() };
            match request.carry_out(Consent::Missing, SystemClock.now()).await {
                Ok(plan) => {
                    let unfinished = match plan.unfinished_uploads {
                        0 => String::new(),
                        count => format!(", {count} unfinished uploads removed"),
                    };
                    let later = match plan.pending_bytes {
                        0 => String::new(),
                        bytes => format!(", {} later", size(bytes)),
                    };
                    let blocked = plan.blocked.as_ref().map(|why| format!(", nothing of backups is removed: {why}")).unwrap_or_default();
                    let (dropped, kept) = (plan.dropped.len(), plan.kept.len());
                    told.push(format!("{of}{dropped} dropped, {kept} kept, {} freed{later}{unfinished}{blocked}", size(plan.freed_bytes)));
                }
                Err(error) if error.kind() == ErrorKind::Conflict => told.push(format!("{of}left for the next time: {error}")),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        match first {
            None => Ok(told.join("; ")),
            Some(error) => Err(error),
        }
    }

    fn needs_server(&self) -> bool {
        false
    }
}
