//! What to load, how, and what came of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::error::Result;
use crate::logical::database_state::DatabaseState;
use crate::logical::opening::Opening;
use crate::logical::side_file::SideFile;
use crate::server::clients;
use crate::server::cluster::Cluster;
use crate::server::connection::ConnectionOptions;

/// A dump to load: where its bytes come from, and what is known about them.
pub struct DumpSource {
    /// How to call it in messages: its name in the store, its path, or `stdin`.
    pub name: String,
    /// The bytes as they are stored, compressed or not, encrypted or not.
    pub bytes: Box<dyn Read + Send>,
    /// What its side file says; nothing where there is none.
    pub expected: Option<Expected>,
    /// What opens it, where it is encrypted.
    pub opening: Opening,
}

impl DumpSource {
    /// A dump that is not encrypted.
    pub fn new(name: impl Into<String>, bytes: Box<dyn Read + Send>, expected: Option<Expected>) -> Self {
        Self { name: name.into(), bytes, expected, opening: Opening::default() }
    }
}

impl std::fmt::Debug for DumpSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DumpSource").field("name", &self.name).field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// What a dump must turn out to be, by its side file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// SHA-256 of the stored bytes.
    pub sha256: String,
    /// Their number.
    pub size_bytes: u64,
    /// The rows of each table; `None` for a caller who compares them by itself and wants the database also where they differ.
    pub tables: Option<BTreeMap<String, u64>>,
    /// The database's encoding, locale, owner, grants and settings, where it was recorded.
    pub state: Option<DatabaseState>,
}

impl From<&SideFile> for Expected {
    fn from(side_file: &SideFile) -> Self {
        Self {
            sha256: side_file.sha256.clone(),
            size_bytes: side_file.size_bytes,
            tables: Some(side_file.tables.clone()),
            state: side_file.state.clone(),
        }
    }
}

/// What to do with a target database that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse, before anything is loaded.
    Refuse,
    /// Rename it to `<database>_before_YYYYMMDD_HHMMSS`.
    KeepAside,
}

/// What to do with other sessions in the target database, which cannot be renamed under them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherSessions {
    /// Refuse, before anything is loaded.
    Refuse,
    /// End them, at the moment of the renaming.
    Disconnect,
}

/// As whom the dump's SQL runs, and whether a superuser may own what it made. Whoever owns a thing lends it his rights later:
/// the server itself analyzes an index on a function as the owner of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// As a role that is no superuser. What the dump gives to a superuser, or to a role that could become one, goes to the
    /// database's owner, or to a role without rights where that is a superuser, too.
    Nobody,
    /// As a role that is no superuser, but things belong to whom the dump gives them. For a dump whose side file lies in the
    /// cluster's own store, with the hash of these bytes; one without a side file is trusted as by [`Trust::Nobody`].
    OwnDump,
    /// As the configured role, even if it is a superuser: the dump can do whatever it likes to the whole machine.
    Superuser,
}

/// To whom the loaded things belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedOwners {
    /// As the dump says.
    AsDumped,
    /// All to the database's owner, and nothing is granted: for servers without the dump's roles.
    DatabaseOwner,
}

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// How to reach the server; the database is not used.
    pub connection: ConnectionOptions,
    /// The `psql` to use.
    pub psql: PathBuf,
    /// The database that the dump becomes.
    pub database: String,
    /// What to do when it exists and holds something.
    pub existing: Existing,
    /// What to do when somebody is connected to it.
    pub other_sessions: OtherSessions,
    /// As whom the dump's SQL runs, and who may own what it made.
    pub trust: Trust,
    /// To whom things belong.
    pub owners: LoadedOwners,
    /// Load into this cluster's own locale where it differs from the recorded one. The order of texts may change with it.
    pub accept_locale: bool,
    /// How long opening a session may take.
    pub connect: Duration,
    /// How long the whole load may take.
    pub timeout: Duration,
}

impl LoadOptions {
    /// The safe defaults: refuse what is in the way, trust nobody, give up after a day.
    pub fn new(connection: ConnectionOptions, psql: PathBuf, database: impl Into<String>) -> Self {
        Self {
            connection,
            psql,
            database: database.into(),
            existing: Existing::Refuse,
            other_sessions: OtherSessions::Refuse,
            trust: Trust::Nobody,
            owners: LoadedOwners::AsDumped,
            accept_locale: false,
            connect: Duration::from_secs(30),
            timeout: Duration::from_secs(24 * 60 * 60),
        }
    }

    /// The same for a running cluster, with the `psql` that fits its server.
    ///
    /// # Errors
    /// As [`Cluster::connection`] and [`clients::directory`].
    pub async fn for_cluster(cluster: &Cluster, database: impl Into<String>) -> Result<Self> {
        let connection = cluster.connection("postgres").await?;
        let psql = clients::directory(cluster, &connection, "psql").await?.join("psql");
        Ok(Self::new(connection, psql, database))
    }
}

/// What a load did.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// The dump.
    pub name: String,
    /// The database that it became.
    pub database: String,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// Whether bytes and rows were compared with what the side file says; nothing when there is none, or the rows are the
    /// caller's to compare. A difference is an error, so `false` never appears.
    pub verified: Option<bool>,
    /// The rows loaded into each table.
    pub tables: BTreeMap<String, u64>,
    /// Where the database that had the name before is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_aside: Option<String>,
    /// Leftovers of killed loads that were removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// What the user should know although all went well.
    pub warnings: Vec<String>,
}
