//! `fence` and `unfence`: the server down, and the pod and its volume up, for somebody to look.

use std::time::Duration;

use serde_json::json;

use crate::cluster;
use crate::commands::status;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::runtime;
use pgpersist_core::agent::fencing::{self, FenceReport};
use pgpersist_core::error::Result;

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
    let report = runtime::block_on("`fence`", fencing::fence(&cluster, args.reason.clone(), timeout))?;
    write(&report, context)
}

pub(crate) fn unfence(args: &UnfenceArgs, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    if context.common.dry_run {
        return tell(&[format!("take the fence of {} away; an agent that waits starts the server", cluster.path().display())], context);
    }
    let timeout = Duration::from_secs(args.timeout);
    let report = runtime::block_on("`unfence`", fencing::unfence(&cluster, timeout, context.progress.as_ref()))?;
    write(&report, context)
}

fn write(report: &FenceReport, context: &Context) -> Result<Exit> {
    context.output.write(
        || status::document(report),
        || {
            let said = match (&report.fence, report.changed) {
                (Some(fence), _) => format!("The directory is {}.\n", printable(&fence.describe())),
                (None, true) => "The fence is gone.\n".to_owned(),
                (None, false) => "There was no fence.\n".to_owned(),
            };
            format!("{said}{}", status::text(&report.status))
        },
    )?;
    Ok(Exit::DONE)
}

fn tell(plan: &[String], context: &Context) -> Result<Exit> {
    let text = || plan.iter().enumerate().map(|(number, step)| format!("{}. {}\n", number + 1, printable(step))).collect();
    context.output.write(|| json!({ "plan": plan }), text).map(|()| Exit::DONE)
}
