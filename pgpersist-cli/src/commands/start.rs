//! `start`: the server of the data directory, ready for connections.

use std::time::Duration;

use crate::cluster;
use crate::commands::lifecycle::{self, Verb};
use crate::commands::status;
use crate::context::Context;
use crate::exit::Exit;
use crate::runtime;
use pgpersist_core::error::Result;
use pgpersist_core::server::start::{self, StartOptions, StartReport};
use pgpersist_core::wording::size;

/// Start the server and wait until it accepts connections
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist start -D /app/pgdata")]
pub(crate) struct Args {
    /// How long to wait until it is ready, in seconds; a recovery that takes longer goes on by itself
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    if context.common.dry_run {
        return lifecycle::tell(Verb::Start, &cluster, context);
    }
    let options = StartOptions { timeout: Duration::from_secs(args.timeout), trust_stale_pid: context.common.yes };
    let report = runtime::block_on("`start`", async { start::start(&cluster, &options).await })?;
    warn_of_ballast(&report, context);
    context.output.write(
        || status::document(&report),
        || {
            let said = if report.changed { format!("Started in {:.2} s.\n", report.duration_s) } else { "It runs already.\n".to_owned() };
            format!("{said}{}", status::text(&report.status))
        },
    )?;
    Ok(Exit::DONE)
}

/// A server that found room only since the ballast was given back.
pub(super) fn warn_of_ballast(report: &StartReport, context: &Context) {
    if let Some(bytes) = report.ballast_given_back_bytes {
        context
            .progress
            .warn(&format!("the volume was full: {} of ballast were given back so that the server could start; make room", size(bytes)));
    }
}
