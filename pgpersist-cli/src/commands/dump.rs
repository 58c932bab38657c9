//! `dump`: logical backups of databases.

use std::sync::Arc;

use serde_json::Value;

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::progress::count;
use crate::{cluster, database, runtime};
use pgpersist_core::agent::supervising;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::dump::RolePasswords;
use pgpersist_core::logical::dump_cluster::DumpReport;
use pgpersist_core::logical::dump_request::DumpRequest;
use pgpersist_core::logical::sync::report::SyncReport;
use pgpersist_core::schedule;
use pgpersist_core::wording::size;

/// Dump databases to backup_YYYYMMDD_HHMMSS.sql.gz in the store
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist dump -d customerInvoice --store /app/backups/postgres")]
pub(crate) struct Args {
    /// A database; give it again for more. Else the configured ones, else PGDATABASE, else every database but templates and `postgres`
    #[arg(short = 'd', long, value_name = "DATABASE", allow_hyphen_values = true, value_parser = database::parse)]
    database: Vec<String>,
    /// Keep the roles' passwords in the dump of roles: whoever reads the store can then try them out at leisure
    #[arg(long)]
    role_passwords: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let role_passwords = if args.role_passwords { RolePasswords::Keep } else { RolePasswords::LeaveOut };
    let request =
        DumpRequest { role_passwords, begin_anew: context.common.yes, ..configured::dump::request(config, args.database.clone())? };
    if context.common.dry_run {
        let steps = runtime::block_on("`dump --dry-run`", request.plan())?;
        context.output.write(
            || serde_json::json!({ "plan": steps }),
            || steps.iter().map(|step| format!("Would {}.\n", printable(step))).collect(),
        )?;
        return Ok(Exit::DONE);
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let report = runtime::block_on("`dump`", async {
        let _held = supervising::hold(schedule::DUMP, &request.cluster, context.progress.as_ref()).await?;
        request.carry_out(&clock, context.progress.as_ref()).await
    });
    let report = report.inspect_err(|error| cluster::explain_denial(error, context))?;
    let copies = runtime::block_on("`dump`", async { Ok(request.copy(context.progress.as_ref()).await) })?;
    configured::dump::remember_room(config, &request.cluster);
    context.output.write(|| json(&report, copies.as_ref()), || text(&report))?;
    Ok(Exit::DONE)
}

/// The promised document: all dumps, and the first one's fields at the top; the copies, where there are some.
fn json(report: &DumpReport, copies: Option<&SyncReport>) -> Value {
    let dumps: Vec<Value> = report
        .dumps
        .iter()
        .map(|dump| {
            let mut value = document(dump);
            if let Value::Object(fields) = &mut value {
                // How a database was set up is in the side file; here it would drown what was done.
                fields.remove("state");
            }
            value
        })
        .collect();
    let mut top = dumps.first().cloned().unwrap_or_else(|| serde_json::json!({}));
    if let Value::Object(fields) = &mut top {
        fields.insert("dumps".to_owned(), dumps.into());
        fields.extend(copies.map(|copies| ("copies".to_owned(), document(&copies.stores))));
    }
    top
}

fn text(report: &DumpReport) -> String {
    let line = |dump: &pgpersist_core::logical::dump::Dump| {
        let rows: u64 = dump.tables.values().sum();
        format!(
            "{}  {} ({} in {}, {} of SQL) in {:.1} s\n",
            printable(dump.name.as_str()),
            size(dump.size_bytes),
            count(rows, "row"),
            count(dump.tables.len() as u64, "table"),
            size(dump.uncompressed_bytes),
            dump.duration.as_secs_f64()
        )
    };
    report.dumps.iter().map(line).collect()
}
