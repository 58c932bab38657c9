//! `fence` and `unfence`: the server down, and the pod and its volume up, for somebody to look.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster;
use crate::commands::status;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::{runtime, supervising};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::data_directory::fence::{self, Fence};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::server::cluster::{Cluster, ServerState};
use pgpersist_core::server::stop;
use pgpersist_core::workers;

/// How often is looked whether an agent has done its part.
const POLL: Duration = Duration::from_millis(100);

/// Shut the server down and keep it down, while its agent, and so the pod, stays up
///
/// The fence lies on the volume: it holds for `start` and for every `run` to come, until `pgpersist unfence`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist fence --reason 'amcheck found something' -D /app/pgdata")]
pub(crate) struct FenceArgs {
    /// Why, for whoever meets the fence
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long the clean shutdown may take before an immediate one follows, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// Take the fence away: an agent that waits starts the server
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist unfence -D /app/pgdata")]
pub(crate) struct UnfenceArgs {
    /// How long to wait until the agent's server accepts connections, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

pub(crate) fn fence(args: &FenceArgs, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    let directory = cluster.path().display().to_string();
    if context.common.dry_run {
        let plan = [format!("put up a fence, so that no server is started in {directory}"), format!("shut the server in {directory} down")];
        return tell(&plan, context);
    }
    let timeout = Duration::from_secs(args.timeout);
    let (standing, changed) = runtime::block_on("`fence`", async {
        cluster.directory().state().await?.into_cluster(cluster.path())?;
        let own = cluster.directory().own_folder().clone();
        let wanted = Fence { since: SystemClock.now(), reason: args.reason.clone() };
        let standing = workers::run(move || fence::put(&own, wanted)).await?;
        Ok((standing, shut_down(&cluster, timeout).await?))
    })?;
    write(&cluster, changed, Some(standing), context)
}

pub(crate) fn unfence(args: &UnfenceArgs, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    if context.common.dry_run {
        return tell(&[format!("take the fence of {} away; an agent that waits starts the server", cluster.path().display())], context);
    }
    let changed = runtime::block_on("`unfence`", async {
        cluster.directory().state().await?.into_cluster(cluster.path())?;
        let own = cluster.directory().own_folder().clone();
        let changed = workers::run(move || fence::remove(&own)).await?;
        let deadline = Instant::now() + Duration::from_secs(args.timeout);
        while changed && supervising::is_there(&cluster).await? && cluster.status().await?.state != ServerState::Running {
            if Instant::now() > deadline {
                context.progress.warn("the fence is gone; the server does not accept connections yet: look at what its agent says");
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(changed)
    })?;
    write(&cluster, changed, None, context)
}

/// Waits until the agent has shut the server down, or does it where there is none; whether there was one to shut down.
async fn shut_down(cluster: &Cluster, timeout: Duration) -> Result<bool> {
    let ran = cluster.presence().await?.running().is_some();
    // An agent gives an immediate shutdown some time after the fast one.
    let deadline = Instant::now() + timeout + Duration::from_secs(30);
    while supervising::is_there(cluster).await? {
        if cluster.presence().await?.running().is_none() {
            return Ok(ran);
        }
        if Instant::now() > deadline {
            return Err(Error::Deadline {
                what: "the fence stands, but the agent has not shut its server down".to_owned(),
                after: timeout,
                remedy: Some("look at what the agent says; `pgpersist stop` ends both".to_owned()),
            });
        }
        tokio::time::sleep(POLL).await;
    }
    stop::stop(cluster, timeout).await.map(|report| report.changed)
}

fn write(cluster: &Cluster, changed: bool, fence: Option<Fence>, context: &Context) -> Result<Exit> {
    let status = runtime::block_on("the look at the server", async { cluster.status().await })?;
    context.output.write(
        || {
            let mut document = status::document(&status);
            document["changed"] = changed.into();
            document["fence"] = json!(fence);
            document
        },
        || {
            let said = match (&fence, changed) {
                (Some(fence), _) => format!("The directory is {}.\n", printable(&fence.describe())),
                (None, true) => "The fence is gone.\n".to_owned(),
                (None, false) => "There was no fence.\n".to_owned(),
            };
            format!("{said}{}", status::text(&status))
        },
    )?;
    Ok(Exit::DONE)
}

fn tell(plan: &[String], context: &Context) -> Result<Exit> {
    let text = || plan.iter().enumerate().map(|(number, step)| format!("{}. {}\n", number + 1, printable(step))).collect();
    context.output.write(|| json!({ "plan": plan }), text).map(|()| Exit::DONE)
}
