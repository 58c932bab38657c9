//! The empty cluster that a restore drill loads dumps into: volatile, reachable by nobody else, with nothing outward, and
//! gone with its handle.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, setpriority_process};

use crate::drill::restore::RestoreOptions;
use crate::drill::subjects::Subject;
use crate::error::{Error, ErrorKind, Result};
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::server::connection::ConnectionOptions;
use crate::server::installation::InstallationSearch;
use crate::server::session::Session;
use crate::temporary::cluster::{TemporaryCluster, TemporaryOptions};
use crate::workers;

const CONNECT: Duration = Duration::from_secs(30);
/// How much the drill's server steps back behind everybody else's work, in the units of `nice`.
const PRIORITY: i32 = 10;

/// The cluster.
#[derive(Debug)]
pub(crate) struct RestoreGround {
    made: TemporaryCluster,
    /// The `psql` that loads.
    pub(crate) psql: PathBuf,
    /// The role that looks at what was loaded: it reads everything and is no superuser, since views and functions of the
    /// dump run with the rights of whoever calls them.
    reader: String,
    /// How long making it took.
    pub(crate) made_in: Duration,
}

impl RestoreGround {
    /// Makes one that the newest of the dumps fits into.
    ///
    /// # Errors
    /// `Conflict` when the programs here are older than a dump's server; as [`TemporaryCluster::start`].
    pub(crate) async fn make(subjects: &[Subject], options: &RestoreOptions) -> Result<Self> {
        let began = Instant::now();
        let (search, subjects) = (options.search.clone(), subjects.to_vec());
        let major = workers::run(move || fitting_major(&search, &subjects)).await?;
        let made = TemporaryCluster::start(TemporaryOptions {
            search: options.search.clone(),
            major,
            os_user: options.os_user.clone(),
            parent: options.parent.clone(),
            ..TemporaryOptions::default()
        })
        .await
        .map_err(|error| with_room(error, options.parent.as_deref().unwrap_or(&std::env::temp_dir())))?;
        give_way(&made).await;
        let (search, version) = (options.search.clone(), made.installation().version());
        let (psql, _) = workers::run(move || search.client("psql", version)).await?;
        let reader = format!("pgpersist_drill_{:08x}", rand::random::<u32>());
        let ground = Self { made, psql, reader, made_in: began.elapsed() };
        let name = quote::identifier(&ground.reader);
        let statements = format!("CREATE ROLE {name} LOGIN BYPASSRLS; GRANT pg_read_all_data, pg_monitor TO {name}");
        ground.superuser("postgres").await?.execute("create the role that looks", &statements).await?;
        Ok(ground)
    }

    /// How to reach it as superuser.
    pub(crate) fn connection(&self) -> ConnectionOptions {
        self.made.connection("postgres")
    }

    /// The version of its server.
    pub(crate) fn version(&self) -> ServerVersion {
        self.made.installation().version()
    }

    /// The folder that must have room for it.
    pub(crate) fn place(&self) -> &Path {
        self.made.folder().parent().unwrap_or(self.made.folder())
    }

    /// A session that may do everything; never for what a dump brought along.
    pub(crate) async fn superuser(&self, database: &str) -> Result<Session> {
        self.made.session(database).await
    }

    /// A session that may look at everything.
    pub(crate) async fn reader(&self, database: &str) -> Result<Session> {
        Session::connect(&ConnectionOptions { user: self.reader.clone(), ..self.made.connection(database) }, CONNECT).await
    }

    /// Lets the looking role into a database, whose own grants and limits are not about it.
    pub(crate) async fn admit_reader(&self, database: &str) -> Result<()> {
        let (database, reader) = (quote::identifier(database), quote::identifier(&self.reader));
        let statements = format!("GRANT CONNECT ON DATABASE {database} TO {reader}; ALTER DATABASE {database} CONNECTION LIMIT -1");
        self.superuser("template1").await?.execute("open the database to the drill", &statements).await
    }

    /// Ends it, and returns when nothing of it is left.
    pub(crate) async fn clear(self) -> Result<()> {
        self.made.stop().await
    }

    /// Stops its server and lets the files stay. Returns their folder, and how to look into it and to remove it.
    pub(crate) async fn keep(self, database: &str) -> Result<(PathBuf, Vec<String>)> {
        let bin = self.made.installation().bin_directory().to_owned();
        let folder = self.made.keep().await?;
        let word = |path: &Path| quote::shell(&path.display().to_string());
        let (server, data, place) = (word(&bin.join("pg_ctl")), word(&folder.join("data")), word(&folder));
        let socket = quote::shell(&format!("-c unix_socket_directories={place}"));
        let commands = vec![
            format!("{server} -D {data} -l {} -o {socket} start", word(&folder.join("server.log"))),
            format!("{} -h {place} -U postgres -d {}", word(&bin.join("psql")), quote::shell(database)),
            format!("{server} -D {data} stop"),
            format!("rm -r {place}"),
        ];
        Ok((folder, commands))
    }
}

/// The major version to make: that of the newest dump, or the nearest newer one that is here. Blocking.
fn fitting_major(search: &InstallationSearch, subjects: &[Subject]) -> Result<Option<u32>> {
    let dumps = subjects.iter().filter_map(|subject| subject.dump.as_ref());
    let versions = dumps.filter_map(|dump| Some((dump.side_file.as_ref()?.server_version, &dump.name)));
    let Some((version, name)) = versions.max_by_key(|(version, _)| version.major) else { return Ok(None) };
    match search.client("initdb", version) {
        Ok((_, found)) => Ok(Some(found.major)),
        Err(Error::VersionMismatch { program_version, .. }) => Err(Error::conflict(
            format!("{name} is a dump of PostgreSQL {version}, and the newest programs here are {program_version}"),
            format!(
                "install PostgreSQL {0} (Debian: `apt-get install postgresql-{0}`), as a restore onto this machine would need it",
                version.major
            ),
        )),
        Err(error) => Err(error),
    }
}

/// Lets everybody else's work go first. The server's processes inherit it. Where this is not possible the drill is only in
/// the way.
async fn give_way(made: &TemporaryCluster) {
    if let Ok(presence) = made.cluster().presence().await
        && let Some(postmaster) = presence.running().and_then(|file| Pid::from_raw(file.pid))
    {
        let _ = setpriority_process(Some(postmaster), PRIORITY);
    }
}

/// What helps when the drill's own cluster cannot go on: most often it has no room.
pub(crate) fn with_room(error: Error, folder: &Path) -> Error {
    let remedy = Some(format!(
        "see that {} has room for everything that is to be restored, or name another folder with TMPDIR; nothing was left half-done",
        folder.display()
    ));
    match error {
        Error::Program { program, status, said, kind: kind @ ErrorKind::Unavailable, .. } => {
            Error::Program { program, status, said, kind, remedy }
        }
        Error::ServerStart { directory, kind: kind @ ErrorKind::Unavailable, log, .. } => {
            Error::ServerStart { directory, kind, log, remedy }
        }
        Error::Unavailable { what, .. } => Error::Unavailable { what, remedy },
        other => other,
    }
}
