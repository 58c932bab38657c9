//! A real PostgreSQL in the time of a function call, for tests and drills; gone with its handle.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::data_directory::local::LocalDataDirectory;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable;
use crate::fs::os_user::OsUser;
use crate::pg::quote;
use crate::secret::Secret;
use crate::server::cluster::{Cluster, ClusterOptions};
use crate::server::connection::{ConnectionOptions, Host};
use crate::server::installation::{InstallationSearch, PostgresInstallation};
use crate::server::session::Session;
use crate::server::settings::Profile;
use crate::server::start::{self, StartOptions};
use crate::server::stop;
use crate::temporary::clone::{Copying, fresh_system_identifier};
use crate::temporary::installed;
use crate::temporary::scratch::{self, Afterwards, Scratch};
use crate::temporary::server::{kill_servers, release_shared_memory, start_ephemeral};
use crate::temporary::sweeper;
use crate::temporary::template::{self, SUPERUSER, Template};
use crate::workers;

/// How often another port is tried when somebody took the one that the kernel had just called free.
const PORTS: usize = 20;
/// How long our own sessions wait for an answer.
const SESSION: Duration = Duration::from_secs(30);
/// The port in a socket's name, where there is no other server in the same folder.
const SOCKET_PORT: u16 = 5432;

/// What kind of throw-away cluster is wanted. The default is the fastest one.
#[derive(Debug, Clone)]
pub struct TemporaryOptions {
    /// Where PostgreSQL's programs are looked for.
    pub search: InstallationSearch,
    /// The major version, where it matters.
    pub major: Option<u32>,
    /// `Ephemeral` for tests of an application; `Durable` where the cluster is to be killed and must lose nothing.
    pub profile: Profile,
    /// Also listen on a free port of 127.0.0.1, with a password of its own. Else there is a Unix socket alone, in a folder
    /// that only its owner can enter.
    pub tcp: bool,
    /// Any settings of `postgresql.conf`; they win over our own.
    pub settings: BTreeMap<String, String>,
    /// Databases to be created.
    pub databases: Vec<String>,
    /// What happens to the files at the end.
    pub afterwards: Afterwards,
    /// The user that the server runs as, where we are root: by default `postgres`.
    pub os_user: Option<OsUser>,
    /// The folder that holds the scratch folder: by default `TMPDIR`, else `/tmp`.
    pub parent: Option<PathBuf>,
    /// The folder of templates, instead of the user's cache.
    pub cache: Option<PathBuf>,
    /// How long to wait for the server.
    pub timeout: Duration,
}

impl Default for TemporaryOptions {
    fn default() -> Self {
        Self {
            search: InstallationSearch::from_environment(None),
            major: None,
            profile: Profile::Ephemeral,
            tcp: false,
            settings: BTreeMap::new(),
            databases: Vec::new(),
            afterwards: Afterwards::Remove,
            os_user: None,
            parent: None,
            cache: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// A running cluster that nobody will miss.
///
/// When this is dropped, its server is ended and its files are removed, which takes some ten milliseconds and blocks; when
/// the process that holds it dies, however it dies, the same happens. [`TemporaryCluster::stop`] tells whether it worked.
#[derive(Debug)]
pub struct TemporaryCluster {
    cluster: Cluster,
    installation: PostgresInstallation,
    scratch: Scratch,
    tcp: bool,
    timeout: Duration,
}

impl TemporaryCluster {
    /// Makes a cluster and starts it. The first one of a PostgreSQL version takes as long as `initdb`; each later one is a
    /// copy. It has a superuser `postgres` and a system identifier of its own.
    ///
    /// # Errors
    /// `NotFound` when there is no PostgreSQL that fits; `Invalid` for settings that the server refuses; `Denied` as root
    /// where there is no user `postgres`.
    pub fn start(options: TemporaryOptions) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let mut options = options;
            if options.os_user.is_none() {
                options.os_user = server_user()?;
            }
            let made = match Self::make(&options).await {
                Err(error) if error.kind() == ErrorKind::Damaged => Self::make(&options).await?,
                result => result?,
            };
            let session = if options.tcp || !options.databases.is_empty() { Some(made.session("postgres").await?) } else { None };
            if let (Some(session), Some(password)) = (&session, &made.cluster.options().password) {
                // Until this is done nobody can log in over TCP: a role without a password has none that fits.
                let statement = format!("ALTER ROLE {} PASSWORD {}", quote::identifier(SUPERUSER), quote::literal(password.expose()));
                session.execute("set the password", &statement).await?;
            }
            for database in &options.databases {
                made.create_database(database, None).await?;
            }
            let (parent, os_user) = (made.scratch.path().parent().map(Path::to_owned), options.os_user);
            // What others left behind is nothing that a caller should wait for, or hear about.
            thread::spawn(move || parent.map(|parent| sweeper::sweep(&parent, os_user.as_ref())));
            Ok(made)
        })
    }

