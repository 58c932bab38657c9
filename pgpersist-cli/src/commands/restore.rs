//! `restore`: a backup becomes a data directory.

use std::time::Duration;

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::{Exit, code};
use crate::keys::LoadKeyArgs;
use crate::output::printable;
use crate::progress::count;
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::pg::lsn::Lsn;
use pgpersist_core::restore::chosen::LATEST;
use pgpersist_core::restore::physical::{RestoreOptions, RestoreReport};
use pgpersist_core::restore::plan::RestorePlan;
use pgpersist_core::restore::tablespaces::TablespaceMapping;
use pgpersist_core::wording::{duration, size};

/// Restore a backup into an absent or empty data directory, in the place of a stopped cluster, or over its files
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist restore latest -D /app/pgdata --store /app/backups/postgres")]
pub(crate) struct Args {
    /// A backup's name, or `latest`
    #[arg(value_name = "NAME", default_value = LATEST)]
    name: String,
    /// Where a tablespace goes, by its name or its OID; else where it was
    #[arg(long = "tablespace", value_name = "NAME=DIRECTORY")]
    tablespaces: Vec<String>,
    /// Take the place of the stopped cluster that is there, and keep that one aside
    #[arg(long)]
    in_place: bool,
    /// Make the files of the stopped cluster that is there those of the backup, and write only what differs
    #[arg(long, conflicts_with = "in_place")]
    delta: bool,
    /// With --delta: give up what the cluster's log holds and the backup does not, up to its end as the plan tells it
    #[arg(long, value_name = "LSN", requires = "delta")]
    discard_unshipped_wal: Option<String>,
    /// Restore what is left of a damaged backup, with zeros for the rest: for salvage alone
    #[arg(long, conflicts_with = "delta")]
    without_damaged: bool,
    #[command(flatten)]
    keys: LoadKeyArgs,
}

impl Args {
    pub(super) fn reading(&self) -> Reading {
        self.keys.reading()
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let options = RestoreOptions {
        tablespaces: args.tablespaces.iter().map(|text| text.parse()).collect::<Result<Vec<TablespaceMapping>>>()?,
        in_place: args.in_place,
        delta: args.delta,
        discard_unshipped_wal: args.discard_unshipped_wal.as_deref().map(lsn).transpose()?,
        without_damaged: args.without_damaged,
        consent: context.common.yes,
        ..RestoreOptions::default()
    };
    let request = configured::backup::restore(context.config()?, args.name.clone(), options)?;
    if context.common.dry_run {
        let plan = runtime::block_on("`restore --dry-run`", request.plan(context.progress.as_ref()))?;
        for warning in &plan.warnings {
            context.progress.warn(warning);
        }
        context.output.write(|| document(&plan), || plan_text(&plan))?;
        return Ok(Exit::DONE);
    }
    let report = runtime::block_on("`restore`", request.carry_out(context.progress.as_ref()))?;
    for name in &report.settings_removed {
        context.progress.warn(&format!("{name} of another recovery was taken out of postgresql.auto.conf"));
    }
    for file in &report.damaged {
        context.progress.warn(&format!("lost, and zero now: {file}"));
    }
    context.output.write(|| document(&report), || text(&report))?;
    Ok(if report.damaged.is_empty() { Exit::DONE } else { Exit(code(ErrorKind::Damaged)) })
}

fn lsn(text: &str) -> Result<Lsn> {
    let wrong = |_| Error::invalid(format!("`{text}` is no position in a log, such as 16/4D000000"), "take the one that the plan tells");
    text.parse().map_err(wrong)
}

fn plan_text(plan: &RestorePlan) -> String {
    let mut would = plan.steps.clone();
    would.extend(
        plan.space
            .iter()
            .map(|one| format!("({} needs {}, and {} are free there)", one.path.display(), size(one.needed_bytes), size(one.free_bytes))),
    );
    if let Some(time) = plan.estimated_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        would.push(format!("(it takes {} at the speed of the last restore here)", duration(time)));
    }
    let requires = &plan.requires;
    let mut needs = vec![format!("PostgreSQL {} (it ran with {})", requires.major, requires.server_version)];
    needs.extend(requires.at_least.iter().map(|(name, value)| format!("{name} of {value} or more")));
    needs.extend(requires.settings.iter().map(|(name, value)| format!("{name} = {value}, as its configuration says")));
    let consent = plan.consent_to.as_ref().map_or(String::new(), |action| format!("It needs --yes: {}.\n", printable(action)));
    [section("Would", &would), section("What is restored needs", &needs), section("What no backup holds", &plan.rebuild), consent].concat()
}

fn section(title: &str, lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| format!("  {}\n", printable(line))).collect();
    format!("{title}\n{}", lines.concat())
}

fn text(report: &RestoreReport) -> String {
    let directory = report.data_directory.display().to_string();
    let held = if report.damaged.is_empty() { "each held against its hash" } else { "but for what is damaged" };
    let mut text = format!(
        "Restored {} to {}: {}, {}, {held}, in {:.1} s.\n",
        report.name,
        printable(&directory),
        count(report.files, "file"),
        size(report.bytes),
        report.duration_s
    );
    for tablespace in &report.tablespaces {
        let (name, place) = (printable(&tablespace.name), tablespace.to.display().to_string());
        text.push_str(&format!("  the tablespace {name} is in {}\n", printable(&place)));
    }
    if !report.configuration.is_empty() {
        text.push_str(&format!("  made in it, or rewritten for it: {}\n", printable(&report.configuration.join(", "))));
    }
    if let (Some(kept), Some(files), Some(written)) = (report.kept_bytes, report.kept_files, report.written_bytes) {
        text.push_str(&format!("  kept {} as they were, {} as a whole, and wrote {}\n", size(kept), count(files, "file"), size(written)));
    }
    if let (Some(_), Some(aside)) = (report.kept_bytes, &report.kept_aside) {
        text.push_str(&format!("  the old log and pg_control are kept in {}\n", printable(&aside.display().to_string())));
    } else if let Some(aside) = &report.kept_aside {
        text.push_str(&format!("  the cluster that was there is kept in {}\n", printable(&aside.display().to_string())));
    }
    if !report.damaged.is_empty() {
        text.push_str(&format!(
            "THIS CLUSTER IS FOR SALVAGE ALONE. Pages of {} are zero: rows are missing, indexes and tables disagree, and a query may fail or answer\n\
             wrongly. Take out of it what you need (`pgpersist dump`, COPY), and load that into a new cluster. Do not go on with it.\n",
            count(report.damaged.len() as u64, "file")
        ));
    }
    text.push_str(&format!("Next: `pgpersist start -D {}`.\n", printable(&directory)));
    text
}
