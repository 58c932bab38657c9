//! Starting a server: the claim, proof that none runs, the settings, the process, and the wait until it is ready.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::boot;
use crate::fs::durable::{self, PreparedFile};
use crate::fs::lock_file::LockFile;
use crate::pg::postmaster_pid::PostmasterPid;
use crate::server::cluster::{Cluster, ServerState, ServerStatus};
use crate::server::installation::PostgresInstallation;
use crate::server::process::{self, Presence, ServerRecord};
use crate::server::socket::Sockets;
use crate::server::spawn::ServerSpawn;
use crate::server::stale;
use crate::workers;

/// How long the wait between two looks at a starting server is. A look reads one small file.
const POLL: Duration = Duration::from_millis(5);
/// How long backends of a killed postmaster get to notice and end.
const ORPHANS_GRACE: Duration = Duration::from_secs(10);

/// How to start.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// How long to wait until the server is ready. A recovery that takes longer goes on; only the wait ends.
    pub timeout: Duration,
    /// Remove a `postmaster.pid` although nothing proves it stale: somebody who knows has said yes.
    pub trust_stale_pid: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), trust_stale_pid: false }
    }
}

/// What starting did.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StartReport {
    /// The server after it.
    #[serde(flatten)]
    pub status: ServerStatus,
    /// Whether it was started, rather than found running.
    pub changed: bool,
    /// How long it took, in seconds.
    pub duration_s: f64,
}

/// Starts the server of a cluster and waits until it accepts connections. It runs on when we end. Safe to repeat: a
/// server that runs already is left alone.
///
/// # Errors
/// `Conflict` or `Unsafe` when another server uses or may use the directory; `Unavailable` when the port is taken, the
/// disk full, or the wait ended; the state's own error when there is no cluster. After an error no server of ours runs,
/// except after a deadline: a recovery is never killed for being slow.
pub async fn start(cluster: &Cluster, options: &StartOptions) -> Result<StartReport> {
    let began = Instant::now();
    cluster.directory().state().await?.into_cluster(cluster.path())?;
    let installation = cluster.installation().await?;
    if let Some(pid_file) = cluster.presence().await?.running() {
        return already_running(cluster, pid_file, options, began).await;
    }
    let _claim = cluster.directory().claim().await?;
    // Between the first look and the claim another pgpersist may have started it.
    if let Some(pid_file) = cluster.presence().await?.running() {
        return already_running(cluster, pid_file, options, began).await;
    }
    let lock = server_lock(cluster, options.timeout.min(ORPHANS_GRACE)).await?;
    if let Presence::Stale(pid_file) = cluster.presence().await? {
        stale::remove_pid_file(cluster, &pid_file, options.timeout, options.trust_stale_pid).await?;
    }
    let (child, log_offset) = {
        let (cluster, installation) = (cluster.clone(), installation.clone());
        workers::run(move || spawn(&cluster, &installation, lock)).await?
    };
    // A postmaster that nobody waits for stays a zombie when it is killed, and its number then blocks the next start. The
    // thread ends with it, or with us.
    let reaper = std::thread::Builder::new().name("postmaster".to_owned()).spawn(move || {
        let mut child = child;
        child.wait()
    });
    let reaper = reaper.map_err(|e| Error::file("watch the server of", cluster.path(), e))?;
    wait_until_ready(cluster, Some(&reaper), log_offset, options.timeout, began).await?;
    let status = cluster.status().await?;
    Ok(StartReport { status, changed: true, duration_s: began.elapsed().as_secs_f64() })
}

async fn already_running(cluster: &Cluster, pid_file: &PostmasterPid, options: &StartOptions, began: Instant) -> Result<StartReport> {
    let lock = cluster.directory().own_folder().server_lock();
    let ours = workers::run(move || Ok(lock.exists() && !crate::fs::lock_file::is_free(&lock)?)).await?;
    if !ours {
        return Err(Error::conflict(
            format!("a server that pgpersist did not start runs in {} (process {})", cluster.path().display(), pid_file.pid),
            "stop it with `pgpersist stop`, then `pgpersist start`: only then does pgpersist's lock protect the directory",
        ));
    }
    wait_until_ready(cluster, None, cluster.log_file().size(), options.timeout, began).await?;
    Ok(StartReport { status: cluster.status().await?, changed: false, duration_s: began.elapsed().as_secs_f64() })
}

