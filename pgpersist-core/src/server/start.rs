//! Starting a server: the claim, proof that none runs, the settings, the process, and the wait until it is ready.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rustix::process::Signal;

use crate::clock::{Clock, SystemClock};
use crate::data_directory::{Claim, fence};
use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::boot;
use crate::fs::durable::PreparedFile;
use crate::fs::leftovers;
use crate::pg::postmaster_pid::PostmasterPid;
use crate::server::cluster::{Cluster, ServerState, ServerStatus};
use crate::server::foreign::{self, Runs};
use crate::server::installation::PostgresInstallation;
use crate::server::lock::ServerLock;
use crate::server::orphans;
use crate::server::postmaster::Postmaster;
use crate::server::process::{self, Presence, ServerRecord};
use crate::server::promotion::{self, Progress};
use crate::server::room::{self, Room};
use crate::server::settings::directory_arguments;
use crate::server::socket::Sockets;
use crate::server::spawn::ServerSpawn;
use crate::server::stale;
use crate::server::stop::ORPHANS_GRACE;
use crate::workers;

/// How long the wait between two looks at a starting server is. A look reads one small file.
const POLL: Duration = Duration::from_millis(5);

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
    /// How much ballast was given back, since the volume was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ballast_given_back_bytes: Option<u64>,
}

/// Starts the server of a cluster and waits until it accepts connections. It runs on when we end. Safe to repeat: a
/// server that runs already is left alone.
///
/// # Errors
/// `Conflict` or `Unsafe` when another server uses or may use the directory; `Unavailable` when the port is taken, the
/// disk full, or the wait ended; the state's own error when there is no cluster. After an error no server of ours runs,
/// except after a deadline: a recovery is never killed for being slow.
pub fn start<'a>(cluster: &'a Cluster, options: &'a StartOptions) -> BoxFuture<'a, Result<StartReport>> {
    Box::pin(async move {
        let began = Instant::now();
        cluster.directory().state().await?.into_cluster(cluster.path())?;
        let installation = cluster.installation().await?;
        if let Some(report) = already_running(cluster, options, began).await? {
            return Ok(report);
        }
        // Before the claim, which the agent that waits at the fence holds.
        refuse_fenced(cluster).await?;
        let claim = cluster.directory().claim().await?;
        // Between the first look and the claim another pgpersist may have started it.
        if let Some(report) = already_running(cluster, options, began).await? {
            return Ok(report);
        }
        start_claimed(cluster, &claim, &installation, options, began).await
    })
}

/// The same under a claim that the caller holds, when no server runs.
pub(crate) async fn start_claimed(
    cluster: &Cluster,
    claim: &Claim,
    installation: &PostgresInstallation,
    options: &StartOptions,
    began: Instant,
) -> Result<StartReport> {
    let given_back = match room::make(cluster).await? {
        Room::Enough => None,
        Room::GivenBack(bytes) => Some(bytes),
    };
    let lock = clear_the_way(cluster, options).await?;
    let launched = launch(cluster, claim, installation, lock).await?;
    // What went before, such as watching a directory for signs of life, is no time that the server had.
    wait_until_ready(cluster, Some(&launched), launched.log_offset, options.timeout, Instant::now()).await?;
    let status = cluster.status().await?;
    Ok(StartReport { status, changed: true, duration_s: began.elapsed().as_secs_f64(), ballast_given_back_bytes: given_back })
}

/// A server that we started, ready or not. Dropping it changes nothing.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: u32,
    /// Where in the log its lines begin.
    pub(crate) log_offset: u64,
    /// Ends with the server.
    reaper: JoinHandle<io::Result<ExitStatus>>,
}

impl Launched {
    /// Whether it is gone, and reaped.
    pub(crate) fn has_ended(&self) -> bool {
        self.reaper.is_finished()
    }

    /// How it ended; waits for it.
    pub(crate) fn into_status(self) -> Option<ExitStatus> {
        self.reaper.join().ok()?.ok()
    }
}

async fn refuse_fenced(cluster: &Cluster) -> Result<()> {
    let own = cluster.directory().own_folder().clone();
    workers::run(move || fence::check(&own)).await
}

/// Takes the lock for a server about to be started, ends what a dead postmaster has left that does not end by itself, and removes a `postmaster.pid` that is proven to be a leftover. Starts
/// nothing: it may be dropped at any moment.
pub(crate) async fn clear_the_way(cluster: &Cluster, options: &StartOptions) -> Result<ServerLock> {
    refuse_fenced(cluster).await?;
    let lock = orphans::outlast(cluster, options.timeout.min(ORPHANS_GRACE)).await?;
    if let Presence::Stale(pid_file) = cluster.presence().await? {
        stale::remove_pid_file(cluster, &pid_file, options.timeout, options.trust_stale_pid).await?;
    }
    Ok(lock)
}

