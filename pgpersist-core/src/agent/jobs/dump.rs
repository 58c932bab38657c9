//! The scheduled dump.

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::jobs::Job;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::logical::dump_request::DumpRequest;
use crate::progress::ProgressSink;
use crate::schedule;
use crate::wording::size;

/// Dumps databases of the cluster.
#[derive(Debug, Clone)]
pub struct DumpJob(pub DumpRequest);

#[async_trait]
impl Job for DumpJob {
    fn name(&self) -> &str {
        schedule::DUMP
    }

    async fn run(&self, progress: &Arc<dyn ProgressSink>) -> Result<String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let report = self.0.carry_out(&clock, progress.as_ref()).await?;
        let dumps: Vec<String> = report.dumps.iter().map(|dump| format!("{} ({})", dump.name, size(dump.size_bytes))).collect();
        Ok(dumps.join(", "))
    }
}
