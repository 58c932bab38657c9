//! `restore`: a backup becomes a data directory.

use serde_json::json;

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::keys::LoadKeyArgs;
use crate::output::printable;
use crate::progress::count;
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::restore::physical::{RestoreOptions, RestoreReport};
use pgpersist_core::restore::request::LATEST;
use pgpersist_core::wording::size;

/// Restore a backup into an absent or empty data directory
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist restore latest -D /app/pgdata --store /app/backups/postgres")]
pub(crate) struct Args {
    /// A backup's name, or `latest`
    #[arg(value_name = "NAME", default_value = LATEST)]
    name: String,
    #[command(flatten)]
    keys: LoadKeyArgs,
}

impl Args {
    pub(super) fn reading(&self) -> Reading {
        self.keys.reading()
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let request = configured::backup::restore(context.config()?, args.name.clone(), RestoreOptions::default())?;
    if context.common.dry_run {
        let (_, backup) = runtime::block_on("`restore --dry-run`", request.find())?;
        let step = format!("restore {backup} to {}", request.cluster.path().display());
        context.output.write(|| json!({ "plan": [step] }), || format!("Would {}.\n", printable(&step)))?;
        return Ok(Exit::DONE);
    }
    let report = runtime::block_on("`restore`", request.carry_out(context.progress.as_ref()))?;
    for name in &report.settings_removed {
        context.progress.warn(&format!("{name} of another recovery was taken out of postgresql.auto.conf"));
    }
    context.output.write(|| document(&report), || text(&report))?;
    Ok(Exit::DONE)
}

fn text(report: &RestoreReport) -> String {
    let directory = report.data_directory.display().to_string();
    format!(
        "Restored {} to {}: {}, {}, each held against its hash, in {:.1} s.\nNext: `pgpersist start -D {}`.\n",
        report.name,
        printable(&directory),
        count(report.files, "file"),
        size(report.bytes),
        report.duration_s,
        printable(&directory)
    )
}
