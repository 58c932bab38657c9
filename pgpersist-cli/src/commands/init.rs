//! `init`: make the data directory ready.

use std::sync::Arc;

use serde_json::json;

use crate::cluster;
use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::keys::LoadKeyArgs;
use crate::output::printable;
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::init::plan::InitPlan;
use pgpersist_core::init::ready;
use pgpersist_core::progress::ProgressSink;

/// Make the data directory ready: adopt what is there, create a cluster, restore one, or refuse
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist init -D /app/pgdata --store /app/backups/postgres")]
pub(crate) struct Args {
    /// Accept a place that does not survive this machine
    #[arg(long)]
    pub(super) allow_ephemeral: bool,
    /// Begin a new history although another cluster is known here; its backups are kept
    #[arg(long, conflicts_with = "restore_latest")]
    new: bool,
    /// Load the newest backups when the directory is empty
    #[arg(long)]
    restore_latest: bool,
    #[command(flatten)]
    keys: LoadKeyArgs,
}

impl Args {
    pub(super) fn reading(&self) -> Reading {
        self.keys.reading()
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let cluster = cluster::open(context)?;
    let mut options = configured::init::options(config, args.allow_ephemeral)?;
    options.wishes.new = args.new;
    options.wishes.restore_latest = args.restore_latest;
    // Without a store there is nobody to ask what is known of this cluster, apart from the card on the volume.
    let shelf = configured::stores::shelf_if_any(config)?;
    if context.common.dry_run {
        let plan = runtime::block_on("`init --dry-run`", async { ready::plan(&cluster, shelf.as_ref(), options.wishes).await })?;
        let text = || format!("Would {}.\n", step(&plan, &cluster.path().display().to_string()));
        return context.output.write(|| json!({ "plan": document(&plan) }), text).map(|()| Exit::DONE);
    }
    let progress: Arc<dyn ProgressSink> = context.progress.clone();
    let report = runtime::block_on("`init`", async { ready::make_ready(&cluster, shelf.as_ref(), &options, &progress).await })?;
    context.output.write(
        || document(&report),
        || {
            let what = match report.action {
                "created" => "Created a cluster",
                "restored" => "Restored the cluster",
                _ => "Adopted the cluster",
            };
            let mut text = format!(
                "{what} in {}: PostgreSQL {}, system identifier {}.\n",
                printable(&report.data_directory.display().to_string()),
                report.version,
                report.system_identifier
            );
            for name in &report.databases_created {
                text.push_str(&format!("  created the database {}\n", printable(name)));
            }
            text
        },
    )?;
    Ok(Exit::DONE)
}

/// What would be done first, after "would".
pub(super) fn step(plan: &InitPlan, directory: &str) -> String {
    let directory = printable(directory);
    match plan {
        InitPlan::Adopt { system_identifier } => format!("adopt the cluster {system_identifier} in {directory}"),
        InitPlan::Create => format!("create a cluster in {directory}"),
        InitPlan::Restore { backup: Some(backup), .. } => format!("restore the backup {} to {directory}", printable(backup)),
        InitPlan::Restore { backup: None, dumps } => {
            format!("create a cluster in {directory} and load {}", dumps.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", "))
        }
    }
}
