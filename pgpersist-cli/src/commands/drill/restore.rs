//! `drill restore`: load the newest dumps into an empty cluster, and see whether everything comes back.

use std::sync::Arc;

use serde_json::json;

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::{Exit, code};
use crate::keys::LoadKeyArgs;
use crate::{database, runtime, store};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::load::Config;
use pgpersist_core::configured;
use pgpersist_core::data_directory::own_folder::OwnFolder;
use pgpersist_core::drill::restore::{self, RestoreOptions};
use pgpersist_core::drill::restore_report::RestoreReport;
use pgpersist_core::drill::subjects::Subjects;
use pgpersist_core::drill::{Verdict, history};
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::logical::load_options::Trust;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::progress::ProgressSink;

/// Load the newest dumps into an empty cluster, check what came back, and time it
///
/// The rows of each table are compared with what was recorded when the dump was made, indexes and tables are checked with
/// amcheck, and each `[[drill.check]]` of the configuration is asked. The live server is not needed and never asked. The
/// result is recorded beside the data and in the store, where `health` and `drill list` see it.
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist drill restore --store /app/backups/postgres")]
#[command(after_help = "Exit codes: 0 everything came back, 7 something did not, 4 there is no dump, 6 the drill could not be made")]
pub(super) struct RestoreArgs {
    /// A database; give it again for more. Else the configured ones, else each that has dumps
    #[arg(short = 'd', long, value_name = "DATABASE", allow_hyphen_values = true, value_parser = database::parse)]
    database: Vec<String>,
    /// One dump by its name in the store, or `latest`; else the newest good one of each database
    #[arg(long, value_name = "NAME")]
    dump: Option<String>,
    /// Run the dumps' SQL as the superuser: they can then do whatever they like on this machine
    #[arg(long)]
    trust: bool,
    /// Keep the cluster (stopped), to be looked at
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    keys: LoadKeyArgs,
}

impl RestoreArgs {
    pub(super) fn reading(&self) -> Reading {
        self.keys.reading()
    }
}

pub(super) fn run(args: &RestoreArgs, context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let shelf = store::existing_shelf(context)?;
    let options = RestoreOptions {
        subjects: subjects(args, config)?,
        trust: if args.trust { Trust::Superuser } else { Trust::OwnDump },
        keep: args.keep,
        ..configured::drill::scheduled(config)?
    };
    if context.common.dry_run {
        let plan = runtime::block_on("`drill restore --dry-run`", restore::plan(&shelf, &options))?;
        context.output.write(|| json!({ "plan": plan }), || super::lines(&plan))?;
        return Ok(Exit::DONE);
    }
    let own = configured::drill::volume(config)?;
    let report = runtime::block_on("`drill restore`", async {
        let (clock, progress): (Arc<dyn Clock>, Arc<dyn ProgressSink>) = (Arc::new(SystemClock), context.progress.clone());
        let report = restore::run(&shelf, &options, &clock, &progress).await?;
        record(&report, own.as_ref(), &shelf, context).await;
        Ok(report)
    })?;
    context.output.write(|| document(&report), || report.to_text())?;
    Ok(if report.verdict == Verdict::Pass { Exit::DONE } else { Exit(code(ErrorKind::Damaged)) })
}

fn subjects(args: &RestoreArgs, config: &Config) -> Result<Subjects> {
    Ok(match (&args.dump, &args.database[..]) {
        (None, []) => Subjects::Cluster(config.cluster.databases.clone()),
        (None, named) => Subjects::Databases(named.to_vec()),
        (Some(name), []) => Subjects::Dump { name: name.clone(), database: None },
        (Some(name), [one]) => Subjects::Dump { name: name.clone(), database: Some(one.clone()) },
        (Some(_), _) => {
            return Err(pgpersist_core::Error::invalid("one dump is of one database", "give `-d` once, or leave out `--dump`"));
        }
    })
}

/// A drill is not undone by a place that cannot be written.
async fn record(report: &RestoreReport, own: Option<&OwnFolder>, shelf: &Shelf, context: &Context) {
    if let Err(error) = history::keep_restore(report, own, shelf).await {
        let told = std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ");
        context.progress.warn(&format!("this drill is not recorded everywhere, and `health` may not know of it: {told}"));
    }
}
