//! `backup`: a physical backup of the running cluster.

use std::num::NonZeroU64;

use clap::ValueEnum;
use serde_json::json;

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::{Exit, code};
use crate::output::printable;
use crate::progress::count;
use crate::{cluster, runtime};
use pgpersist_core::agent::supervising;
use pgpersist_core::backup::physical::{BackupOptions, BackupReport};
use pgpersist_core::clock::SystemClock;
use pgpersist_core::configured;
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::progress::{Event, ProgressSink};
use pgpersist_core::quantity;
use pgpersist_core::repo::frame::Compression;
use pgpersist_core::schedule;
use pgpersist_core::server::base_backup::Checkpoint;
use pgpersist_core::wording::size;

/// Back up the running cluster's files; a backup costs what changed, and needs no other
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist backup --store /app/backups/postgres")]
pub(crate) struct Args {
    /// What you call it
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    label: Option<String>,
    /// How the server writes the checkpoint that a backup begins with: at once, or spread over minutes
    #[arg(long, value_name = "HOW", default_value = "fast")]
    checkpoint: How,
    /// How pages are compressed
    #[arg(long, value_name = "CODEC", default_value = "zstd")]
    compression: Codec,
    /// How many threads read; else one for each processor, 8 at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// How much they read a second, all together, such as 50MB; else as much as they can
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate_limit: Option<NonZeroU64>,
    /// Read each file; else those are left out that have not changed since the backup before and were read within `full_read_days`, a week
    #[arg(long)]
    full_read: bool,
}

/// Reads a size of which something can be read in a second.
fn rate(text: &str) -> std::result::Result<NonZeroU64, String> {
    let bytes = quantity::size_bytes(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(bytes).ok_or_else(|| "nothing would ever be read".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    Fast,
    Spread,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    Zstd,
    Lz4,
    None,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let mut options = BackupOptions {
        label: args.label.clone(),
        checkpoint: match args.checkpoint {
            How::Fast => Checkpoint::Fast,
            How::Spread => Checkpoint::Spread,
        },
        compression: match args.compression {
            Codec::Zstd => Compression::default(),
            Codec::Lz4 => Compression::Lz4,
            Codec::None => Compression::Plain,
        },
        ..configured::backup::options(context.config()?)
    };
    options.workers = args.jobs.map_or(options.workers, usize::from);
    options.rate_limit = args.rate_limit;
    if args.full_read {
        options.full_read_days = 0;
    }
    let request = configured::backup::backup(context.config()?, options)?;
    if context.common.dry_run {
        let step = format!("back up {} to {}", request.cluster.path().display(), request.store);
        context.output.write(|| json!({ "plan": [step] }), || format!("Would {}.\n", printable(&step)))?;
        return Ok(Exit::DONE);
    }
    let report = runtime::block_on("`backup`", async {
        let _held = supervising::hold(schedule::BACKUP, &request.cluster, context.progress.as_ref()).await?;
        request.carry_out(&SystemClock, context.progress.as_ref()).await
    });
    let report = report.inspect_err(|error| cluster::explain_denial(error, context))?;
    for page in &report.damaged {
        let (path, block) = (printable(&page.path), page.block);
        if page.known {
            context.progress.event(Event::Step(format!("{path}: block {block} is damaged on the disk, as is known")));
        } else {
            context.progress.warn(&format!("{path}: block {block} is damaged on the disk ({})", page.name()));
        }
    }
    context.output.write(|| document(&report), || text(&report))?;
    Ok(if report.damaged.iter().all(|page| page.known) { Exit::DONE } else { Exit(code(ErrorKind::Damaged)) })
}

fn text(report: &BackupReport) -> String {
    let damaged = match report.damaged.len() as u64 {
        0 => String::new(),
        number => format!("; {} on the disk", count(number, "damaged page")),
    };
    format!(
        "{}  {} ({} in the store, {} of it new) in {:.1} s{damaged}\n",
        report.name,
        size(report.size_bytes),
        size(report.stored_bytes),
        size(report.new_bytes),
        report.duration_s
    )
}
