//! `stop`: end the server cleanly.

use std::time::Duration;

use crate::cluster;
use crate::commands::lifecycle::{self, Verb};
use crate::commands::status;
use crate::context::Context;
use crate::exit::Exit;
use crate::runtime;
use pgpersist_core::agent::supervising;
use pgpersist_core::error::Result;

/// Stop the server: fast, and when that takes too long, immediately; an agent that supervises it ends, too
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist stop -D /app/pgdata")]
pub(crate) struct Args {
    /// How long the clean shutdown may take before an immediate one follows, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    if context.common.dry_run {
        return lifecycle::tell(Verb::Stop, &cluster, context);
    }
    let report = runtime::block_on("`stop`", supervising::stop(&cluster, Duration::from_secs(args.timeout)))?;
    for warning in report.warnings() {
        context.progress.warn(&warning);
    }
    context.output.write(
        || status::document(&report),
        || {
            let said = if report.changed { "Stopped.\n" } else { "It did not run.\n" };
            format!("{said}{}", status::text(&report.status))
        },
    )?;
    Ok(Exit::DONE)
}
