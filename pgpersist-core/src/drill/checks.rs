//! What PostgreSQL's own tools say about a recovered cluster or a restored database: `pg_checksums` on the stopped one, `amcheck`
//! on the running one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drill::CheckStatus;
use crate::error::{Error, Result};
use crate::server::cluster::Cluster;
use crate::server::installation::PostgresInstallation;
use crate::server::session::Session;
use crate::server::spawn::run_as;

/// How long each of them may take.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Where `amcheck` is put into a database that does not have it.
const SCHEMA: &str = "pgpersist_amcheck";

/// One look and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which look: `pg_checksums`, `amcheck`, or one at a restored database.
    pub name: String,
    /// What it found.
    pub status: CheckStatus,
    /// How much was looked at, what is wrong, or why nothing could be looked at.
    pub summary: String,
}

impl Check {
    pub(crate) fn new(name: &str, status: CheckStatus, summary: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, summary: summary.into() }
    }
}

/// Runs `pg_checksums --check` on a cluster that was stopped cleanly: it refuses all others.
///
/// # Errors
/// As [`Cluster::installation`]; that the program is missing or finds damage is a result, not an error.
pub(crate) async fn checksums(cluster: &Cluster) -> Result<Check> {
    let unknown = |why: String| Ok(Check::new("pg_checksums", CheckStatus::Unknown, why));
    let installation = cluster.installation().await?;
    let Some(program) = beside_postgres(&installation, "pg_checksums") else {
        return unknown(format!("PostgreSQL in {} comes without pg_checksums", installation.bin_directory().display()));
    };
    let files = cluster.directory().state().await?.into_cluster(cluster.path())?;
    if !files.control.data_checksums() {
        return unknown("the cluster was made without data checksums".to_owned());
    }
    let mut command = Command::new(&program);
    run_as(&mut command, cluster.options().os_user.as_ref());
    command.arg("--check").arg("-D").arg(cluster.path()).env("LC_ALL", "C").stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    let output = match tokio::time::timeout(DEADLINE, command.kill_on_drop(true).output()).await {
        Ok(output) => output.map_err(|e| Error::file("run", &program, e))?,
        Err(_) => return unknown(format!("pg_checksums did not end within {} s", DEADLINE.as_secs())),
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let number = |label: &str| stdout.lines().find_map(|line| line.strip_prefix(label)).map(str::trim).unwrap_or("?").to_owned();
    Ok(if output.status.success() {
        let summary = format!("{} blocks in {} files", number("Blocks scanned:"), number("Files scanned:"));
        Check::new("pg_checksums", CheckStatus::Pass, summary)
    } else {
        Check::new("pg_checksums", CheckStatus::Fail, stderr.lines().next().unwrap_or("it failed and said nothing").to_owned())
    })
}

/// A program of this installation. A folder such as `/usr/local/bin` may hold links to some of its programs only: then the
/// others lie where `postgres` really is.
fn beside_postgres(installation: &PostgresInstallation, name: &str) -> Option<PathBuf> {
    let real = || {
        let postgres = std::fs::canonicalize(installation.bin_directory().join("postgres")).ok()?;
        Some(postgres.with_file_name(name)).filter(|path| path.is_file())
    };
    installation.program(name).ok().or_else(real)
}

/// Where the functions of `amcheck` are, quoted, if the database has them.
async fn schema_of_amcheck(session: &Session) -> Result<Option<String>> {
    let query = "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e
                 JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";
    session.text("look for amcheck in the database", query).await
}

/// Runs `amcheck` over a database: every index of type btree against its table, every table against its rows' rules.
///
/// # Errors
/// [`Error::Sql`] when the connection breaks; that contrib is missing or finds damage is a result, not an error.
pub(crate) async fn amcheck(session: &Session) -> Result<Check> {
    let available =
        session.text("look for amcheck", "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'").await?;
    if available.is_none() {
        return Ok(Check::new("amcheck", CheckStatus::Unknown, "the extension is not installed (it is part of contrib)"));
    }
    session.execute("prepare amcheck", "SET statement_timeout = '1h'").await?;
    let schema = match schema_of_amcheck(session).await? {
        Some(schema) => schema,
        None => {
            let statements = format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}; CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA {SCHEMA}");
            session.execute("create the extension amcheck", &statements).await?;
            SCHEMA.to_owned()
        }
    };
    let indexes = format!(
        "SELECT count({schema}.bt_index_check(index => i.indexrelid, heapallindexed => true)::text)
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         JOIN pg_catalog.pg_am a ON a.oid = c.relam
         WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid AND i.indisready"
    );
    let tables = format!(
        "SELECT count(*), count(v.msg), min(c.oid::pg_catalog.regclass::text || ', block ' || v.blkno || ': ' || v.msg)
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam AND a.amname = 'heap'
         LEFT JOIN LATERAL {schema}.verify_heapam(relation => c.oid) v ON true
         WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'"
    );
    let looked = async {
        let indexes: i64 = session.client().query_one(&indexes, &[]).await?.get(0);
        let row = session.client().query_one(&tables, &[]).await?;
        Ok::<_, tokio_postgres::Error>((indexes, row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, Option<String>>(2)))
    };
    let check = |status, summary| Ok(Check::new("amcheck", status, summary));
    match looked.await {
        Ok((indexes, tables, 0, _)) => check(CheckStatus::Pass, format!("{indexes} indexes and {tables} tables")),
        Ok((_, _, wrong, first)) => check(CheckStatus::Fail, format!("{wrong} rows are damaged; first {}", first.unwrap_or_default())),
        // bt_index_check reports damage as an error of the statement.
        Err(error) => match error.as_db_error() {
            Some(said) if said.code().code() == "57014" => check(CheckStatus::Unknown, "amcheck did not end within an hour".to_owned()),
            Some(said) => check(CheckStatus::Fail, said.message().to_owned()),
            None => Err(Error::sql("run amcheck", error)),
        },
    }
}
