//! Bringing the other stores up to date: after each scheduled dump, and again and again, for what was made by hand or while a
//! store was down.

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::jobs::Job;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::sync::report::{StoreSync, SyncReport};
use crate::logical::sync::request::SyncRequest;
use crate::progress::ProgressSink;
use crate::schedule;
use crate::wording::size;

/// Copies what the other stores lack.
#[derive(Debug, Clone)]
pub struct SyncJob(pub SyncRequest);

#[async_trait]
impl Job for SyncJob {
    fn name(&self) -> &str {
        schedule::SYNC
    }

    async fn run(&self, progress: &Arc<dyn ProgressSink>) -> Result<String> {
        let report = self.0.carry_out(progress.as_ref()).await?;
        match report.trouble() {
            None => Ok(report.stores.iter().map(line).collect::<Vec<_>>().join("; ")),
            Some(kind) => Err(failed(&report, kind)),
        }
    }

    fn needs_server(&self) -> bool {
        false
    }
}

fn line(store: &StoreSync) -> String {
    format!("{}: {} copied ({})", store.store, store.copied, size(store.bytes))
}

/// The worst of all copies decides whether it is tried again soon.
fn failed(report: &SyncReport, kind: ErrorKind) -> Error {
    let what = report.troubles().join("; ");
    let of_stores = report.stores.iter().find_map(|store| store.error.remedy.clone());
    let remedy = of_stores.unwrap_or_else(|| "run it by hand to see: `pgpersist sync`".to_owned());
    match kind {
        ErrorKind::Damaged => Error::damaged(what, remedy),
        ErrorKind::Conflict => Error::conflict(what, remedy),
        ErrorKind::Unsafe => Error::refused(what, remedy),
        ErrorKind::Denied => Error::denied(what, remedy),
        ErrorKind::Invalid => Error::invalid(what, remedy),
        ErrorKind::NotFound => Error::not_found(what, remedy),
        _ => Error::unavailable(what, remedy),
    }
}
