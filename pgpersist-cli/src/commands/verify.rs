//! `verify`: are the dumps what was written?

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::progress::{bytes, count};
use crate::{runtime, store};
use pgpersist_core::error::Result;
use pgpersist_core::logical::shelf::{DumpEntry, DumpState};
use pgpersist_core::logical::verify::{Depth, Subject, verify};

/// Compare the dumps in the store with what was written
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist verify --store /app/backups/postgres")]
#[command(after_help = "Exit codes: 0 all are whole, 7 one is damaged")]
pub(crate) struct Args {
    /// One dump's name, or `latest`; else all of them
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Look at sizes and at the first and last bytes only
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let shelf = store::existing_shelf(context)?;
    let progress = context.progress.clone();
    let report = runtime::block_on("`verify`", async {
        let entries = match &args.name {
            Some(name) => vec![shelf.find(name, None).await?],
            None => shelf.list().await?,
        };
        let subjects: Vec<Subject> = entries.iter().map(subject).collect();
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
            text.push_str(&format!(
                "Looked at {} ({}); {} damaged.\n",
                count(report.objects, "dump"),
                bytes(report.bytes),
                report.damaged.len()
            ));
            text
        },
    )?;
    Ok(if report.damaged.is_empty() { Exit::DONE } else { Exit(7) })
}

fn subject(entry: &DumpEntry) -> Subject {
    Subject {
        name: entry.name.clone(),
        side_file: entry.side_file.clone(),
        damage: if let DumpState::Damaged { reason } = &entry.state { Some(reason.clone()) } else { None },
    }
}
