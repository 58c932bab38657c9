//! That nobody else uses a cluster's directory: proven before `init` writes a byte into it.
//!
//! PostgreSQL's own interlock does not see a server of another container, and takes its `postmaster.pid` for a leftover. So
//! does nobody here: a file that names no process of ours counts as that of a living server until the opposite is proven.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::server::cluster::Cluster;
use crate::server::foreign::{self, Runs};
use crate::server::process::{self, Presence};
use crate::server::stale;
use crate::workers;

/// How long a directory with somebody's `postmaster.pid` may be watched for signs of life.
pub(crate) const WATCH: Duration = Duration::from_secs(60);
/// How long backends of a killed postmaster get to notice and end.
const ORPHANS_GRACE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Refuses a directory in which a server runs that pgpersist did not start: it holds no lock of ours, and what `init`
/// writes would change under its hands. Returns whether a server of ours runs.
///
/// # Errors
/// `Conflict` with the server's process; `Damaged` when `postmaster.pid` cannot be understood.
pub(crate) async fn refuse_foreign_server(cluster: &Cluster) -> Result<bool> {
    match foreign::look(cluster).await? {
        Runs::Nobody => Ok(false),
        Runs::Ours => Ok(true),
        Runs::Foreign(pid_file) => Err(Error::conflict(
            format!("a server that pgpersist did not start runs in {} (process {})", cluster.path().display(), pid_file.pid),
            "stop it with `pgpersist stop`, run `pgpersist init` again, then `pgpersist start`: only then does pgpersist's lock protect the directory",
        )),
    }
}

/// Proves that a `postmaster.pid` which names no process of ours is a leftover; one that is not there is no question.
/// Watches the directory for so long before it refuses. Touches nothing.
///
/// # Errors
/// `Unsafe` with the evidence when nothing proves it.
pub(crate) async fn prove_server_gone(cluster: &Cluster, watch: Duration) -> Result<()> {
    match cluster.presence().await? {
        Presence::Stale(pid_file) => stale::prove(cluster, &pid_file, watch, false).await.map_err(with_remedy_of_init),
        Presence::None | Presence::Running(_) => Ok(()),
    }
}

/// Makes the directory free for a server of our own: whatever a killed one left has ended, and its `postmaster.pid`, which a
/// server of ours would trip over, is removed once it is proven to be a leftover. The caller holds the server's lock.
///
/// # Errors
/// `Unsafe` as [`prove_server_gone`]; `Conflict` when processes of another server do not end.
pub(crate) async fn clear_of_killed_server(cluster: &Cluster) -> Result<()> {
    let deadline = Instant::now() + ORPHANS_GRACE;
    loop {
        let path = cluster.path().to_owned();
        let orphans = workers::run(move || Ok(process::working_in(&path))).await?;
        if orphans.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            return Err(Error::conflict(
                format!("processes of another server still run in {}: {orphans:?}", cluster.path().display()),
                "stop the server or the container that they belong to, and run `pgpersist init` again",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    match cluster.presence().await? {
        Presence::Stale(pid_file) => stale::remove_pid_file(cluster, &pid_file, WATCH, false).await.map_err(with_remedy_of_init),
        Presence::None | Presence::Running(_) => Ok(()),
    }
}

/// `start` has an option to insist, and `init` has none: it says whom to tell.
fn with_remedy_of_init(error: Error) -> Error {
    match error {
        Error::Unsafe { what, remedy: Some(remedy) } if remedy.contains("--yes") => Error::refused(
            what,
            "if you are sure that no other machine or container uses this directory, `pgpersist start --yes` takes it over; then run `pgpersist init` again",
        ),
        other => other,
    }
}
