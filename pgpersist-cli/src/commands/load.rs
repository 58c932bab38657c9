//! `load`: a dump becomes a database, all or nothing.

use std::io;
use std::sync::Arc;

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::keys::LoadKeyArgs;
use crate::output::printable;
use crate::progress::count;
use crate::{cluster, database, runtime};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::load::Config;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::dump_source::FoundDump;
use pgpersist_core::logical::load_found::{self, load_found};
use pgpersist_core::logical::load_options::{Existing, LoadOptions, LoadReport, LoadedOwners, OtherSessions, Trust};
use pgpersist_core::pg::quote;
use pgpersist_core::progress::ProgressSink;

/// Load a dump into a database, all or nothing
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist load latest -d customerInvoice --store /app/backups/postgres")]
pub(crate) struct Args {
    /// A dump's name in the store, `latest`, the path of a file (with a `/` in it), or `-` for standard input
    #[arg(value_name = "NAME")]
    name: String,
    /// The database to make; else the one that the dump was made of
    #[arg(short = 'd', long, value_name = "DATABASE", allow_hyphen_values = true, value_parser = database::parse)]
    database: Option<String>,
    /// Replace a database that holds something: it is renamed and kept; needs --yes
    #[arg(long)]
    clean: bool,
    /// End other sessions of the database that is replaced
    #[arg(long)]
    disconnect: bool,
    /// Run the dump's SQL as the superuser, and leave to superusers what it gives them: it can then do whatever it likes on this machine
    #[arg(long)]
    trust: bool,
    /// Everything belongs to the database's owner, and nothing is granted: for servers without the dump's roles
    #[arg(long)]
    no_owner: bool,
    /// Load into this cluster's locale where the dump's is another; the order of texts may change
    #[arg(long)]
    accept_locale: bool,
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
    let progress = context.progress.clone();
    let report = runtime::block_on("`load`", async {
        let found = find(args, config, progress.as_ref()).await?;
        let database = configured::load::database(config, &found, args.database.as_deref())?;
        let plan = load_found::plan(&found, &database);
        if context.common.dry_run {
            return Ok(Done::Planned(plan));
        }
        if args.clean {
            context.consent("`load --clean`", plan)?;
        }
        let options = LoadOptions {
            existing: if args.clean { Existing::KeepAside } else { Existing::Refuse },
            other_sessions: if args.disconnect { OtherSessions::Disconnect } else { OtherSessions::Refuse },
            trust: if args.trust { Trust::Superuser } else { found.trust },
            owners: if args.no_owner { LoadedOwners::DatabaseOwner } else { LoadedOwners::AsDumped },
            accept_locale: args.accept_locale,
            ..LoadOptions::for_cluster(&cluster, database).await?
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sink: Arc<dyn ProgressSink> = progress;
        load_found(&options, found, &clock, &sink).await.map(Done::Loaded)
    })
    .inspect_err(|error| cluster::explain_denial(error, context))?;
    match report {
        Done::Planned(plan) => context
            .output
            .write(|| serde_json::json!({ "plan": plan }), || plan.iter().map(|step| format!("Would {}.\n", printable(step))).collect())?,
        Done::Loaded(report) => {
            for warning in &report.warnings {
                context.progress.warn(warning);
            }
            context.output.write(|| document(&report), || text(&report))?;
        }
    }
    Ok(Exit::DONE)
}

enum Done {
    Planned(Vec<String>),
    Loaded(LoadReport),
}

async fn find(args: &Args, config: &Config, progress: &dyn ProgressSink) -> Result<FoundDump> {
    if args.name == "-" {
        let mut found = FoundDump::of_a_stranger("-", "standard input", Box::new(io::stdin()));
        found.source.opening = configured::load::opening(config).await;
        return Ok(found);
    }
    configured::load::find(config, &args.name, args.database.as_deref(), progress).await
}

fn text(report: &LoadReport) -> String {
    let rows: u64 = report.tables.values().sum();
    let verified = match report.verified {
        Some(true) => "every byte and row count as recorded",
        Some(false) => "NOT as recorded",
        None => "nothing recorded to compare with",
    };
    let mut text = format!(
        "Loaded {} into {}: {} in {} in {:.1} s; {verified}.\n",
        printable(&report.name),
        printable(&report.database),
        count(rows, "row"),
        count(report.tables.len() as u64, "table"),
        report.duration_s
    );
    if let Some(kept) = &report.kept_aside {
        text.push_str(&format!(
            "The database that had the name is kept as {}; drop it with: psql -c {}\n",
            printable(kept),
            quote::shell(&format!("DROP DATABASE {}", quote::identifier(kept)))
        ));
    }
    text
}