    /// One attempt; after `Damaged`, the template is discarded and another may work.
    async fn make(options: &TemporaryOptions) -> Result<Self> {
        let Found { installation, template, scratch } = {
            let options = options.clone();
            workers::run(move || find(&options)).await?
        };
        let made = Self::make_from(installation, template.clone(), scratch, options).await;
        if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::Damaged) && !template.is_new {
            workers::run(move || template.discard()).await?;
        }
        made
    }

    async fn make_from(
        installation: PostgresInstallation,
        template: Template,
        scratch: Option<Scratch>,
        options: &TemporaryOptions,
    ) -> Result<Self> {
        let (scratch, mut databases) = {
            let options = options.clone();
            workers::run(move || copy(template, scratch, &options)).await?
        };
        let mut port = SOCKET_PORT;
        let mut attempt = 1;
        loop {
            if options.tcp {
                port = free_port()?;
            }
            let cluster = Cluster::new(
                Arc::new(LocalDataDirectory::open(scratch.data())?),
                InstallationSearch { configured: Some(installation.bin_directory().to_owned()), ..InstallationSearch::default() },
                cluster_options(options, &scratch, port),
            );
            let started = match options.profile {
                Profile::Ephemeral => {
                    let (cluster, installation, timeout) = (cluster.clone(), installation.clone(), options.timeout);
                    workers::run(move || start_ephemeral(&cluster, &installation, timeout)).await
                }
                Profile::Durable => {
                    start::start(&cluster, &StartOptions { timeout: options.timeout, ..StartOptions::default() }).await.map(drop)
                }
            };
            if let Some(databases) = databases.take() {
                // Only now there is something to connect to. That the copy is incomplete matters more than what a server
                // says of it.
                workers::run(move || joined(databases)).await?;
            }
            match started {
                Ok(()) => return Ok(Self { cluster, installation, scratch, tcp: options.tcp, timeout: options.timeout }),
                Err(error) if options.tcp && attempt < PORTS && is_port_in_use(&error) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The cluster, for everything that works with any cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The programs that serve it.
    pub fn installation(&self) -> &PostgresInstallation {
        &self.installation
    }

    /// The folder that holds all of it, for files that are to vanish with it.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The folder of its socket.
    pub fn socket_directory(&self) -> &Path {
        self.scratch.path()
    }

    /// How to connect to one of its databases: over TCP where that was asked for, else through the socket.
    pub fn connection(&self, database: &str) -> ConnectionOptions {
        if self.tcp {
            return ConnectionOptions { host: Host::Tcp(Ipv4Addr::LOCALHOST.to_string()), ..self.local_connection(database) };
        }
        self.local_connection(database)
    }

    fn local_connection(&self, database: &str) -> ConnectionOptions {
        let options = self.cluster.options();
        ConnectionOptions {
            host: Host::Socket(self.socket_directory().to_owned()),
            port: options.port,
            user: options.user.clone(),
            database: database.to_owned(),
            password: options.password.clone(),
            os_user: options.os_user.clone(),
        }
    }

    /// The connection as a URL for `DATABASE_URL`, with the password in it.
    pub fn url(&self, database: &str) -> Secret<String> {
        url(&self.connection(database))
    }

    /// Opens a session as superuser.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub fn session<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Session>> {
        Box::pin(async move { Session::connect(&self.local_connection(database), SESSION).await })
    }

    /// Creates a database, as a copy of `template` where one is named. The fastest way to another isolated database.
    ///
    /// # Errors
    /// `Conflict` when it exists, or when somebody is connected to the template.
    pub async fn create_database(&self, name: &str, template: Option<&str>) -> Result<()> {
        let mut statement = format!("CREATE DATABASE {}", quote::identifier(name));
        if let Some(template) = template {
            statement.push_str(&format!(" TEMPLATE {}", quote::identifier(template)));
        }
        self.session("postgres").await?.execute(&format!("create database `{name}`"), &statement).await
    }

    /// Kills the server with SIGKILL, every process of it, as a crash does. Returns when the last one is gone.
    ///
    /// # Errors
    /// `Deadline` when one of them stays.
    pub async fn kill9(&self) -> Result<()> {
        let data = self.cluster.path().to_owned();
        workers::run(move || kill_servers(&data)).await
    }

    /// Stops the server, where it still runs, and starts it again; recovers what a crash left.
    ///
    /// # Errors
    /// As [`stop::stop`] and [`start::start`].
    pub fn restart<'a>(&'a self) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            stop::stop(&self.cluster, self.timeout).await?;
            let data = self.cluster.path().to_owned();
            workers::run(move || {
                release_shared_memory(&data);
                Ok(())
            })
            .await?;
            // Nobody else can use this folder, so a pid file without a server is a dead one's.
            start::start(&self.cluster, &StartOptions { timeout: self.timeout, trust_stale_pid: true }).await?;
            Ok(())
        })
    }

    /// Stops the server and lets its files stay after all, as evidence. Returns their folder; nobody removes it any more.
    ///
    /// # Errors
    /// `Deadline` when the server could not be ended.
    pub fn keep(self) -> BoxFuture<'static, Result<PathBuf>> {
        Box::pin(async move {
            let scratch = self.scratch;
            workers::run(move || scratch.keep()).await
        })
    }

    /// Ends it now, and returns when nothing of it is left.
    ///
    /// # Errors
    /// `Deadline` when something could not be ended or removed.
    pub fn stop(self) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let scratch = self.scratch;
            workers::run(move || scratch.end()).await
        })
    }

    /// Removes what processes that are dead left in the folder where throw-away clusters are made by default, and returns
    /// what it removed. Every start does so too, so this is for those who start none.
    ///
    /// # Errors
    /// As [`sweeper::sweep`].
    pub async fn sweep() -> Result<Vec<PathBuf>> {
        let os_user = server_user()?;
        workers::run(move || sweeper::sweep(&scratch::temporary_folder(os_user.as_ref()), os_user.as_ref())).await
    }
}

