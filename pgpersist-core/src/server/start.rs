//! Starting a server: the claim, proof that none runs, the settings, the process, and the wait until it is ready.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::clock::{Clock, SystemClock};
use crate::data_directory::placement::{self, Verdict};
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::durable::{self, PreparedFile};
use crate::fs::lock_file::LockFile;
use crate::fs::{boot, mounts};
use crate::pg::postmaster_pid::PostmasterPid;
use crate::server::cluster::{Cluster, ServerState, ServerStatus};
use crate::server::installation::PostgresInstallation;
use crate::server::process::{self, Presence, ServerRecord};
use crate::server::spawn::{ServerSpawn, run_as};
use crate::workers;

/// How long the wait between two looks at a starting server is. A look reads one small file.
const POLL: Duration = Duration::from_millis(5);
/// How long backends of a killed postmaster get to notice and end.
const ORPHANS_GRACE: Duration = Duration::from_secs(10);
/// How long a directory with somebody's `postmaster.pid` is watched for signs of life before we report it.
const WATCH: Duration = Duration::from_secs(60);
/// The longest path that a Unix socket can have, with room for `/.s.PGSQL.65535`.
const SOCKET_DIRECTORY_MAX: usize = 107 - 16;

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
        remove_stale(cluster, &pid_file, options).await?;
    }
    let (mut child, log_offset) = {
        let (cluster, installation) = (cluster.clone(), installation.clone());
        workers::run(move || spawn(&cluster, &installation, lock)).await?
    };
    wait_until_ready(cluster, Some(&mut child), log_offset, options.timeout, began).await?;
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
async fn server_lock(cluster: &Cluster, grace: Duration) -> Result<OwnedFd> {
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

async fn remove_stale(cluster: &Cluster, pid_file: &PostmasterPid, options: &StartOptions) -> Result<()> {
    prove_stale(cluster, pid_file, options).await?;
    let file = cluster.path().join("postmaster.pid");
    workers::run(move || durable::remove_file(&file)).await
}

/// Proves that the server of a `postmaster.pid` is gone, or refuses: it is the record of the server that we started (whose lock is free,
/// so it is gone), or it is older than this machine's boot and lies on a disk of this machine alone.
pub(crate) async fn prove_stale(cluster: &Cluster, pid_file: &PostmasterPid, options: &StartOptions) -> Result<()> {
    let path = cluster.path().to_owned();
    let record_path = cluster.directory().own_folder().server_record();
    let pid_file_ = pid_file.clone();
    let proven = workers::run(move || {
        let ours = ServerRecord::read(&record_path).is_some_and(|record| record.matches(&pid_file_));
        let mount = mounts::mount_of(&path)?;
        let on_local_disk = placement::judge(&mount).verdict == Verdict::Persistent && mount.source.starts_with("/dev/");
        let before_boot = on_local_disk && pid_file_.started_at < boot::boot_time()?;
        Ok(ours || before_boot)
    })
    .await?;
    let file = cluster.path().join("postmaster.pid");
    if proven || options.trust_stale_pid {
        return Ok(());
    }
    let watched = WATCH.min(options.timeout);
    let signs = watch(cluster.path(), watched).await?;
    let started =
        OffsetDateTime::from_unix_timestamp(pid_file.started_at).map_or_else(|_| pid_file.started_at.to_string(), |at| at.to_string());
    Err(Error::refused(
        format!(
            "{} names process {}, started {started}, which this machine does not run; nothing proves that its server is gone: {}",
            file.display(),
            pid_file.pid,
            if signs {
                "the cluster's files changed while it was watched".to_owned()
            } else {
                format!("its files did not change within {} s", watched.as_secs())
            }
        ),
        if signs {
            "a server on another machine or in another container uses this directory: stop it there"
        } else {
            "if you are sure that no other machine or container uses this directory, insist with `--yes`"
        },
    ))
}

/// Whether `pg_control` or anything in `pg_wal` changes within the time.
async fn watch(directory: &Path, time: Duration) -> Result<bool> {
    let look = |directory: PathBuf| {
        move || {
            let mut seen = Vec::new();
            let control = directory.join("global/pg_control");
            let names = fs::read_dir(directory.join("pg_wal")).into_iter().flatten().flatten().map(|entry| entry.path());
            for path in std::iter::once(control).chain(names) {
                if let Ok(metadata) = fs::metadata(&path) {
                    seen.push((path, metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec(), metadata.size()));
                }
            }
            seen.sort();
            Ok(seen)
        }
    };
    let before = workers::run(look(directory.to_owned())).await?;
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if workers::run(look(directory.to_owned())).await? != before {
            return Ok(true);
        }
    }
    Ok(false)
}