/// The server's lock, free and now ours. The backends of a killed postmaster hold it until they have noticed its death.
pub(crate) async fn server_lock(cluster: &Cluster, grace: Duration) -> Result<OwnedFd> {
    let deadline = Instant::now() + grace;
    loop {
        let path = cluster.directory().own_folder().server_lock();
        if let Some(lock) = workers::run(move || LockFile::try_lock(&path, 0o600)).await? {
            // A copy of the descriptor holds the same lock as long as it is open.
            return lock.as_fd().try_clone_to_owned().map_err(|e| Error::file("keep the lock", lock.path(), e));
        }
        if Instant::now() > deadline {
            return Err(Error::conflict(
                format!(
                    "processes of another server of {} still run and hold its lock, perhaps in another container on this machine",
                    cluster.path().display()
                ),
                "stop that server or its container first; the lock is free once its last process has ended",
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn spawn(cluster: &Cluster, installation: &PostgresInstallation, lock: OwnedFd) -> Result<(Child, u64)> {
    let directory = cluster.path();
    cluster.settings().install(directory)?;
    let own = cluster.directory().own_folder();
    own.create()?;
    // What a killed start left; those of us who only ever start would gather them.
    for folder in [own.path(), directory] {
        durable::sweep(folder)?;
    }
    let sockets = Sockets::choose(cluster, installation)?;
    for folder in &sockets.folders {
        stale::remove_socket(cluster, folder)?;
    }
    let log = cluster.log_file();
    log.rotate()?;
    let log_file = log.open()?;
    let offset = log.size();
    let record = ServerRecord { format: 1, pid: " ".repeat(10), boot_id: boot::boot_id()?, spawned_at: SystemClock.now().unix_timestamp() };
    let text = serde_json::to_string(&record).map_err(|e| Error::Bug(format!("could not write a server record: {e}")))?;
    let pid_offset = text.find(&record.pid).ok_or_else(|| Error::Bug("a server record has no place for the process id".into()))? as u64;
    let record = PreparedFile::create(&own.server_record(), text.as_bytes(), 0o600)?;
    let program = installation.program("postgres")?;
    let child = ServerSpawn {
        program,
        arguments: arguments(cluster, sockets.instead.as_deref()),
        log: log_file,
        lock,
        record,
        pid_offset,
        user: cluster.options().os_user.clone(),
    }
    .spawn()?;
    Ok((child, offset))
}

/// What the server is told on its command line.
pub(crate) fn arguments(cluster: &Cluster, socket_directory: Option<&Path>) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("-D"), cluster.path().as_os_str().to_owned()];
    let mut set = |name: &str, value: &str| {
        arguments.push(OsString::from("-c"));
        arguments.push(OsString::from(format!("{name}={value}")));
    };
    for (name, value) in cluster.options().profile.command_line() {
        set(name, value);
    }
    // Our log file is where errors are looked for, so the log goes there whatever the adopted configuration says.
    set("logging_collector", "off");
    set("log_destination", "stderr");
    for (name, value) in &cluster.options().command_line {
        set(name, value);
    }
    if let Some(directory) = socket_directory {
        set("unix_socket_directories", &directory.display().to_string());
    }
    arguments
}

/// Waits until `postmaster.pid` says ready, or the process has ended.
async fn wait_until_ready(
    cluster: &Cluster,
    reaper: Option<&JoinHandle<io::Result<ExitStatus>>>,
    log_offset: u64,
    timeout: Duration,
    began: Instant,
) -> Result<()> {
    let deadline = began + timeout;
    loop {
        let presence = cluster.presence().await?;
        if presence.running().is_some_and(|pid_file| matches!(pid_file.status.as_deref(), Some("ready" | "standby"))) {
            return Ok(());
        }
        let ended = match reaper {
            Some(reaper) => reaper.is_finished(),
            None => presence.running().is_none_or(|pid_file| !process::is_alive(pid_file.pid)),
        };
        if ended {
            return Err(failed(cluster, log_offset));
        }
        if Instant::now() >= deadline {
            return Err(still_starting(cluster, timeout, log_offset).await);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn still_starting(cluster: &Cluster, timeout: Duration, log_offset: u64) -> Error {
    let doing = match cluster.status().await.map(|status| status.state) {
        Ok(ServerState::Recovering) => "is still recovering and was not ready",
        _ => "was not ready",
    };
    let last = cluster.log_file().tail(log_offset, 1);
    Error::Deadline {
        what: format!("the server {doing}"),
        after: timeout,
        remedy: Some(format!(
            "it goes on by itself: look at `pgpersist status` and {}; its last line: {last}",
            cluster.log_file().path().display()
        )),
    }
}

/// Why the server ended, from the lines it wrote.
pub(crate) fn failed(cluster: &Cluster, log_offset: u64) -> Error {
    let log = cluster.log_file().tail(log_offset, 12);
    let port = cluster.options().port;
    let (kind, remedy) = if log.contains("Address already in use") || (log.contains("lock file") && log.contains(".s.PGSQL.")) {
        (ErrorKind::Unavailable, format!("another server uses port {port}: stop it, or set `[cluster] port` (or PGPORT) to a free one"))
    } else if log.contains("No space left on device") {
        (ErrorKind::Unavailable, "free some space on the volume and start again; the cluster itself was not harmed".to_owned())
    } else if log.contains("pre-existing shared memory block") {
        (ErrorKind::Conflict, "another server of this directory still runs: stop it first".to_owned())
    } else if log.contains("configuration file")
        || log.contains("invalid value for parameter")
        || log.contains("unrecognized configuration parameter")
    {
        (ErrorKind::Invalid, cluster.settings().remedy_for(&log).unwrap_or_else(|| "mend the setting that the log names".to_owned()))
    } else if log.contains("PANIC") || log.contains("could not locate a valid checkpoint") || log.contains("invalid checkpoint") {
        (ErrorKind::Damaged, "keep the directory as it is, and load the newest dump into a new one (`pgpersist list`)".to_owned())
    } else {
        (ErrorKind::Unavailable, format!("read {}", cluster.log_file().path().display()))
    };
    Error::ServerStart { directory: cluster.path().to_owned(), kind, log: Said(log), remedy: Some(remedy) }
}
