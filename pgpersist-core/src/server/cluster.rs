//! A cluster as something to start, stop and ask: a data directory, the programs that fit it, and its settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::data_directory::state::State;
use crate::data_directory::{DataDirectory, fence};
use crate::error::{Error, Result};
use crate::fs::os_user::{self, OsUser};
use crate::pg::control_file::ClusterState;
use crate::pg::postmaster_pid::PostmasterPid;
use crate::secret::Secret;
use crate::server::connection::{ConnectionOptions, Host};
use crate::server::installation::{InstallationSearch, PostgresInstallation};
use crate::server::lock::{self, Held};
use crate::server::log_file::LogFile;
use crate::server::process::Presence;
use crate::server::settings::{Profile, Settings};
use crate::workers;

/// How a cluster is run and reached.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The port, which is also part of the socket's name.
    pub port: u16,
    /// Any settings of `postgresql.conf`.
    pub settings: BTreeMap<String, String>,
    /// The folder of the server's log; by default it lies on the volume beside the data.
    pub log_directory: Option<PathBuf>,
    /// Durable, unless this is a throw-away cluster.
    pub profile: Profile,
    /// The role that our own sessions log in as: by default [`os_user::default_role`], the superuser of a cluster that this user
    /// makes.
    pub user: String,
    /// Its password, where one is asked for.
    pub password: Option<Secret<String>>,
    /// Where our own sessions connect to, instead of where the server says it listens.
    pub host: Option<Host>,
    /// The user that the server and its helpers run as, where we are root; our own sessions reach its socket as this user, too.
    pub os_user: Option<OsUser>,
    /// Settings that go on the server's command line, where they beat every file.
    pub command_line: BTreeMap<String, String>,
    /// The only folder for the server's socket, instead of what its configuration says.
    pub socket_directory: Option<PathBuf>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            port: 5432,
            settings: BTreeMap::new(),
            log_directory: None,
            profile: Profile::Durable,
            user: os_user::default_role(),
            password: None,
            host: None,
            os_user: None,
            command_line: BTreeMap::new(),
            socket_directory: None,
        }
    }
}

/// One cluster. Dropping it changes nothing: a server that runs goes on running.
#[derive(Debug, Clone)]
pub struct Cluster {
    directory: Arc<dyn DataDirectory>,
    search: InstallationSearch,
    options: ClusterOptions,
}

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It accepts connections.
    Running,
    /// It replays WAL after a crash or from an archive.
    Recovering,
    /// It is on its way up.
    Starting,
    /// It is on its way down.
    Stopping,
    /// A cluster without a server.
    Stopped,
    /// No directory.
    Absent,
    /// An empty directory.
    Empty,
    /// Our own interrupted work.
    HalfMade,
    /// Somebody else's files.
    Foreign,
    /// Files that contradict each other.
    Damaged,
}

/// What `pgpersist status` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    /// What the server is doing.
    pub state: ServerState,
    /// Why, where the state alone does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The postmaster's process id.
    pub pid: Option<i32>,
    /// Its port.
    pub port: Option<u16>,
    /// The folder of its socket.
    pub socket_directory: Option<PathBuf>,
    /// The major version of the cluster, or the full version of its programs where they are at hand.
    pub version: Option<String>,
    /// The system identifier, as text.
    pub system_identifier: Option<String>,
    /// The server's log.
    pub log_file: PathBuf,
    /// The data directory.
    pub data_directory: PathBuf,
}

impl Cluster {
    /// Names a cluster; touches nothing.
    pub fn new(directory: Arc<dyn DataDirectory>, search: InstallationSearch, options: ClusterOptions) -> Self {
        Self { directory, search, options }
    }