/// Whom the server runs as, when not as ourselves.
fn server_user() -> Result<Option<OsUser>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let user = OsUser::lookup("postgres")?;
    user.map(Some).ok_or_else(|| {
        Error::denied("PostgreSQL refuses to run as root, and there is no user `postgres`", "create one, or run as another user")
    })
}

/// What a cluster is made from.
struct Found {
    installation: PostgresInstallation,
    template: Template,
    /// The cluster's folder, where the template had to go there.
    scratch: Option<Scratch>,
}

/// The programs and their template. Blocking.
fn find(options: &TemporaryOptions) -> Result<Found> {
    let os_user = options.os_user.as_ref();
    let (cache, scratch) = match template::cache_folder(options.cache.as_deref(), os_user)? {
        Some(cache) => (cache, None),
        // In a container, each volume is open to its group at least, and the rest is read-only. The template then lives and
        // ends with its one cluster.
        None => {
            let scratch = Scratch::create(options.parent.as_deref(), os_user, options.afterwards)?;
            let cache = scratch.path().join(template::FOLDER);
            durable::create_directory(&cache, 0o700)?;
            (cache, Some(scratch))
        }
    };
    let installation = installed::choose(&cache, &options.search, options.major)?;
    let template = Template::ensure(&cache, &installation, os_user)?;
    Ok(Found { installation, template, scratch })
}

