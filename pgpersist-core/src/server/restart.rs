//! Restarting a server: everything that could keep it from starting is looked at while it still runs.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::server::cluster::Cluster;
use crate::server::installation::PostgresInstallation;
use crate::server::lock;
use crate::server::process;
use crate::server::settings::FILE_NAME;
use crate::server::socket::Sockets;
use crate::server::start::{StartOptions, StartReport, start_claimed};
use crate::server::stop::{StopReport, stop};
use crate::workers;

/// What restarting did.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartReport {
    /// How the old server ended.
    pub stopped: StopReport,
    /// How the new one came up.
    pub started: StartReport,
}

/// Stops the server, which gets `timeout` for it, and starts it with the settings of now. One that does not run is started.
///
/// # Errors
/// As [`stop`] and [`crate::server::start::start`]. When another pgpersist works on the directory, when no programs fit it,
/// or when they refuse the settings, a running server is left alone.
pub fn restart<'a>(cluster: &'a Cluster, timeout: Duration, options: &'a StartOptions) -> BoxFuture<'a, Result<RestartReport>> {
    Box::pin(async move {
        cluster.directory().state().await?.into_cluster(cluster.path())?;
        let installation = cluster.installation().await?;
        let claim = cluster.directory().claim().await?;
        let (checked, programs) = (cluster.clone(), installation.clone());
        workers::run(move || check_settings(&checked, &programs)).await?;
        refuse_leftovers(cluster).await?;
        let stopped = stop(cluster, timeout).await?;
        let started = start_claimed(cluster, &claim, &installation, options, Instant::now()).await?;
        Ok(RestartReport { stopped, started })
    })
}

/// Has `postgres` read the configuration as it would be started with. What it refuses does not stay: the server that runs
/// would stumble over it at its next reload.
pub(crate) fn check_settings(cluster: &Cluster, installation: &PostgresInstallation) -> Result<()> {
    let file = cluster.path().join(FILE_NAME);
    let before = fs::read(&file).ok();
    let checked = cluster.settings().install(cluster.path()).and_then(|()| Sockets::choose(cluster, installation).map(drop));
    if checked.is_err()
        && let Some(before) = before
        && fs::read(&file).ok().as_ref() != Some(&before)
    {
        durable::write(&file, &before, 0o600)?;
    }
    checked
}

/// Refuses while a program that an earlier server started, and that no process of this one is above, holds the lock: it
/// would hold it on when this server has ended.
async fn refuse_leftovers(cluster: &Cluster) -> Result<()> {
    let Some(pid) = cluster.presence().await?.running().map(|pid_file| pid_file.pid) else { return Ok(()) };
    let directory = cluster.directory().clone();
    let leftovers = workers::run(move || {
        let children = process::descendants(pid);
        let mut holders = lock::holders(directory.as_ref());
        holders.retain(|holder| holder.pid != pid && !children.contains(&holder.pid) && !process::is_called_postgres(&holder.name));
        Ok(holders)
    })
    .await?;
    if leftovers.is_empty() {
        return Ok(());
    }
    Err(Error::conflict(
        format!("{}, which the server started, would keep its lock when the server has ended", lock::named(&leftovers)),
        "end it first, or wait until it has ended; the server was left alone",
    ))
}
