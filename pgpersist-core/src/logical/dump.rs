//! `pg_dump` → rows counted → parallel gzip → encrypted, where it is to be → store: one `.sql.gz`, or `.sql.gz.age`, for each
//! database, and one of the roles.
//!
//! Publishing order: the dump under its final name, whole and durable, then its side file, then the globals. A kill in between leaves a dump
//! that can be listed and loaded all the same. Databases are dumped one after the other, each as of the moment that its
//! `pg_dump` began: no moment is common to all of them.
//!
//! `--serializable-deferrable` is not used: it waits without bound on a busy server, and changes the result only for
//! anomalies between serializable transactions.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::key_ring::writer::WriteKey;
use crate::logical::database_state::DatabaseState;
use crate::logical::gzip;
use crate::logical::place::Place;
use crate::logical::side_file::{FORMAT, SideEncryption, SideFile};
use crate::logical::store_output::{Envelope, store_output};
use crate::pg::version::ServerVersion;
use crate::progress::{Event, ProgressSink};
use crate::server::connection::ConnectionOptions;
use crate::server::program::Program;
use crate::server::session::Session;
use crate::store::{BackupStore, ObjectKey};

/// What to dump, and with what.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// How to reach the server; the database is replaced by each of those to dump.
    pub connection: ConnectionOptions,
    /// The folder of `pg_dump` and `pg_dumpall`, which must not be older than the server.
    pub bin_directory: PathBuf,
    /// How many threads compress.
    pub threads: NonZeroUsize,
    /// How long `pg_dump` may wait for a table that somebody has locked.
    pub lock_wait: Duration,
    /// How long `pg_dump` may print nothing. A catalog of 100,000 tables takes minutes before its first line.
    pub stall: Duration,
    /// How long opening a session may take.
    pub connect: Duration,
    /// Whether dumps of roles hold their passwords.
    pub role_passwords: RolePasswords,
    /// To whom dumps are encrypted; nobody by default. [`dump_cluster`](crate::logical::dump_cluster::dump_cluster) takes what the shelf
    /// says.
    pub write_key: Option<WriteKey>,
}

impl DumpOptions {
    fn envelope(&self, key: &ObjectKey, system_identifier: u64) -> Envelope {
        let recipients = self.write_key.as_ref().map(WriteKey::all).unwrap_or_default();
        Envelope { key: key.clone(), place: Place::new(key, Some(system_identifier)), recipients }
    }

    /// The defaults: a thread for each core, 60 s for a lock, 30 minutes of silence, 30 s to connect, no passwords.
    pub fn new(connection: ConnectionOptions, bin_directory: &Path) -> Self {
        Self {
            connection,
            bin_directory: bin_directory.to_owned(),
            threads: gzip::default_threads(),
            lock_wait: Duration::from_secs(60),
            stall: Duration::from_secs(30 * 60),
            connect: Duration::from_secs(30),
            role_passwords: RolePasswords::LeaveOut,
            write_key: None,
        }
    }
}

/// What a dump of roles says of their passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolePasswords {
    /// Nothing: a role that is made from it can log in with a password only when it gets a new one.
    LeaveOut,
    /// What the server keeps of them. Whoever reads backups can then try out passwords at leisure, and needs no password at all
    /// where it is stored as MD5.
    Keep,
}

/// One dump that now stands in the store.
#[derive(Debug, Clone, Serialize)]
pub struct Dump {
    /// Its path relative to the store.
    pub name: ObjectKey,
    /// The database.
    pub database: String,
    /// Its compressed size.
    pub size_bytes: u64,
    /// How long it took.
    #[serde(rename = "duration_s", serialize_with = "seconds")]
    pub duration: Duration,
    /// When it began, by the clock; the name may be later.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// SHA-256 of the compressed bytes, as `sha256sum` prints it.
    pub sha256: String,
    /// The size of the SQL text.
    pub uncompressed_bytes: u64,
    /// The server's version.
    pub server_version: ServerVersion,
    /// pg_dump's version.
    pub program_version: ServerVersion,
    /// The rows of each table that the dump has data of.
    pub tables: std::collections::BTreeMap<String, u64>,
    /// Encoding, locale, owner, grants and settings of the database.
    pub state: DatabaseState,
    /// To whom it is encrypted, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<SideEncryption>,
}