/// Starts the process and does not wait until it is ready.
pub(crate) async fn launch(cluster: &Cluster, _claim: &Claim, installation: &PostgresInstallation, lock: ServerLock) -> Result<Launched> {
    let (child, log_offset) = {
        let (cluster, installation) = (cluster.clone(), installation.clone());
        workers::run(move || spawn(&cluster, &installation, lock)).await?
    };
    // A postmaster that nobody waits for stays a zombie when it is killed, and its number then blocks the next start. The
    // thread ends with it, or with us.
    let pid = child.id();
    let reaper = std::thread::Builder::new().name("postmaster".to_owned()).spawn(move || {
        let mut child = child;
        child.wait()
    });
    let reaper = reaper.map_err(|e| Error::file("watch the server of", cluster.path(), e))?;
    Ok(Launched { pid, log_offset, reaper })
}

async fn already_running(cluster: &Cluster, options: &StartOptions, began: Instant) -> Result<Option<StartReport>> {
    match foreign::look(cluster).await? {
        Runs::Nobody => return Ok(None),
        Runs::Ours => {}
        Runs::Foreign(pid_file) => {
            return Err(Error::conflict(
                format!("a server that pgpersist did not start runs in {} (process {})", cluster.path().display(), pid_file.pid),
                "stop it with `pgpersist stop`, then `pgpersist start`: only then does pgpersist's lock protect the directory",
            ));
        }
    }
    wait_until_ready(cluster, None, cluster.log_file().size(), options.timeout, began).await?;
    let duration_s = began.elapsed().as_secs_f64();
    Ok(Some(StartReport { status: cluster.status().await?, changed: false, duration_s, ballast_given_back_bytes: None }))
}

fn spawn(cluster: &Cluster, installation: &PostgresInstallation, lock: ServerLock) -> Result<(Child, u64)> {
    let directory = cluster.path();
    let mut settings = cluster.settings();
    if promotion::prepare(directory)? {
        settings.others.insert(promotion::BEGINS_ANEW.to_owned(), "off".to_owned());
    }
    settings.install(directory)?;
    let own = cluster.directory().own_folder();
    own.create()?;
    // What a killed start left; those of us who only ever start would gather them.
    for folder in [own.path(), directory] {
        leftovers::sweep(folder)?;
    }
    let sockets = Sockets::choose(cluster, installation)?;
    for folder in &sockets.folders {
        stale::remove_socket(cluster, folder)?;
    }
    let log = cluster.log_file();
    log.rotate()?;
    let log_file = log.open()?;
    let offset = log.size();
    let record = ServerRecord {
        format: 1,
        pid: " ".repeat(10),
        boot_id: boot::boot_id()?,
        spawned_at: SystemClock.now().unix_timestamp(),
        booted_at: Some(boot::boot_time()?),
    };
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
    let mut arguments = Vec::from(directory_arguments(cluster.path()));
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

/// Waits until the directory's `postmaster.pid` says ready, and it is that of the server we started, if we started one; or
/// until the process has ended.
async fn wait_until_ready(cluster: &Cluster, started: Option<&Launched>, log_offset: u64, timeout: Duration, began: Instant) -> Result<()> {
    let deadline = began + timeout;
    let directory = cluster.path().to_owned();
    // A restored one says `ready` as soon as it lets readers in, and `standby` where it lets none in: both before it is on a timeline of its own.
    let promotes = workers::run(move || promotion::is_pending(&directory)).await?;
    let up: &[&str] = if promotes { &["ready"] } else { &["ready", "standby"] };
    loop {
        let presence = cluster.presence().await?;
        let is_it = |pid: i32| started.is_none_or(|started| u32::try_from(pid) == Ok(started.pid));
        let ready = |pid_file: &PostmasterPid| is_it(pid_file.pid) && pid_file.status.as_deref().is_some_and(|status| up.contains(&status));
        if presence.running().is_some_and(ready) && (!promotes || settle(cluster).await?) {
            return Ok(());
        }
        let ended = match started {
            Some(started) => started.has_ended(),
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

/// Takes away what waited for the end of a recovery, once the server is up: the mark, and the setting that was off meanwhile.
/// Tells whether it has ended.
///
/// # Errors
/// As [`promotion::settle`].
pub(crate) async fn settle(cluster: &Cluster) -> Result<bool> {
    let cluster = cluster.clone();
    workers::run(move || {
        match promotion::settle(cluster.path())? {
            Progress::Nothing => return Ok(true),
            Progress::Recovering => return Ok(false),
            Progress::Done => {}
        }
        cluster.settings().install(cluster.path())?;
        if let Some(postmaster) = Postmaster::of(cluster.path())? {
            postmaster.signal(Signal::HUP).map_err(|error| Error::file("reload the server of", cluster.path(), error))?;
        }
        Ok(true)
    })
    .await
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
