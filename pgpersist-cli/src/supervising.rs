//! The agent that supervises the cluster, where there is one: commands find it by its socket.

use std::time::Duration;

use crate::context::Context;
use pgpersist_core::agent::control::client::{Control, Held};
use pgpersist_core::agent::control::protocol::AgentView;
use pgpersist_core::error::Result;
use pgpersist_core::progress::{Event, ProgressSink};
use pgpersist_core::server::cluster::Cluster;
use pgpersist_core::server::stop::{self, StopReport};
use pgpersist_core::server::supervisor;

/// Whether there is one. From a fence to making ready it lets go of the directory for a moment, and its socket stays.
pub(crate) async fn is_there(cluster: &Cluster) -> Result<bool> {
    Ok(supervisor::is_there(cluster).await? || Control::find(cluster).await?.is_some())
}

/// How it is. One that does not answer is a warning: what the command does, it does without an agent, too.
pub(crate) async fn view(cluster: &Cluster, context: &Context) -> Result<Option<AgentView>> {
    let Some(control) = Control::find(cluster).await? else { return Ok(None) };
    let view = control.status().await;
    Ok(view.inspect_err(|error| context.progress.warn(&error.to_string())).ok())
}

/// Keeps it from doing the same meanwhile, and waits for the end of what it does already.
pub(crate) async fn hold(job: &str, cluster: &Cluster, context: &Context) -> Result<Option<Held>> {
    let Some(control) = Control::find(cluster).await? else { return Ok(None) };
    let busy = || context.progress.event(Event::Step(format!("waiting until the agent has done its own {job}")));
    let held = control.hold(job, busy).await;
    Ok(held.inspect_err(|error| context.progress.warn(&error.to_string())).ok())
}

/// Ends it and its server; a server without one likewise.
///
/// # Errors
/// As [`stop::stop`].
pub(crate) async fn stop(cluster: &Cluster, timeout: Duration) -> Result<StopReport> {
    cluster.directory().state().await?.into_cluster(cluster.path())?;
    let Some(control) = Control::find(cluster).await? else { return stop::stop(cluster, timeout).await };
    let ran = cluster.presence().await?.running().is_some();
    let hurried = control.stop(cluster, timeout).await?;
    let report = stop::stop(cluster, timeout).await?;
    Ok(StopReport { changed: report.changed || ran, immediate: report.immediate || (ran && hurried), ..report })
}
