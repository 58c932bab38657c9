//! `prune`: retention, applied to the dumps.

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::progress::count;
use crate::{cluster, runtime, store};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::config::sources::Flag;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::logical::prune_plan::PrunePlan;
use pgpersist_core::wording::size;
use pgpersist_core::workers;

/// Apply retention: drop dumps that no rule keeps
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist prune --keep-days 7 --store /app/backups/postgres --dry-run")]
pub(crate) struct Args {
    /// Keep every dump of the last N days
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,
    /// Keep the N newest dumps
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest dump of each of N days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest dump of each of N weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest dump of each of N months
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
    let shelf = store::existing_shelf(context)?;
    let retention = context.config()?.retention;
    let plan = runtime::block_on("`prune`", async {
        let plan = shelf.prune_plan(&retention, SystemClock.now()).await?;
        if context.common.dry_run {
            return Ok(plan);
        }
        if plan.drops_more_than_half() && !context.common.yes {
            return Err(Error::ConsentNeeded {
                action: "dropping more than half of the dumps at once".to_owned(),
                plan: plan.dropped.iter().map(|dropped| format!("drop {} ({})", dropped.name, dropped.reason)).collect(),
            });
        }
        plan.execute(shelf.store().as_ref()).await?;
        Ok(plan)
    })?;
    if !context.common.dry_run && context.config()?.cluster.data_directory.is_some() {
        // Whoever prunes regularly also keeps the server's log bounded.
        let log = cluster::open(context)?.log_file();
        runtime::block_on("`prune`", async { workers::run(move || log.rotate_under_server()).await })?;
    }
    context.output.write(
        || if context.common.dry_run { serde_json::json!({ "plan": document(&plan) }) } else { document(&plan) },
        || text(&plan, context.common.dry_run),
    )?;
    Ok(Exit::DONE)
}

fn text(plan: &PrunePlan, dry_run: bool) -> String {
    let mut text = String::new();
    for kept in &plan.kept {
        text.push_str(&format!("keep  {}  {}\n", printable(kept.name.as_str()), printable(&kept.reason)));
    }
    for dropped in &plan.dropped {
        text.push_str(&format!("drop  {}  {}\n", printable(dropped.name.as_str()), printable(&dropped.reason)));
    }
    let verb = if dry_run { "Would free" } else { "Freed" };
    let (dropped, kept) = (count(plan.dropped.len() as u64, "file"), plan.kept.len());
    text.push_str(&format!("{verb} {}: {dropped} dropped, {kept} kept.\n", size(plan.freed_bytes)));
    text
}
