//! `verify`: are the dumps what was written?

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::{Exit, code};
use crate::keys::KeyArgs;
use crate::output::printable;
use crate::progress::count;
use crate::{database, runtime, store};
use pgpersist_core::configured;
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::logical::verify::Depth;
use pgpersist_core::logical::verify_all::verify_all;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::verify::{DamagedObject, RepositoryReport};
use pgpersist_core::wording::size;

/// Compare the dumps in all stores, and the backups in the primary one, with what was written
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist verify --store /app/backups/postgres")]
#[command(after_help = "Exit codes: 0 all are whole, 7 one is damaged, 6 or 1 one could not be read")]
pub(crate) struct Args {
    /// One dump's or backup's name, or `latest` for a dump; else all of them, and dumps of roles
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
    if let Some(backup) = args.name.as_deref().and_then(|name| name.parse().ok()) {
        return one_backup(backup, args, context);
    }
    let shelf = store::existing_shelf(context)?;
    let progress = context.progress.clone();
    let report = runtime::block_on("`verify`", async {
        let depth = if args.quick { Depth::Quick } else { Depth::Full };
        verify_all(&shelf, args.name.as_deref(), args.database.as_deref(), depth, progress.as_ref()).await
    })?;
    let backups = match (&args.name, &args.database) {
        (None, None) => backups(None, args, context)?,
        _ => RepositoryReport::default(),
    };
    warn_unopened(&backups, context);
    if !report.unopened.is_empty() {
        let what = count(report.unopened.len() as u64, "dump");
        context.progress.warn(&format!(
            "nobody looked into {what}, since no key at hand opens them: only the bytes were compared; give `--identity FILE`"
        ));
    }
    context.output.write(
        || {
            let mut both = document(&report);
            backups.add_to(&mut both);
            both
        },
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
            text.push_str(&damaged_lines(&backups));
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
            if backups.objects > 0 {
                text.push_str(&backups_line(&backups));
            }
            text
        },
    )?;
    Ok(match (&report.damaged[..], &report.unreadable[..]) {
        _ if !backups.damaged.is_empty() => Exit(code(ErrorKind::Damaged)),
        ([], []) => Exit::DONE,
        ([], [first, ..]) => Exit(code(first.kind)),
        _ => Exit(code(ErrorKind::Damaged)),
    })
}

/// One backup, by its name.
fn one_backup(backup: RunName, args: &Args, context: &Context) -> Result<Exit> {
    let report = backups(Some(backup), args, context)?;
    warn_unopened(&report, context);
    context.output.write(|| document(&report), || damaged_lines(&report) + &backups_line(&report))?;
    Ok(if report.damaged.is_empty() { Exit::DONE } else { Exit(code(ErrorKind::Damaged)) })
}

/// Looks at the backups in the primary store.
fn backups(only: Option<RunName>, args: &Args, context: &Context) -> Result<RepositoryReport> {
    let config = context.config()?;
    runtime::block_on("`verify`", configured::backup::verify(config, only, args.quick, context.progress.as_ref()))
}

fn warn_unopened(report: &RepositoryReport, context: &Context) {
    if report.unopened.is_empty() {
        return;
    }
    let what = count(report.unopened.len() as u64, "backup");
    context.progress.warn(&format!(
        "nobody looked into the files of {what}, since no key at hand opens them: only stored bytes were compared; give `--identity FILE`"
    ));
}

fn damaged_lines(report: &RepositoryReport) -> String {
    let line = |damaged: &DamagedObject| {
        let needed: Vec<String> = damaged.backups.iter().map(ToString::to_string).collect();
        let needed = if needed.is_empty() { String::new() } else { format!("; needed by {}", needed.join(" and ")) };
        let (name, reason) = (printable(damaged.name.as_str()), printable(&damaged.reason));
        format!("DAMAGED  {name}  {reason}{needed}\n")
    };
    report.damaged.iter().map(line).collect()
}

fn backups_line(report: &RepositoryReport) -> String {
    let (objects, bytes) = (count(report.objects, "object"), size(report.bytes));
    format!("Looked at {objects} of backups ({bytes}); {} damaged.\n", report.damaged.len())
}

/// Where it lies, where there is more than one place.
fn in_store(store: Option<&str>) -> String {
    store.map(|store| format!("  in {}", printable(store))).unwrap_or_default()
}