fn spawn(cluster: &Cluster, installation: &PostgresInstallation, lock: OwnedFd) -> Result<(Child, u64)> {
    let directory = cluster.path();
    cluster.settings().install(directory)?;
    let own = cluster.directory().own_folder();
    own.create()?;
    let socket_directory = socket_directory(cluster, installation)?;
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
        arguments: arguments(cluster, socket_directory.as_deref()),
        log: log_file,
        lock,
        record,
        pid_offset,
        user: cluster.options().os_user.clone(),
    }
    .spawn()?;
    Ok((child, offset))
}

fn arguments(cluster: &Cluster, socket_directory: Option<&Path>) -> Vec<OsString> {
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
    if let Some(directory) = socket_directory {
        set("unix_socket_directories", &directory.display().to_string());
    }
    arguments
}

/// The folder for the socket, where the configured ones will not do: `None` leaves the configuration alone.
fn socket_directory(cluster: &Cluster, installation: &PostgresInstallation) -> Result<Option<PathBuf>> {
    if let Some(wanted) = &cluster.options().socket_directory {
        return Ok(Some(wanted.clone()));
    }
    let mut command = std::process::Command::new(installation.program("postgres")?);
    run_as(&mut command, cluster.options().os_user.as_ref());
    let output = command
        .args(["-C", "unix_socket_directories", "-D"])
        .arg(cluster.path())
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| Error::file("run", installation.bin_directory().join("postgres"), e))?;
    if !output.status.success() {
        return Err(Error::ServerStart {
            directory: cluster.path().to_owned(),
            kind: ErrorKind::Invalid,
            log: Said(String::from_utf8_lossy(&output.stderr).into_owned()),
            remedy: Some("mend the configuration that it names; nothing was started".to_owned()),
        });
    }
    let configured = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let usable = |folder: &str| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok();
    if !configured.is_empty() && configured.split(',').all(|folder| usable(folder.trim().trim_matches('"'))) {
        return Ok(None);
    }
    private_socket_directory(cluster).map(Some)
}

/// A folder of our own for the socket: on the volume where its path is short enough, else below `/tmp`.
fn private_socket_directory(cluster: &Cluster) -> Result<PathBuf> {
    let own = cluster.directory().own_folder().path().join("socket");
    if own.as_os_str().len() <= SOCKET_DIRECTORY_MAX {
        durable::create_directories(&own, 0o700)?;
        return Ok(own);
    }
    let user = rustix::process::geteuid().as_raw();
    let inode = fs::metadata(cluster.path()).map_err(|e| Error::file("look at", cluster.path(), e))?;
    let folder = PathBuf::from(format!("/tmp/.pgpersist-{user}-{:x}-{:x}", inode.dev(), inode.ino()));
    durable::create_directory(&folder, 0o700)?;
    let made = fs::symlink_metadata(&folder).map_err(|e| Error::file("look at", &folder, e))?;
    if !made.is_dir() || made.uid() != user || made.mode() & 0o077 != 0 {
        return Err(Error::refused(
            format!("{} belongs to somebody else", folder.display()),
            "remove it, or set `unix_socket_directories` in `[cluster.settings]`",
        ));
    }
    Ok(folder)
}

/// Waits until `postmaster.pid` says ready, or the process has ended.
async fn wait_until_ready(
    cluster: &Cluster,
    mut child: Option<&mut Child>,
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
        let ended = match child.as_deref_mut() {
            Some(child) => child.try_wait().map_err(|e| Error::file("wait for the server of", cluster.path(), e))?.is_some(),
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
fn failed(cluster: &Cluster, log_offset: u64) -> Error {
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
        (ErrorKind::Invalid, "mend the setting that the log names".to_owned())
    } else if log.contains("PANIC") || log.contains("could not locate a valid checkpoint") || log.contains("invalid checkpoint") {
        (ErrorKind::Damaged, "keep the directory as it is, and load the newest dump into a new one (`pgpersist list`)".to_owned())
    } else {
        (ErrorKind::Unavailable, format!("read {}", cluster.log_file().path().display()))
    };
    Error::ServerStart { directory: cluster.path().to_owned(), kind, log: Said(log), remedy: Some(remedy) }
}
