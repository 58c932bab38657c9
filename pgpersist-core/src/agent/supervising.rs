//! What others owe the agent that supervises a cluster, where there is one: it is found by its socket, asked how it is, kept
//! from doing the same meanwhile, and ended together with its server.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::agent::control::client::{Control, Held};
use crate::agent::control::protocol::AgentView;
use crate::error::Result;
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::Cluster;
use crate::server::stop::{self, StopReport};
use crate::server::supervisor;

/// Whether there is one. From a fence to making ready it lets go of the directory for a moment, and its socket stays.
///
/// # Errors
/// As [`supervisor::is_there`] and [`Control::find`].
pub async fn is_there(cluster: &Cluster) -> Result<bool> {
    Ok(supervisor::is_there(cluster).await? || Control::find(cluster).await?.is_some())
}

/// How it is. One that does not answer is a warning: what the caller does, it does without an agent, too.
///
/// # Errors
/// As [`Control::find`].
pub fn view<'a>(cluster: &'a Cluster, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<Option<AgentView>>> {
    Box::pin(async move {
        let Some(control) = Control::find(cluster).await? else { return Ok(None) };
        let view = control.status().await;
        Ok(view.inspect_err(|error| progress.event(Event::Warning(error.to_string()))).ok())
    })
}

/// Keeps it from doing the same meanwhile, until the answer is dropped, and waits for the end of what it does already. `job` is
/// a job's name, such as [`schedule::DUMP`](crate::schedule::DUMP). One that does not answer is a warning.
///
/// # Errors
/// As [`Control::find`].
pub async fn hold(job: &str, cluster: &Cluster, progress: &dyn ProgressSink) -> Result<Option<Held>> {
    let Some(control) = Control::find(cluster).await? else { return Ok(None) };
    let busy = || progress.event(Event::Step(format!("waiting until the agent has done its own {job}")));
    let held = control.hold(job, busy).await;
    Ok(held.inspect_err(|error| progress.event(Event::Warning(error.to_string()))).ok())
}

/// Ends it and its server; a server without one likewise.
///
/// # Errors
/// As [`stop::stop`] and [`Control::stop`].
pub fn stop<'a>(cluster: &'a Cluster, timeout: Duration) -> BoxFuture<'a, Result<StopReport>> {
    Box::pin(async move {
        cluster.directory().state().await?.into_cluster(cluster.path())?;
        let Some(control) = Control::find(cluster).await? else { return stop::stop(cluster, timeout).await };
        let ran = cluster.presence().await?.running().is_some();
        let hurried = control.stop(cluster, timeout).await?;
        let report = stop::stop(cluster, timeout).await?;
        Ok(StopReport { changed: report.changed || ran, immediate: report.immediate || (ran && hurried), ..report })
    })
}
