//! `dump`: logical backups of databases.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::progress::{bytes, count};
use crate::{cluster, database, runtime, store};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::logical::dump::{DumpOptions, RolePasswords};
use pgpersist_core::logical::dump_cluster::{DumpReport, dump_cluster};
use pgpersist_core::logical::known_store::KnownStores;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::server::cluster::Cluster;
use pgpersist_core::server::connection::ConnectionOptions;
use pgpersist_core::server::same_cluster;
use pgpersist_core::server::session::Session;
use pgpersist_core::workers;

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
    let cluster = cluster::open(context)?;
    let shelf = store::shelf(context)?;
    let progress = context.progress.clone();
    if context.common.dry_run {
        let databases = runtime::block_on("`dump --dry-run`", async {
            same_store(&cluster, &shelf, context).await?;
            let connection = cluster.connection("postgres").await?;
            databases(args, context, &connection).await
        })?;
        let steps: Vec<String> = databases.iter().map(|name| format!("dump the database {name} to {}", shelf.store())).collect();
        context.output.write(
            || serde_json::json!({ "plan": steps }),
            || steps.iter().map(|step| format!("Would {}.\n", printable(step))).collect(),
        )?;
        return Ok(Exit::DONE);
    }
    let report = runtime::block_on("`dump`", async {
        let known = same_store(&cluster, &shelf, context).await?;
        let connection = cluster.connection("postgres").await?;
        let programs = client_directory(&cluster, &connection, "pg_dump").await?;
        let databases = databases(args, context, &connection).await?;
        let role_passwords = if args.role_passwords { RolePasswords::Keep } else { RolePasswords::LeaveOut };
        let options = DumpOptions { role_passwords, ..DumpOptions::new(connection, &programs) };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let log = cluster.log_file();
        workers::run(move || log.rotate_under_server()).await?;
        let report = dump_cluster(&shelf, &options, &databases, &clock, progress.as_ref()).await?;
        if let Some(known) = known {
            match known.remember(shelf.store().as_ref()).await {
                // Whoever may dump a cluster need not be able to write beside its data.
                Err(error) if error.kind() != ErrorKind::Denied => {
                    progress.warn(&format!("a store that is not mounted will not be noticed: {error}"));
                }
                _ => {}
            }
        }
        Ok(report)
    })
    .inspect_err(|error| cluster::explain_denial(error, context))?;
    context.output.write(|| json(&report), || text(&report))?;
    Ok(Exit::DONE)
}

/// Refuses, without `--yes`, a store that took dumps of this cluster and has no trace of them: its volume is most likely not
/// mounted. Returns where the store is remembered, if the cluster's files are at hand.
async fn same_store(cluster: &Cluster, shelf: &Shelf, context: &Context) -> Result<Option<KnownStores>> {
    let known = KnownStores::of(cluster, shelf.cluster()).await?;
    if let (Some(known), false) = (&known, context.common.yes) {
        known.check(shelf.store().as_ref()).await?;
    }
    Ok(known)
}

/// The folder of the client programs that fit the server, once it is known to be the one of the data directory.
pub(crate) async fn client_directory(
    cluster: &Cluster,
    connection: &ConnectionOptions,
    program: &'static str,
) -> Result<std::path::PathBuf> {
    let session = Session::connect(connection, Duration::from_secs(30)).await?;
    same_cluster::check(cluster, &session).await?;
    let version = session.version().await?;
    let search = cluster.search().clone();
    let (path, _) = workers::run(move || search.client(program, version)).await?;
    path.parent().map(std::path::Path::to_owned).ok_or_else(|| Error::Bug(format!("{} lies nowhere", path.display())))
}

/// Which databases: named, else configured, else PGDATABASE, else all that hold something of the user's.
async fn databases(args: &Args, context: &Context, connection: &ConnectionOptions) -> Result<Vec<String>> {
    let config = context.config()?;
    if !args.database.is_empty() {
        return Ok(args.database.clone());
    }
    if !config.cluster.databases.is_empty() {
        return Ok(config.cluster.databases.clone());
    }
    if let Some(database) = &config.connection.database {
        return Ok(vec![database.value.clone()]);
    }
    let session = Session::connect(connection, Duration::from_secs(30)).await?;
    let mut all = session.databases().await?;
    all.retain(|name| name != "postgres");
    if all.is_empty() {
        return Err(Error::not_found(
            "there is no database to dump",
            "name one with `-d`, or create one; `postgres` is dumped only when it is named",
        ));
    }
    Ok(all)
}

/// The promised document: all dumps, and the first one's fields at the top.
fn json(report: &DumpReport) -> Value {
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
    }
    top
}

fn text(report: &DumpReport) -> String {
    let line = |dump: &pgpersist_core::logical::dump::Dump| {
        let rows: u64 = dump.tables.values().sum();
        format!(
            "{}  {} ({} in {}, {} of SQL) in {:.1} s\n",
            printable(dump.name.as_str()),
            bytes(dump.size_bytes),
            count(rows, "row"),
            count(dump.tables.len() as u64, "table"),
            bytes(dump.uncompressed_bytes),
            dump.duration.as_secs_f64()
        )
    };
    report.dumps.iter().map(line).collect()
}
