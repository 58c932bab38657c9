//! `sync`: bring the other stores up to date.

use serde_json::json;

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::{Exit, code};
use crate::output::printable;
use crate::progress::count;
use crate::{cluster, runtime};
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::sync::report::{StorePlan, StoreSync};
use pgpersist_core::logical::sync::request::SyncRequest;
use pgpersist_core::wording::size;

/// Bring the other stores up to date: copy what the first one has and they lack
///
/// Nothing is overwritten or removed in a copy: retention there is `pgpersist prune`. A run that was interrupted is continued by
/// the next one. To fill a first store that was lost from its copy, name the copy first: `--store 2 --store 1`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist sync --store /app/backups/postgres --store /mnt/offsite/postgres")]
#[command(
    after_help = "Exit codes: 0 all copies are up to date, 7 a dump is damaged in the first store, 5 something else has the name of a \
    dump in a copy, 6 or another one why a copy failed"
)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let request = SyncRequest { begin_anew: context.common.yes, ..SyncRequest::new(configured::stores::shelf(config)?) };
    if context.common.dry_run {
        return dry_run(&request, context);
    }
    // Where the cluster is not at hand, nothing is remembered of its stores.
    let cluster = config.cluster.data_directory.is_some().then(|| cluster::open(context)).transpose()?;
    let request = SyncRequest { cluster, ..request };
    let report = runtime::block_on("`sync`", async { request.carry_out(context.progress.as_ref()).await })?;
    context.output.write(|| document(&report), || report.stores.iter().map(text).collect())?;
    Ok(report.trouble().map_or(Exit::DONE, |kind| Exit(code(kind))))
}

fn dry_run(request: &SyncRequest, context: &Context) -> Result<Exit> {
    let plans = runtime::block_on("`sync --dry-run`", request.plan())?;
    let failed = plans.iter().find_map(|plan| plan.error.kind);
    context.output.write(|| json!({ "plan": { "stores": document(&plans) } }), || plans.iter().map(would).collect())?;
    Ok(failed.map_or(Exit::DONE, |kind| Exit(code(kind))))
}

fn would(planned: &StorePlan) -> String {
    let store = printable(&planned.store);
    let Some(plan) = &planned.plan else {
        return format!("{store}: not known, {}\n", printable(planned.error.error.as_deref().unwrap_or_default()));
    };
    let mut text: String = plan
        .copies
        .iter()
        .map(|copy| format!("Would copy {} to {store} ({}).\n", printable(copy.name.as_str()), size(copy.bytes)))
        .collect();
    for left in plan.conflicts.iter().chain(&plan.damaged).chain(&plan.left_out) {
        text.push_str(&format!("Would not copy {} to {store}: {}.\n", printable(left.name.as_str()), printable(&left.reason)));
    }
    if text.is_empty() { format!("{store}: up to date.\n") } else { text }
}

fn text(store: &StoreSync) -> String {
    let behind = match (&store.error.error, store.behind) {
        (Some(_), Some(number)) if number > 0 => format!("failed, {} behind", count(number, "dump")),
        (Some(_), _) => "failed".to_owned(),
        (None, Some(number)) if number > 0 => format!("{} behind", count(number, "dump")),
        (None, _) => "up to date".to_owned(),
    };
    let mut text = format!("{}: {} copied ({}), {behind}\n", printable(&store.store), count(store.copied, "dump"), size(store.bytes));
    for trouble in store.troubles() {
        text.push_str(&format!("NOT COPIED  {}\n", printable(&trouble)));
    }
    if let Some(remedy) = &store.error.remedy {
        text.push_str(&format!("  remedy: {}\n", printable(remedy)));
    }
    text
}
