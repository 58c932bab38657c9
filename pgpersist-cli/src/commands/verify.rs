//! `verify`: are the dumps what was written?

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::{Exit, code};
use crate::output::printable;
use crate::progress::count;
use crate::{database, runtime, store};
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::logical::shelf::DumpEntry;
use pgpersist_core::logical::verify::{Depth, Subject, verify};
use pgpersist_core::wording::size;

/// Compare the dumps in the store with what was written
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist verify --store /app/backups/postgres")]
#[command(after_help = "Exit codes: 0 all are whole, 7 one is damaged, 6 or 1 one could not be read")]
pub(crate) struct Args {
    /// One dump's name, or `latest`; else all of them, and those of roles
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The database, where `latest` could mean several; else only its dumps
    #[arg(short = 'd', long, value_name = "DATABASE", allow_hyphen_values = true, value_parser = database::parse)]
    database: Option<String>,
    /// Look at sizes and at the first and last bytes only
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let shelf = store::existing_shelf(context)?;
    let progress = context.progress.clone();
    let report = runtime::block_on("`verify`", async {
        let of_database = |entry: &DumpEntry| args.database.is_none() || entry.database == args.database;
        let mut globals = Vec::new();
        let entries = match &args.name {
            Some(name) => vec![shelf.find(name, args.database.as_deref()).await?],
            None => {
                if args.database.is_none() {
                    globals = shelf.globals().await?;
                }
                shelf.list().await?.into_iter().filter(of_database).collect()
            }
        };
        let subjects: Vec<Subject> = entries.iter().map(Subject::from).chain(globals.into_iter().map(Subject::new)).collect();
        let depth = if args.quick { Depth::Quick } else { Depth::Full };
        verify(shelf.store().as_ref(), &subjects, depth, progress.as_ref()).await
    })?;
    context.output.write(
        || document(&report),
        || {
            let mut text = String::new();
            for damaged in &report.damaged {
                text.push_str(&format!("DAMAGED  {}  {}\n", printable(damaged.name.as_str()), printable(&damaged.reason)));
            }
            for unreadable in &report.unreadable {
                text.push_str(&format!("UNREAD   {}  {}\n", printable(unreadable.name.as_str()), printable(&unreadable.reason)));
            }
            let unread = match report.unreadable.len() {
                0 => String::new(),
                number => format!(", {number} could not be read"),
            };
            text.push_str(&format!(
                "Looked at {} ({}); {} damaged{unread}.\n",
                count(report.objects, "dump"),
                size(report.bytes),
                report.damaged.len()
            ));
            text
        },
    )?;
    Ok(match (&report.damaged[..], &report.unreadable[..]) {
        ([], []) => Exit::DONE,
        ([], [first, ..]) => Exit(code(first.kind)),
        _ => Exit(code(ErrorKind::Damaged)),
    })
}
