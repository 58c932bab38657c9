//! `list` and `show`: what can be restored.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::{database, runtime, store};
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::shelf::{DumpEntry, DumpState};
use pgpersist_core::wording::size;

/// List the dumps in the store, newest first
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist list --store /app/backups/postgres")]
pub(crate) struct Args {}

/// Show one dump with the rows of its tables
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist show latest --store /app/backups/postgres")]
pub(crate) struct ShowArgs {
    /// A dump's name in the store, or `latest`
    #[arg(value_name = "NAME")]
    name: String,
    /// The database, where `latest` could mean several
    #[arg(short = 'd', long, value_name = "DATABASE", allow_hyphen_values = true, value_parser = database::parse)]
    database: Option<String>,
}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<Exit> {
    let shelf = store::existing_shelf(context)?;
    let dumps = runtime::block_on("`list`", async { shelf.list().await })?;
    context.output.write(
        || json!({ "backups": [], "dumps": dumps.iter().map(short).collect::<Vec<_>>(), "windows": [] }),
        || {
            if dumps.is_empty() {
                return format!("No dumps in {}.\n", printable(&shelf.store().to_string()));
            }
            dumps.iter().map(line).collect()
        },
    )?;
    Ok(Exit::DONE)
}

pub(crate) fn show(args: &ShowArgs, context: &Context) -> Result<Exit> {
    let shelf = configured::stores::shelf(context.config()?)?;
    let entry = runtime::block_on("`show`", async { shelf.find(&args.name, args.database.as_deref()).await })?;
    context.output.write(
        || document(&entry),
        || {
            let mut text = line(&entry);
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

/// A moment to the second, in RFC 3339.
fn moment(at: OffsetDateTime) -> String {
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
