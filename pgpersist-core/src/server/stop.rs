//! Stopping a server: fast, then immediate, each with a deadline.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::fs::lock_holders::Holder;
use crate::server::cluster::{Cluster, ServerStatus};
use crate::server::lock::{self, Held};
use crate::server::orphans::{self, NOTICE};
use crate::server::postmaster::Postmaster;
use crate::server::process;
use crate::workers;

/// How long an immediate shutdown may take, after a fast one took all its time.
const IMMEDIATE: Duration = Duration::from_secs(15);
/// How long backends of a killed postmaster get to notice and end.
pub(crate) const ORPHANS_GRACE: Duration = Duration::from_secs(10);
/// How long a program that the server started, such as an `archive_command`, gets to end after it.
const LEFTOVERS_GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// What stopping did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StopReport {
    /// The cluster after it.
    #[serde(flatten)]
    pub status: ServerStatus,
    /// Whether a server was stopped, rather than none found.
    pub changed: bool,
    /// Whether the fast shutdown took too long, so that the next start must recover.
    pub immediate: bool,
    /// Programs that the server started and that outlive it: they hold its lock, so no server starts while they run.
    #[serde(skip)]
    pub leftover: Vec<Holder>,
}

impl StopReport {
    /// What its user must be told.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.immediate {
            warnings.push("the clean shutdown took too long and was cut short: the next start recovers, nothing is lost".to_owned());
        }
        if !self.leftover.is_empty() {
            warnings.push(format!(
                "the server has ended, but {}, which it started, still holds its lock: no server can be started until it has ended",
                lock::named(&self.leftover)
            ));
        }
        warnings
    }
}

/// Stops the server and waits until its last process has ended. A fast shutdown (sessions are ended, a checkpoint is
/// written) gets `timeout`; then an immediate one follows, which the next start recovers from. Nothing is lost by
/// either. Safe to repeat.
///
/// # Errors
/// `Unavailable` when it does not end even so; `Conflict` when a server holds the directory that is not seen from here, as
/// one in another container; the state's own error when there is no cluster.
pub fn stop<'a>(cluster: &'a Cluster, timeout: Duration) -> BoxFuture<'a, Result<StopReport>> {
    Box::pin(async move {
        cluster.directory().state().await?.into_cluster(cluster.path())?;
        let path = cluster.path().to_owned();
        let Some(server) = workers::run(move || Postmaster::of(&path)).await? else {
            return without_postmaster(cluster, timeout.min(ORPHANS_GRACE)).await;
        };
        let mut immediate = false;
        signal(cluster, &server, Signal::INT)?;
        if !ended(cluster, &server, timeout).await? {
            // Only a postmaster can be hurried; processes that outlive it end by themselves.
            immediate = server.is_alive();
            signal(cluster, &server, Signal::QUIT)?;
            if !ended(cluster, &server, IMMEDIATE).await? {
                return Err(Error::Deadline {
                    what: format!("the server (process {}) did not end", server.pid()),
                    after: timeout + IMMEDIATE,
                    remedy: Some(format!("look at {} and at the processes below {}", cluster.log_file().path().display(), server.pid())),
                });
            }
        }
        let leftover = leftover(cluster).await?;
        Ok(StopReport { status: cluster.status().await?, changed: true, immediate, leftover })
    })
}

/// Nothing to stop is to be seen: well, unless somebody holds the lock all the same.
async fn without_postmaster(cluster: &Cluster, grace: Duration) -> Result<StopReport> {
    let began = Instant::now();
    let deadline = began + grace;
    let leftover = loop {
        match lock::look(cluster).await? {
            Held::Free => break Vec::new(),
            Held::ByLeftover(holders) => break holders,
            held if Instant::now() >= deadline => return Err(lock::refusal(cluster, &held)),
            // The backends of a killed postmaster end by themselves, or not at all.
            Held::ByServer(_) => {
                tokio::time::sleep(POLL).await;
                if began.elapsed() >= NOTICE {
                    orphans::end(cluster).await?;
                }
            }
        }
    };
    Ok(StopReport { status: cluster.status().await?, changed: false, immediate: false, leftover })
}

fn signal(cluster: &Cluster, server: &Postmaster, signal: Signal) -> Result<()> {
    server.signal(signal).map_err(|e| Error::file("signal the server of", cluster.path(), e))
}

/// Whether the postmaster and all processes of the server have ended within the time. The lock tells nothing here:
/// programs that the server started may hold it for ever.
async fn ended(cluster: &Cluster, server: &Postmaster, time: Duration) -> Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        if !server.is_alive() {
            let path = cluster.path().to_owned();
            if workers::run(move || Ok(process::working_in(&path).is_empty())).await? {
                return Ok(true);
            }
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What still holds the lock of the server that has ended.
async fn leftover(cluster: &Cluster) -> Result<Vec<Holder>> {
    let deadline = Instant::now() + LEFTOVERS_GRACE;
    loop {
        let holders = match lock::look(cluster).await? {
            Held::Free => return Ok(Vec::new()),
            Held::ByServer(holders) | Held::ByLeftover(holders) => holders,
        };
        if Instant::now() >= deadline {
            return Ok(holders);
        }
        tokio::time::sleep(POLL).await;
    }
}
