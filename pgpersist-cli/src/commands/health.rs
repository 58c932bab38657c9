//! `health`: is everything well? The report goes to stdout in the format that was asked for; the exit code is the verdict.

use crate::args::Format;
use crate::cluster;
use crate::context::Context;
use crate::exit::Exit;
use crate::runtime;
use pgpersist_core::clock::SystemClock;
use pgpersist_core::error::Result;
use pgpersist_core::health::Status;
use pgpersist_core::health::checks::disk::DiskLimits;
use pgpersist_core::health::checks::probe::Probe;
use pgpersist_core::health::checks::standard::{HealthOptions, checks};
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
    let options = options(&args.table, context)?;
    let report = runtime::block_on("`health`", async {
        let options = options.with_databases_of_server().await;
        Ok(report::run(&checks(&options)?, &SystemClock).await)
    })?;
    let document = json::render(&report)?;
    context.output.verbatim(|| document, &rendered(&report, context.output.format()))?;
    Ok(if context.output.format() == Format::Nagios { Exit(nagios::exit_code(&report)) } else { Exit(verdict(report.status, args.strict)) })
}

/// What is to be looked at, and these tables.
pub(super) fn options(tables: &[String], context: &Context) -> Result<HealthOptions> {
    let config = context.config()?;
    let mut options = HealthOptions::new(cluster::open(context)?);
    options.cluster_name.clone_from(&config.cluster.name);
    options.stores = config.stores.iter().map(|store| store.url.clone()).collect();
    options.databases.clone_from(&config.cluster.databases);
    if let (true, Some(database)) = (options.databases.is_empty(), &config.connection.database) {
        options.databases.push(database.value.clone());
    }
    options.probes = config
        .health
        .probes
        .iter()
        .map(|probe| Probe { name: probe.name.clone(), database: probe.database.clone(), sql: probe.sql.clone() })
        .collect();
    // A probe of the same name has its finding already.
    options.tables = tables.iter().filter(|table| !options.probes.iter().any(|probe| probe.name == **table)).cloned().collect();
    options.tables.dedup();
    options.schedules = config.schedule.named();
    options.dump_max_age = config.health.dump_max_age;
    options.drill_max_age = config.health.drill_max_age;
    options.disk = DiskLimits {
        warn_percent: config.health.disk_warn_percent,
        fail_percent: config.health.disk_fail_percent,
        warn_full_in: config.health.disk_full_warn,
        fail_full_in: config.health.disk_full_fail,
    };
    options.ballast_bytes = config.cluster.ballast_bytes;
    Ok(options)
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
