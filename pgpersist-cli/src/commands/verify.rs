//! `verify`: are the dumps what was written?

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::{Exit, code};
use crate::keys::KeyArgs;
use crate::output::printable;
use crate::progress::count;
use crate::{database, runtime, store};
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::logical::verify::Depth;
use pgpersist_core::logical::verify_all::verify_all;
use pgpersist_core::wording::size;

/// Compare the dumps in all stores with what was written
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
    #[command(flatten)]
    keys: KeyArgs,
}

impl Args {
    pub(super) fn reading(&self) -> Reading {
        self.keys.reading()
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let shelf = store::existing_shelf(context)?;
    let progress = context.progress.clone();
    let report = runtime::block_on("`verify`", async {
        let depth = if args.quick { Depth::Quick } else { Depth::Full };
        verify_all(&shelf, args.name.as_deref(), args.database.as_deref(), depth, progress.as_ref()).await
    })?;
    if !report.unopened.is_empty() {
        let what = count(report.unopened.len() as u64, "dump");
        context.progress.warn(&format!(
            "nobody looked into {what}, since no key at hand opens them: only the bytes were compared; give `--identity FILE`"
        ));
    }
    context.output.write(
        || document(&report),
        || {
            let mut text = String::new();
            for damaged in &report.damaged {
                let whole = match &damaged.whole_in[..] {
                    [] => String::new(),
                    stores => format!("; it is whole in {}", printable(&stores.join(" and "))),
                };
                let (name, reason) = (printable(damaged.name.as_str()), printable(&damaged.reason));
                text.push_str(&format!("DAMAGED  {name}{}  {reason}{whole}\n", in_store(damaged.store.as_deref())));
            }
            for unreadable in &report.unreadable {
                let (name, reason) = (printable(unreadable.name.as_str()), printable(&unreadable.reason));
                text.push_str(&format!("UNREAD   {name}{}  {reason}\n", in_store(unreadable.store.as_deref())));
            }
            let unread = match report.unreadable.len() {
                0 => String::new(),
                number => format!(", {number} could not be read"),
            };
            text.push_str(&format!(
                "Looked at {} ({}); {} damaged{unread}.\n",
                count(report.objects, if shelf.encrypts() { "object" } else { "dump" }),
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

/// Where it lies, where there is more than one place.
fn in_store(store: Option<&str>) -> String {
    store.map(|store| format!("  in {}", printable(store))).unwrap_or_default()
}
