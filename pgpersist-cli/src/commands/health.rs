//! `health`: is everything well? The report goes to stdout in the format that was asked for; the exit code is the verdict.

use crate::args::Format;
use crate::context::Context;
use crate::exit::Exit;
use crate::runtime;
use pgpersist_core::clock::SystemClock;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::health::Status;
use pgpersist_core::health::checks::standard::checks;
use pgpersist_core::health::render::{json, nagios, prometheus, text};
use pgpersist_core::health::report::{self, Report};

/// Tell whether everything is well: the data and where it lies, the server, its databases, the dumps
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist health -D /app/pgdata --store /app/backups/postgres --table orders")]
#[command(after_help = "Exit codes: 0 pass or warn, 1 fail or unknown; with --strict a warning is 1 too. --format nagios alone has \
    those of Nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN")]
pub(crate) struct Args {
    /// A warning is a failure
    #[arg(long)]
    strict: bool,
    /// Show how many rows this table has; `orders` or `schema.orders`, may be given again
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let options = configured::health::options(context.config()?, &args.table)?;
    let report = runtime::block_on("`health`", async {
        let options = options.with_databases_of_server().await;
        Ok(report::run(&checks(&options)?, &SystemClock).await)
    })?;
    let document = json::render(&report)?;
    context.output.verbatim(|| document, &rendered(&report, context.output.format()))?;
    Ok(if context.output.format() == Format::Nagios { Exit(nagios::exit_code(&report)) } else { Exit(verdict(report.status, args.strict)) })
}

fn rendered(report: &Report, format: Format) -> String {
    match format {
        Format::Prometheus => prometheus::render(report),
        Format::Nagios => nagios::render(report),
        Format::Text | Format::Json | Format::Markdown | Format::Html => text::render(report),
    }
}

fn verdict(status: Status, strict: bool) -> u8 {
    match status {
        Status::Pass => 0,
        Status::Warn => u8::from(strict),
        Status::Unknown | Status::Fail => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_counts_only_when_strict() {
        let codes = |strict| [Status::Pass, Status::Warn, Status::Unknown, Status::Fail].map(|status| verdict(status, strict));
        assert_eq!((codes(false), codes(true)), ([0, 0, 1, 1], [0, 1, 1, 1]));
    }
}
