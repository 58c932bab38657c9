//! `list` and `show`: what can be restored.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::listed_backup as backup;
use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::keys::KeyArgs;
use crate::output::printable;
use crate::{database, runtime, store};
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::all_stores::AllStores;
use pgpersist_core::logical::shelf::{DumpEntry, DumpState, Shelf};
use pgpersist_core::wording::size;

/// List the backups and the dumps in the stores, newest first
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist list --store /app/backups/postgres")]
pub(crate) struct Args {
    #[command(flatten)]
    keys: KeyArgs,
}

impl Args {
    pub(super) fn reading(&self) -> Reading {
        self.keys.reading()
    }
}

/// Show one dump with the rows of its tables, or one backup
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist show latest --store /app/backups/postgres")]
pub(crate) struct ShowArgs {
    /// A dump's name in the store, `latest` for the newest dump, or a backup's name
    #[arg(value_name = "NAME")]
    name: String,
    /// The database, where `latest` could mean several
    #[arg(short = 'd', long, value_name = "DATABASE", allow_hyphen_values = true, value_parser = database::parse)]
    database: Option<String>,
}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<Exit> {
    let shelf = store::existing_shelf(context)?;
    let all = runtime::block_on("`list`", async { AllStores::look(&shelf, context.progress.as_ref()).await })?;
    let backups = runtime::block_on("`list`", backup::all(context))?;
    let dumps = all.list_with_places();
    let several = all.stores().count() > 1;
    context.output.write(
        || {
            let dumps: Vec<Value> = dumps.iter().map(|(entry, places)| placed(short(entry), places)).collect();
            let store = |(place, shelf, why): (usize, &Shelf, Option<&str>)| json!({ "place": place, "store": shelf.store().to_string(), "error": why });
            json!({ "backups": document(&backups), "dumps": dumps, "windows": [], "stores": all.stores().map(store).collect::<Vec<_>>() })
        },
        || {
            let mut text: String = backups.iter().map(backup::line).collect();
            if dumps.is_empty() && !backups.is_empty() {
                return text;
            }
            if dumps.is_empty() {
                let stores: Vec<String> = all.stores().map(|(_, shelf, _)| shelf.store().to_string()).collect();
                return format!("No dumps in {}.\n", printable(&stores.join(" and ")));
            }
            let line = |(entry, places): &(&DumpEntry, Vec<usize>)| if several { with_places(&line(entry), places) } else { line(entry) };
            text.extend(dumps.iter().map(line));
            text
        },
    )?;
    Ok(Exit::DONE)
}

pub(crate) fn show(args: &ShowArgs, context: &Context) -> Result<Exit> {
    if let Ok(backup) = args.name.parse() {
        return backup::show(backup, context);
    }
    let shelf = configured::stores::shelf(context.config()?)?;
    let all = runtime::block_on("`show`", async { AllStores::look(&shelf, context.progress.as_ref()).await })?;
    let entry = all.find(&args.name, args.database.as_deref())?;
    let places: Vec<usize> = all.places(&entry.name).iter().map(|placed| placed.place).collect();
    context.output.write(
        || placed(document(entry), &places),
        || {
            let mut text = if shelf.copies().is_empty() { line(entry) } else { with_places(&line(entry), &places) };
            if let Some(side_file) = &entry.side_file {
                text.push_str(&format!(
                    "  PostgreSQL {}, pg_dump {}, {} of SQL\n  sha256 {}\n",
                    side_file.server_version,
                    side_file.pg_dump_version,
                    size(side_file.uncompressed_bytes),
                    side_file.sha256
                ));
                for (table, rows) in &side_file.tables {
                    text.push_str(&format!("  {rows:>12} rows  {}\n", printable(table)));
                }
            }
            text
        },
    )?;
    Ok(Exit::DONE)
}

/// An entry of a listing: without the rows of each table.
fn short(entry: &DumpEntry) -> Value {
    let mut value = document(entry);
    if let Value::Object(fields) = &mut value {
        fields.remove("side_file");
        if let Some(side_file) = &entry.side_file {
            fields.insert("sha256".to_owned(), side_file.sha256.clone().into());
            fields.insert("rows".to_owned(), side_file.tables.values().sum::<u64>().into());
        }
    }
    value
}

/// The document of a dump, with the places of the stores that have it.
fn placed(mut document: Value, places: &[usize]) -> Value {
    if let Value::Object(fields) = &mut document {
        let mut places = places.to_vec();
        places.sort_unstable();
        fields.insert("stores".to_owned(), places.into());
    }
    document
}

fn with_places(line: &str, places: &[usize]) -> String {
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    format!("{}  [{}]\n", line.trim_end_matches('\n'), places.join(" "))
}

/// A moment to the second, in RFC 3339.
pub(super) fn moment(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

fn line(entry: &DumpEntry) -> String {
    let state = match &entry.state {
        DumpState::Complete => String::new(),
        DumpState::Unknown => "  (no side file)".to_owned(),
        DumpState::Damaged { reason } => format!("  DAMAGED: {}", printable(reason)),
    };
    let database = entry.database.as_deref().map_or_else(|| "?".into(), printable);
    format!("{}  {database}  {}  {}{state}\n", printable(entry.name.as_str()), moment(entry.taken_at), size(entry.size_bytes))
}
