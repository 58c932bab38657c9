//! `prune`: retention, applied to dumps and backups.

use serde_json::json;

use crate::commands::list::moment;
use crate::commands::status::document;
use crate::context::Context;
use crate::exit::{Exit, code};
use crate::output::printable;
use crate::progress::count;
use crate::{cluster, runtime, store};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::sources::Flag;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::prune::{Consent, StorePrune};
use pgpersist_core::logical::prune_all;
use pgpersist_core::logical::prune_plan::PrunePlan;
use pgpersist_core::wording::size;
use pgpersist_core::workers;

/// Apply retention: drop dumps and backups that no rule keeps
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist prune --keep-days 7 --store /app/backups/postgres --dry-run")]
pub(crate) struct Args {
    /// Keep every dump and backup of the last N days
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,
    /// Keep the N newest dumps, and backups
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest dump, and backup, of each of N days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest dump, and backup, of each of N weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest dump, and backup, of each of N months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep no more than so many bytes; `10GB` is as good as a number
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<String>,
}

impl Args {
    /// The rules given as options, which beat the configuration's.
    pub(crate) fn flags(&self) -> Vec<Flag> {
        let rules: [(&'static str, &'static str, Option<String>); 6] = [
            ("retention.keep_days", "--keep-days", self.keep_days.map(|n| n.to_string())),
            ("retention.keep_last", "--keep-last", self.keep_last.map(|n| n.to_string())),
            ("retention.keep_daily", "--keep-daily", self.keep_daily.map(|n| n.to_string())),
            ("retention.keep_weekly", "--keep-weekly", self.keep_weekly.map(|n| n.to_string())),
            ("retention.keep_monthly", "--keep-monthly", self.keep_monthly.map(|n| n.to_string())),
            ("retention.max_bytes", "--max-bytes", self.max_bytes.clone()),
        ];
        rules.into_iter().filter_map(|(key, option, value)| value.map(|value| Flag { key, option, values: vec![value] })).collect()
    }
}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<Exit> {
    store::existing_shelf(context)?;
    let requests = configured::stores::prune_requests(context.config()?)?;
    let consent = if context.common.yes { Consent::Given } else { Consent::Missing };
    let (now, dry_run) = (SystemClock.now(), context.common.dry_run);
    let report = runtime::block_on("`prune`", async {
        if dry_run { prune_all::plan(&requests, now).await } else { prune_all::carry_out(&requests, consent, now).await }
    })?;
    if !dry_run && context.config()?.cluster.data_directory.is_some() {
        // Whoever prunes regularly also keeps the server's log bounded.
        let log = cluster::open(context)?.log_file();
        runtime::block_on("`prune`", async { workers::run(move || log.rotate_under_server()).await })?;
    }
    let stores = &report.stores;
    for (store, blocked) in stores.iter().filter_map(|store| Some((store, store.plan.as_ref()?.blocked.as_ref()?))) {
        context.progress.warn(&format!("nothing of backups is removed from {}: {blocked}", store.store));
    }
    context.output.write(
        || if dry_run { json!({ "plan": document(&report) }) } else { document(&report) },
        || stores.iter().map(|store| of_store(store, stores.len() > 1, dry_run)).collect(),
    )?;
    Ok(stores.iter().find_map(|store| store.error.kind).map_or(Exit::DONE, |kind| Exit(code(kind))))
}

fn of_store(store: &StorePrune, several: bool, dry_run: bool) -> String {
    let mut lines = if several { format!("{}:\n", printable(&store.store)) } else { String::new() };
    if let Some(plan) = &store.plan {
        lines.push_str(&text(plan, dry_run));
    }
    if let Some(error) = &store.error.error {
        lines.push_str(&format!("FAILED  {}\n", printable(error)));
    }
    lines
}

fn text(plan: &PrunePlan, dry_run: bool) -> String {
    let mut text = String::new();
    for kept in &plan.kept {
        text.push_str(&format!("keep  {}  {}\n", printable(kept.name.as_str()), printable(&kept.reason)));
    }
    for dropped in &plan.dropped {
        let until = dropped.removed_after.map(|after| format!("; can be restored until {}", moment(after))).unwrap_or_default();
        text.push_str(&format!("drop  {}  {}{until}\n", printable(dropped.name.as_str()), printable(&dropped.reason)));
    }
    let verb = if dry_run { "Would free" } else { "Freed" };
    let (dropped, kept) = (plan.dropped.len(), plan.kept.len());
    text.push_str(&format!("{verb} {}: {dropped} dropped, {kept} kept.\n", size(plan.freed_bytes)));
    if plan.pending_bytes > 0 {
        text.push_str(&format!(
            "{} more of backups are freed by a later run, when their time of grace is over.\n",
            size(plan.pending_bytes)
        ));
    }
    if plan.unfinished_uploads > 0 {
        text.push_str(&format!("Removed what {} had left that never ended.\n", count(plan.unfinished_uploads, "upload")));
    }
    text
}
