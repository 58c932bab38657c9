//! `restore`: a backup becomes a data directory.

use std::time::Duration;

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::keys::LoadKeyArgs;
use crate::output::printable;
use crate::progress::count;
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::restore::physical::{RestoreOptions, RestoreReport};
use pgpersist_core::restore::plan::RestorePlan;
use pgpersist_core::restore::request::LATEST;
use pgpersist_core::restore::tablespaces::TablespaceMapping;
use pgpersist_core::wording::{duration, size};

/// Restore a backup into an absent or empty data directory, or in the place of a stopped cluster
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
    context.output.write(|| document(&report), || text(&report))?;
    Ok(Exit::DONE)
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
    let mut text = format!(
        "Restored {} to {}: {}, {}, each held against its hash, in {:.1} s.\n",
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
    if let Some(aside) = &report.kept_aside {
        text.push_str(&format!("  the cluster that was there is kept in {}\n", printable(&aside.display().to_string())));
    }
    text.push_str(&format!("Next: `pgpersist start -D {}`.\n", printable(&directory)));
    text
}
