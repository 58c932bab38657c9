//! Stopping a server: fast, then immediate, each with a deadline.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::{Error, Result};
use crate::fs::lock_file;
use crate::server::cluster::{Cluster, ServerStatus};
use crate::server::process::{self, Presence};
use crate::workers;

/// How long an immediate shutdown may take, after a fast one took all its time.
const IMMEDIATE: Duration = Duration::from_secs(15);
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
}

/// Stops the server and waits until its last process has ended. A fast shutdown (sessions are ended, a checkpoint is
/// written) gets `timeout`; then an immediate one follows, which the next start recovers from. Nothing is lost by
/// either. Safe to repeat.
///
/// # Errors
/// `Unavailable` when it does not end even so; the state's own error when there is no cluster.
pub async fn stop(cluster: &Cluster, timeout: Duration) -> Result<StopReport> {
    cluster.directory().state().await?.into_cluster(cluster.path())?;
    let pid = match cluster.presence().await? {
        Presence::Running(pid_file) => pid_file.pid,
        Presence::None | Presence::Stale(_) => return Ok(StopReport { status: cluster.status().await?, changed: false, immediate: false }),
    };
    let mut immediate = false;
    signal(cluster, pid, Signal::INT)?;
    if !ended(cluster, pid, timeout).await? {
        immediate = true;
        signal(cluster, pid, Signal::QUIT)?;
        if !ended(cluster, pid, IMMEDIATE).await? {
            return Err(Error::Deadline {
                what: format!("the server (process {pid}) did not end"),
                after: timeout + IMMEDIATE,
                remedy: Some(format!("look at {} and at the processes below {pid}", cluster.log_file().path().display())),
            });
        }
    }
    Ok(StopReport { status: cluster.status().await?, changed: true, immediate })
}

/// Sends a signal to the process that was just proven to be the server.
fn signal(cluster: &Cluster, pid: i32, signal: Signal) -> Result<()> {
    let target = Pid::from_raw(pid).ok_or_else(|| Error::Bug(format!("{pid} is no process id")))?;
    match rustix::process::kill_process(target, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::file("signal the server of", cluster.path(), errno.into())),
    }
}

/// Whether the postmaster and all that hold its lock have ended within the time.
async fn ended(cluster: &Cluster, pid: i32, time: Duration) -> Result<bool> {
    let deadline = Instant::now() + time;
    let lock = cluster.directory().own_folder().server_lock();
    loop {
        if !process::is_alive(pid) {
            let lock = lock.clone();
            if workers::run(move || lock_file::is_free(&lock)).await? {
                return Ok(true);
            }
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}