impl Dump {
    /// What stands beside it in the store.
    pub fn side_file(&self, cluster: &str, system_identifier: u64) -> SideFile {
        SideFile {
            format: FORMAT,
            database: self.database.clone(),
            cluster: cluster.to_owned(),
            system_identifier,
            server_version: self.server_version,
            pg_dump_version: self.program_version,
            pgpersist_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            finished_at: self.started_at + self.duration,
            size_bytes: self.size_bytes,
            sha256: self.sha256.clone(),
            uncompressed_bytes: self.uncompressed_bytes,
            tables: self.tables.clone(),
            encryption: self.encryption.clone(),
            state: Some(self.state.clone()),
        }
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Dumps one database under `key`.
///
/// # Errors
/// [`Error::VersionMismatch`] when `pg_dump` is older than the server, before anything starts; [`Error::Sql`] when the
/// server cannot be reached or has no such database; [`Error::Program`] when `pg_dump` fails or is killed;
/// [`Error::Damaged`] when its output stops short; what the store says, `Conflict` where the key is taken. In every case
/// nothing stands under `key` that was not there before.
pub async fn dump_database(
    options: &DumpOptions,
    database: &str,
    key: &ObjectKey,
    store: &dyn BackupStore,
    clock: &Arc<dyn Clock>,
    progress: &dyn ProgressSink,
) -> Result<Dump> {
    let connection = options.connection.with_database(database);
    let session = Session::connect(&connection, options.connect).await?;
    let server_version = session.version().await?;
    let pg_dump = options.bin_directory.join("pg_dump");
    let program_version = not_older(&pg_dump, server_version).await?;
    let state = DatabaseState::read(&session, server_version).await?;
    let envelope = options.envelope(key, session.system_identifier().await?);
    drop(session);
    progress.event(Event::Step(format!("dumping {database}")));
    let started_at = clock.now();
    // The password goes through the environment, and nobody is asked for one. A name is only ever part of the quoted
    // connection string: as an argument of its own it could be an option or a URL.
    let program = Program::new(&pg_dump)
        .arg("--format=plain")
        .arg("--no-password")
        .arg(format!("--lock-wait-timeout={}", options.lock_wait.as_millis()))
        .connected_to(&connection);
    let stored = store_output(&program, "pg_dump", store, envelope, options.threads, options.stall, progress).await?;
    Ok(Dump {
        name: key.clone(),
        database: database.to_owned(),
        size_bytes: stored.size_bytes,
        duration: stored.duration,
        started_at,
        sha256: stored.sha256,
        uncompressed_bytes: stored.uncompressed_bytes,
        server_version,
        program_version,
        tables: stored.scanned.tables,
        state,
        encryption: options.write_key.as_ref().map(SideEncryption::from),
    })
}

/// Dumps the roles and what is granted on tablespaces and settings under `key`.
///
/// # Errors
/// As [`dump_database`].
pub async fn dump_globals(options: &DumpOptions, key: &ObjectKey, store: &dyn BackupStore, progress: &dyn ProgressSink) -> Result<u64> {
    let session = Session::connect(&options.connection, options.connect).await?;
    let server_version = session.version().await?;
    let envelope = options.envelope(key, session.system_identifier().await?);
    drop(session);
    let pg_dumpall = options.bin_directory.join("pg_dumpall");
    not_older(&pg_dumpall, server_version).await?;
    progress.event(Event::Step("dumping roles".to_owned()));
    let mut program = Program::new(&pg_dumpall).arg("--globals-only");
    if options.role_passwords == RolePasswords::LeaveOut {
        program = program.arg("--no-role-passwords");
    }
    let program = program
        .arg("--no-password")
        .arg(format!("--lock-wait-timeout={}", options.lock_wait.as_millis()))
        .connected_to(&options.connection);
    Ok(store_output(&program, "pg_dumpall", store, envelope, NonZeroUsize::MIN, options.stall, progress).await?.size_bytes)
}

async fn not_older(program: &Path, server: ServerVersion) -> Result<ServerVersion> {
    let version = Program::version(program).await?;
    if version.major >= server.major {
        return Ok(version);
    }
    Err(Error::VersionMismatch {
        program: program.display().to_string(),
        program_version: version,
        other: "the server".to_owned(),
        other_version: server,
        remedy: Some(format!(
            "install the client programs of PostgreSQL {0} (Debian: `apt-get install postgresql-client-{0}`)",
            server.major
        )),
    })
}
