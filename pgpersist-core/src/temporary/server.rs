//! The server of a throw-away cluster: started by the shortest way, and killed as a crash would.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::{Error, Result};
use crate::pg::postmaster_pid::{POSTMASTER_PID, PostmasterPid};
use crate::server::cluster::Cluster;
use crate::server::installation::PostgresInstallation;
use crate::server::settings::FILE_NAME;
use crate::server::spawn::{clean_environment, run_as};
use crate::server::start;

/// The time between two looks at a starting server: a look reads a file of eight lines.
const POLL: Duration = Duration::from_millis(1);
/// How long a killed server's last process may take to be gone.
const KILL: Duration = Duration::from_secs(15);

/// Starts the server of a fresh copy. [`start::start`] guards what lasts: it claims, proves, records and syncs, which takes
/// longer than such a server takes to start. Here nobody else knows the folder yet. Blocking.
pub(crate) fn start_ephemeral(cluster: &Cluster, installation: &PostgresInstallation, timeout: Duration) -> Result<()> {
    let began = Instant::now();
    let data = cluster.path();
    let settings = data.join(FILE_NAME);
    write_settings(cluster, &settings, &cluster.settings().render()?).map_err(|e| Error::file("write", &settings, e))?;
    let log = cluster.log_file();
    let output = log.open()?;
    let log_offset = log.size();
    let errors = output.try_clone().map_err(|e| Error::file("duplicate the descriptor of", log.path(), e))?;
    let program = installation.program("postgres")?;
    let mut command = Command::new(&program);
    command.args(start::arguments(cluster, cluster.options().socket_directory.as_deref()));
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    clean_environment(&mut command);
    run_as(&mut command, cluster.options().os_user.as_ref());
    let mut child = command.spawn().map_err(|e| Error::file("run", &program, e))?;
    let pid_file = data.join(POSTMASTER_PID);
    loop {
        if fs::read(&pid_file).is_ok_and(|bytes| PostmasterPid::parse(&bytes).is_ok_and(|file| file.is_ready())) {
            // A postmaster that nobody waits for would stay a zombie. The thread ends with it, or with us.
            thread::spawn(move || child.wait());
            return Ok(());
        }
        if child.try_wait().map_err(|e| Error::file("wait for the server of", data, e))?.is_some() {
            return Err(start::failed(cluster, log_offset));
        }
        if began.elapsed() >= timeout {
            thread::spawn(move || child.wait());
            return Err(Error::Deadline {
                what: format!("the server of {} was not ready", data.display()),
                after: timeout,
                remedy: Some(format!("its last lines: {}", log.tail(log_offset, 3))),
            });
        }
        thread::sleep(POLL);
    }
}

/// Writes the file that the template's configuration includes. It is not synced, and never follows a link: the folder
/// belongs to the server's user, and we may be root.
fn write_settings(cluster: &Cluster, path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(user) = &cluster.options().os_user {
        std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid))?;
    }
    file.write_all(text.as_bytes())
}

/// Kills every process of PostgreSQL that works in a data directory. Blocking.
pub(crate) fn kill_servers(data: &Path) -> Result<()> {
    let deadline = Instant::now() + KILL;
    loop {
        let servers = servers_in(data)?;
        if servers.is_empty() {
            return Ok(());
        }
        for pid in servers.into_iter().filter_map(Pid::from_raw) {
            match rustix::process::kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(Error::file("kill the server of", data, errno.into())),
            }
        }
        if Instant::now() >= deadline {
            return Err(Error::Deadline { what: format!("the server of {} did not end", data.display()), after: KILL, remedy: None });
        }
        thread::sleep(POLL);
    }
}

/// Removes the few bytes of System V shared memory that a killed server left, as `undertaker.sh` does: `postmaster.pid` names
/// them, and the kernel says that its process made them and that nobody uses them. The next server would take them over, but
/// it removes that file first, and if we are killed in between nobody knows any more whose they are. Blocking.
pub(crate) fn release_shared_memory(data: &Path) {
    let file = fs::read(data.join(POSTMASTER_PID)).ok().and_then(|bytes| PostmasterPid::parse(&bytes).ok());
    let Some((pid, (_, id))) = file.and_then(|file| Some((file.pid, file.shared_memory?))) else { return };
    // See `sysvipc_shm_proc_show` in ipc/shm.c: key, shmid, perms, size, cpid, lpid, nattch.
    let is_free = |line: &str| {
        let fields: Vec<i64> = line.split_whitespace().map(|field| field.parse().unwrap_or(-1)).collect();
        matches!(fields[..], [_, segment, _, _, maker, _, 0, ..] if segment == id as i64 && maker == i64::from(pid))
    };
    if fs::read_to_string("/proc/sysvipc/shm").is_ok_and(|table| table.lines().skip(1).any(is_free)) {
        // Where this fails, the next server takes them over as ever.
        let _ =
            Command::new("ipcrm").args(["-m", &id.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// PostgreSQL's processes that work in a data directory, the postmaster first: it changes into it at once, and its
/// children inherit that.
fn servers_in(data: &Path) -> Result<Vec<i32>> {
    let ours = fs::metadata(data).map_err(|e| Error::file("look at", data, e))?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(|e| Error::file("list", "/proc", e))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let there = fs::metadata(entry.path().join("cwd")).is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == (ours.dev(), ours.ino()));
        let named = || fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| matches!(name.trim(), "postgres" | "postmaster"));
        if there && named() {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}
