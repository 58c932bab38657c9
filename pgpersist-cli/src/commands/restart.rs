//! `restart`: stop, then start.

use std::time::Duration;

use crate::cluster;
use crate::commands::lifecycle::{self, Verb};
use crate::commands::{start, status};
use crate::context::Context;
use crate::exit::Exit;
use crate::runtime;
use pgpersist_core::error::Result;
use pgpersist_core::server::restart;
use pgpersist_core::server::start::StartOptions;

/// Stop the server and start it again, with the configuration of now
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist restart -D /app/pgdata")]
pub(crate) struct Args {
    /// How long stopping, and then starting, may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    if context.common.dry_run {
        return lifecycle::tell(Verb::Restart, &cluster, context);
    }
    let timeout = Duration::from_secs(args.timeout);
    let options = StartOptions { timeout, trust_stale_pid: context.common.yes };
    let report = runtime::block_on("`restart`", async { restart::restart(&cluster, timeout, &options).await })?;
    for warning in report.stopped.warnings() {
        context.progress.warn(&warning);
    }
    let report = report.started;
    start::warn_of_ballast(&report, context);
    context
        .output
        .write(|| status::document(&report), || format!("Restarted in {:.2} s.\n{}", report.duration_s, status::text(&report.status)))?;
    Ok(Exit::DONE)
}