    /// The data directory.
    pub fn directory(&self) -> &Arc<dyn DataDirectory> {
        &self.directory
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// How it is run and reached.
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// Where PostgreSQL's programs are looked for.
    pub fn search(&self) -> &InstallationSearch {
        &self.search
    }

    /// The server's log.
    pub fn log_file(&self) -> LogFile {
        match &self.options.log_directory {
            Some(folder) => LogFile::in_folder(folder).of_user(self.options.os_user.clone()),
            None => LogFile::in_folder(&self.directory.own_folder().log_directory()),
        }
    }

    /// The settings that `pgpersist.conf` is to hold.
    pub fn settings(&self) -> Settings {
        Settings { port: self.options.port, others: self.options.settings.clone() }
    }

    /// The programs that fit the data directory.
    ///
    /// # Errors
    /// As [`State::into_cluster`] and [`InstallationSearch::for_cluster`].
    pub async fn installation(&self) -> Result<PostgresInstallation> {
        let files = self.directory.state().await?.into_cluster(self.path())?;
        let (search, path) = (self.search.clone(), self.path().to_owned());
        workers::run(move || search.for_cluster(&path, files.major)).await
    }

    /// Whether a server runs here, by its process.
    ///
    /// # Errors
    /// As [`Presence::of`].
    pub async fn presence(&self) -> Result<Presence> {
        let path = self.path().to_owned();
        workers::run(move || Presence::of(&path)).await
    }

    /// What stands here and what the server is doing. Takes no lock and works in every state.
    ///
    /// # Errors
    /// [`Error::File`] when the directory may not be looked at.
    pub fn status<'a>(&'a self) -> BoxFuture<'a, Result<ServerStatus>> {
        Box::pin(async move {
            let state = self.directory.state().await?;
            let mut status = ServerStatus {
                state: match &state {
                    State::Absent => ServerState::Absent,
                    State::Empty => ServerState::Empty,
                    State::HalfMade { .. } => ServerState::HalfMade,
                    State::Cluster(_) => ServerState::Stopped,
                    State::Foreign { .. } => ServerState::Foreign,
                    State::Damaged { .. } => ServerState::Damaged,
                },
                detail: None,
                pid: None,
                port: None,
                socket_directory: None,
                version: None,
                system_identifier: None,
                log_file: self.log_file().path().to_owned(),
                data_directory: self.path().to_owned(),
            };
            let files = match state {
                State::Cluster(files) => files,
                State::HalfMade { operation } => {
                    return Ok(ServerStatus { detail: Some(format!("`{operation}` was interrupted")), ..status });
                }
                State::Foreign { examples } => return Ok(ServerStatus { detail: Some(examples.join(", ")), ..status }),
                State::Damaged { reason } => return Ok(ServerStatus { detail: Some(reason), ..status }),
                State::Absent | State::Empty => return Ok(status),
            };
            status.system_identifier = Some(files.control.system_identifier.to_string());
            let (search, path, major) = (self.search.clone(), self.path().to_owned(), files.major);
            let installation = workers::run(move || Ok(search.for_cluster(&path, major).ok())).await?;
            status.version = Some(installation.map_or(files.major.to_string(), |i| i.version().to_string()));
            match self.presence().await? {
                Presence::Running(pid_file) => {
                    status.state = match (pid_file.status.as_deref(), files.control.state) {
                        (Some("ready"), _) => ServerState::Running,
                        (Some("stopping"), _) => ServerState::Stopping,
                        (Some("standby"), _) | (_, ClusterState::InCrashRecovery | ClusterState::InArchiveRecovery) => {
                            ServerState::Recovering
                        }
                        _ => ServerState::Starting,
                    };
                    status.pid = Some(pid_file.pid);
                    status.port = pid_file.port;
                    status.socket_directory = pid_file.socket_directory;
                }
                presence => {
                    let held = lock::look(self).await?;
                    if let Held::ByLeftover(holders) = held {
                        status.detail =
                            Some(format!("its server has ended, but {}, which it started, still holds the lock", lock::named(&holders)));
                    } else if held != Held::Free {
                        status.detail = Some(
                            "no postmaster is to be seen, but processes of its server, perhaps in another container, still hold the lock"
                                .to_owned(),
                        );
                    } else if let Presence::Stale(pid_file) = presence {
                        status.detail = Some(format!(
                            "postmaster.pid is left of process {}: a crash, or a server on another machine; `pgpersist start` tells them apart",
                            pid_file.pid
                        ));
                    }
                    let own = self.directory.own_folder().clone();
                    if let (None, Some(fence)) = (&status.detail, workers::run(move || fence::read(&own)).await?) {
                        status.detail = Some(fence.describe());
                    }
                }
            }
            Ok(status)
        })
    }

    /// How to reach the running server.
    ///
    /// # Errors
    /// When no server runs here: the state's own error where there is no cluster, [`Error::WrongMajor`] where no program fits
    /// it, `Conflict` where its server is not seen from here, else [`Error::Unavailable`].
    pub fn connection<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<ConnectionOptions>> {
        Box::pin(async move {
            match self.presence().await? {
                Presence::Running(pid_file) => self.connection_to(&pid_file, database),
                _ => match &self.options.host {
                    // A server of another machine or container may be asked by name even though no process is seen here.
                    Some(host) => Ok(self.connect_at(host.clone(), self.options.port, database)),
                    None => Err(self.why_no_server().await?),
                },
            }
        })
    }

    /// Why there is nothing to connect to, and what to do about it.
    async fn why_no_server(&self) -> Result<Error> {
        // What could not be started anyway is not told to be started.
        if let Err(error @ Error::WrongMajor { .. }) = self.installation().await {
            return Ok(error);
        }
        self.directory.state().await?.into_cluster(self.path())?;
        Ok(match lock::look(self).await? {
            held @ Held::ByServer(_) => lock::refusal(self, &held),
            Held::Free | Held::ByLeftover(_) => {
                Error::unavailable(format!("no server runs in {}", self.path().display()), "start it with `pgpersist start`")
            }
        })
    }

    pub(crate) fn connection_to(&self, pid_file: &PostmasterPid, database: &str) -> Result<ConnectionOptions> {
        let host = self
            .options
            .host
            .clone()
            .or_else(|| pid_file.socket_directory.clone().map(Host::Socket))
            .or_else(|| {
                pid_file.listen_address.as_ref().map(|address| {
                    Host::Tcp(if matches!(address.as_str(), "*" | "0.0.0.0" | "::") { "127.0.0.1".to_owned() } else { address.clone() })
                })
            })
            .ok_or_else(|| {
                Error::unavailable(
                    format!("the server in {} listens nowhere yet", self.path().display()),
                    "wait until `pgpersist status` says running",
                )
            })?;
        Ok(self.connect_at(host, pid_file.port.unwrap_or(self.options.port), database))
    }

    fn connect_at(&self, host: Host, port: u16, database: &str) -> ConnectionOptions {
        ConnectionOptions {
            host,
            port,
            user: self.options.user.clone(),
            database: database.to_owned(),
            password: self.options.password.clone(),
            os_user: self.options.os_user.clone(),
        }
    }
}
