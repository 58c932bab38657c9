//! Retention after each scheduled dump and backup, each store by its own rules. What fails pushes nothing out: where dumps fail, no dump is
//! dropped, although backups succeed, and the other way round.

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::jobs::Job;
use crate::clock::{Clock, SystemClock};
use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::prune::{Consent, PruneRequest};
use crate::progress::ProgressSink;
use crate::retention::Retention;
use crate::schedule;
use crate::schedule::record::{JobRecord, Outcome};
use crate::wording::size;
use crate::workers;

/// Drops the dumps and backups that no rule keeps.
#[derive(Debug, Clone)]
pub struct PruneJob {
    /// The stores with their rules.
    pub requests: Vec<PruneRequest>,
    /// Where it is remembered what became of jobs.
    pub own: OwnFolder,
    /// The scheduled jobs that make what is dropped.
    pub makers: Vec<String>,
}

impl PruneJob {
    /// Whether the job that makes what is to be dropped did not succeed last time. One without a schedule is somebody else's to watch.
    async fn fails(&self, maker: &str) -> Result<bool> {
        if !self.makers.iter().any(|name| name == maker) {
            return Ok(false);
        }
        let (own, name) = (self.own.path().to_owned(), maker.to_owned());
        let record = workers::run(move || JobRecord::read(&own, &name)).await?;
        let last = record.and_then(|record| record.last);
        Ok(last.is_none_or(|run| run.outcome != Outcome::Success))
    }
}

#[async_trait]
impl Job for PruneJob {
    fn name(&self) -> &str {
        schedule::PRUNE
    }

    /// A store that fails keeps none of the others from it. One where somebody else is at work, such as a long copy, is left for the
    /// next time.
    async fn run(&self, _progress: &Arc<dyn ProgressSink>) -> Result<String> {
        let (mut told, mut first) = (Vec::new(), None::<Error>);
        let (no_dumps, no_backups) = (self.fails(schedule::DUMP).await?, self.fails(schedule::BACKUP).await?);
        for request in &self.requests {
            let mut request = request.clone();
            let kept = Retention::default();
            request.of_backups = Some(if no_backups { kept } else { request.retention });
            request.retention = if no_dumps { kept } else { request.retention };
            let store = request.shelf.store();
            let of = if self.requests.len() > 1 { format!("{store}: ") } else { String::new() };
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
        for (fails, what) in [(no_dumps, "dumps"), (no_backups, "backups")] {
            if fails {
                told.push(format!("no {what} are dropped until the next is made"));
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
