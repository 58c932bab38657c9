//! `migrate`: move a cluster to another directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::cluster;
use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::runtime;
use pgpersist_core::config::sources::Flag;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::Result;
use pgpersist_core::migrate::plan::{MigrationAction, MigrationPlan};
use pgpersist_core::migrate::run::{self, MigrateOptions, MigrateReport};
use pgpersist_core::progress::ProgressSink;
use pgpersist_core::server::cluster::{Cluster, ClusterOptions};
use pgpersist_core::wording::size;

/// Move a cluster to another directory: copied, compared, switched; the source is kept and set aside
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist migrate --from /var/lib/postgresql/15/main --to /app/pgdata --yes")]
pub(crate) struct Args {
    /// The data directory that the cluster lives in; a running server is stopped at the end, which needs --yes
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The directory that it is to live in, absent or empty; else the configured data directory
    #[arg(long, value_name = "DIR", conflicts_with = "data_directory")]
    to: Option<String>,
    /// How long the clean shutdown of a running server may take before an immediate one follows, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Args {
    /// The target is the data directory that all else of the configuration is about.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        let to = self.to.iter().map(|to| Flag { key: "cluster.data_directory", option: "--to", values: vec![to.clone()] });
        to.collect()
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let target = cluster::open(context)?;
    // How clients reach the new place says nothing about where the old server listens.
    let options = ClusterOptions { host: None, log_directory: None, ..target.options().clone() };
    let source = Cluster::new(Arc::new(LocalDataDirectory::open(&args.from)?), target.search().clone(), options);
    let options = MigrateOptions {
        cluster_name: context.config()?.cluster.name.clone(),
        consent: context.common.yes,
        stop_timeout: Duration::from_secs(args.timeout),
        ..MigrateOptions::default()
    };
    if context.common.dry_run {
        let plan = runtime::block_on("`migrate --dry-run`", async { run::plan(&source, &target, &options).await })?;
        for warning in &plan.warnings {
            context.progress.warn(warning);
        }
        context.output.write(|| json!({ "plan": document(&plan) }), || plan_text(&plan))?;
        return Ok(Exit::DONE);
    }
    let progress: Arc<dyn ProgressSink> = context.progress.clone();
    let report = runtime::block_on("`migrate`", async { run::migrate(&source, &target, &options, &progress).await })?;
    context.output.write(|| document(&report), || report_text(&report))?;
    Ok(Exit::DONE)
}

fn plan_text(plan: &MigrationPlan) -> String {
    if plan.action == MigrationAction::Nothing {
        return format!("There is nothing to do: {} was moved before.\n", printable(&plan.from.display().to_string()));
    }
    let steps: Vec<String> = plan.steps.iter().map(|step| format!("  {}\n", printable(step))).collect();
    let consent = plan.consent_to.as_ref().map_or(String::new(), |action| format!("It needs --yes: {}.\n", printable(action)));
    format!("Would\n{}{consent}", steps.concat())
}

fn report_text(report: &MigrateReport) -> String {
    let (from, to) = (report.from.display().to_string(), report.to.display().to_string());
    let (from, to) = (printable(&from), printable(&to));
    if !report.changed {
        return format!("There was nothing to do: {from} was moved to {to} before.\n");
    }
    let resumed = if report.resumed { ", going on where an earlier run stopped" } else { "" };
    let down = if report.downtime_s > 0.0 { format!("; the server was down for {:.2} s", report.downtime_s) } else { String::new() };
    let undo: Vec<String> = report.undo.iter().map(|command| format!("  {}\n", printable(command))).collect();
    format!(
        "Moved {from} to {to}: {} files, {}, each compared{resumed}{down}.\n\
         The source is kept, and no server starts in it any more. Next: `pgpersist init -D {to}`, then `pgpersist start -D {to}`.\n\
         To go back, without what is written from now on:\n{}",
        report.files,
        size(report.bytes),
        undo.concat()
    )
}