/// Makes the folder and all in it that a server needs to start. The databases of an ephemeral cluster are still being
/// copied then. Blocking.
fn copy(template: Template, scratch: Option<Scratch>, options: &TemporaryOptions) -> Result<(Scratch, Option<JoinHandle<Result<()>>>)> {
    let os_user = options.os_user.as_ref();
    let scratch = match scratch {
        Some(scratch) => scratch,
        None => Scratch::create(options.parent.as_deref(), os_user, options.afterwards)?,
    };
    let copying = Copying::begin(template, &scratch.data(), os_user)?;
    copying.essentials(fresh_system_identifier())?;
    let databases = match options.profile {
        Profile::Ephemeral => {
            let thread = thread::Builder::new().name("databases".to_owned()).spawn(move || copying.databases());
            Some(thread.map_err(|e| Error::file("copy to", scratch.data(), e))?)
        }
        Profile::Durable => {
            copying.databases()?;
            durable::sync_tree(&scratch.data())?;
            None
        }
    };
    scratch.give_to(os_user)?;
    Ok((scratch, databases))
}

fn joined(copying: JoinHandle<Result<()>>) -> Result<()> {
    copying.join().unwrap_or_else(|_| Err(Error::Bug("a copying thread panicked".to_owned())))
}

fn cluster_options(options: &TemporaryOptions, scratch: &Scratch, port: u16) -> ClusterOptions {
    let mut settings: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| settings.insert(name.to_owned(), value.to_owned());
    set("listen_addresses", if options.tcp { "127.0.0.1" } else { "" });
    // Shared memory that outlives a killed server would be left in /dev/shm; as a file in the data directory it goes along.
    set("dynamic_shared_memory_type", "mmap");
    // Nothing else: smaller buffers, fewer connections, minimal WAL, no autovacuum or background workers make no measurable
    // difference to a start (30 ms, a third of it the dynamic linker's), and a test wants the server that it will meet.
    settings.extend(options.settings.clone());
    ClusterOptions {
        port,
        settings,
        log_directory: Some(scratch.path().to_owned()),
        profile: options.profile,
        user: SUPERUSER.to_owned(),
        password: options.tcp.then(|| Secret::new(format!("{:032x}", rand::random::<u128>()))),
        host: None,
        os_user: options.os_user.clone(),
        command_line: BTreeMap::new(),
        socket_directory: Some(scratch.path().to_owned()),
    }
}

/// A port that the kernel calls free. Somebody may take it before the server does; then the start fails and tries another.
fn free_port() -> Result<u16> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).map(|address| address.port());
    port.map_err(|e| Error::unavailable(format!("there is no free port on 127.0.0.1: {e}"), "use the socket instead"))
}

fn is_port_in_use(error: &Error) -> bool {
    matches!(error, Error::ServerStart { log, .. } if log.0.contains("Address already in use"))
}

fn url(connection: &ConnectionOptions) -> Secret<String> {
    const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    const PATH: AsciiSet = KEPT.remove(b'/');
    let text = |value: &str| utf8_percent_encode(value, &KEPT).to_string();
    let (user, database, port) = (text(&connection.user), text(&connection.database), connection.port);
    Secret::new(match &connection.host {
        Host::Socket(folder) => {
            let folder = folder.display().to_string();
            format!("postgresql://{user}@/{database}?host={}&port={port}", utf8_percent_encode(&folder, &PATH))
        }
        Host::Tcp(host) => {
            let password = connection.password.as_ref().map(|password| format!(":{}", text(password.expose()))).unwrap_or_default();
            format!("postgresql://{user}{password}@{host}:{port}/{database}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_hold_any_name() {
        let socket = ConnectionOptions {
            host: Host::parse("/tmp/a b"),
            port: 5432,
            user: "postgres".into(),
            database: "₹/?".into(),
            password: Some(Secret::new("secret".into())),
            os_user: None,
        };
        assert_eq!(url(&socket).expose(), "postgresql://postgres@/%E2%82%B9%2F%3F?host=/tmp/a%20b&port=5432");
        let tcp = ConnectionOptions { host: Host::parse("127.0.0.1"), ..socket };
        assert_eq!(url(&tcp).expose(), "postgresql://postgres:secret@127.0.0.1:5432/%E2%82%B9%2F%3F");
    }
}
