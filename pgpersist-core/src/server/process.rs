//! Which server process, if any, runs in a data directory: proven by `/proc`, never by `kill(pid, 0)`.
//!
//! In containers the number in `postmaster.pid` may belong to somebody else by now, even to a thread. A process counts as
//! the server only when it is a live process of its own whose working directory is the data directory (the postmaster
//! changes into it), or, where that cannot be read, one that is called `postgres` and started when the file says.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fs::boot;
use crate::pg::postmaster_pid::PostmasterPid;

/// How far a process's start time may lie from what `postmaster.pid` says: the kernel counts from the boot, and the
/// wall clock may have been set since.
const START_TIME_TOLERANCE_S: i64 = 10;
/// How often a `postmaster.pid` that is not complete yet is looked at.
const INCOMPLETE_LOOKS: u32 = 20;

/// What stands in `postmaster.pid`, held against the processes of this machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Presence {
    /// No `postmaster.pid`.
    None,
    /// The server runs.
    Running(PostmasterPid),
    /// The file names no process that we can see to be this server.
    Stale(PostmasterPid),
}

impl Presence {
    /// Looks at a data directory.
    ///
    /// # Errors
    /// [`Error::File`] when `postmaster.pid` cannot be read; [`Error::Damaged`] when it holds something else.
    pub fn of(directory: &Path) -> Result<Self> {
        let path = directory.join("postmaster.pid");
        let mut attempt = 0;
        let pid_file = loop {
            attempt += 1;
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Self::None),
                Err(error) => return Err(Error::file("read", path, error)),
            };
            match PostmasterPid::parse(&bytes) {
                Ok(pid_file) => break pid_file,
                // A server that is about to write it needs a moment; a disk that was full left it empty for good.
                Err(_) if attempt < INCOMPLETE_LOOKS => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => {
                    return Err(Error::damaged(
                        format!("{} cannot be understood: {error}", path.display()),
                        "if no server runs in this directory on any machine, remove the file and start again",
                    ));
                }
            }
        };
        let running = is_server(pid_file.pid, directory, pid_file.started_at);
        Ok(if running { Self::Running(pid_file) } else { Self::Stale(pid_file) })
    }

    /// The running server's file.
    pub fn running(&self) -> Option<&PostmasterPid> {
        match self {
            Self::Running(pid_file) => Some(pid_file),
            Self::None | Self::Stale(_) => None,
        }
    }
}

/// Whether a process is alive: a zombie is not, it only waits to be reaped.
pub fn is_alive(pid: i32) -> bool {
    matches!(stat(pid), Some(stat) if !matches!(stat.state, 'Z' | 'X'))
}

/// When a process started, in ticks since the boot. Together with its number it names one process of this boot, whatever
/// becomes of the clock.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    Some(stat(pid)?.start_ticks)
}

/// The parent of a process; 0 where that lives in a PID namespace that is not seen.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    Some(stat(pid)?.parent)
}

/// When a process started, in seconds since 1970; `None` when there is none.
pub fn started_at(pid: i32) -> Option<i64> {
    let ticks = stat(pid)?.start_ticks;
    Some(boot::boot_time().ok()? + i64::try_from(ticks / rustix::param::clock_ticks_per_second()).ok()?)
}

/// Server processes, the postmaster's orphans among them, whose working directory is this one. Processes of other users
/// are seen only by root.
pub fn working_in(directory: &Path) -> Vec<i32> {
    let Ok(ours) = fs::metadata(directory) else { return Vec::new() };
    let works_here = |pid: &i32| {
        is_alive(*pid)
            && fs::metadata(format!("/proc/{pid}/cwd")).is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| is_called_postgres(name.trim()))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(works_here).collect()
}

/// Whether a process's name is a server's.
pub(crate) fn is_called_postgres(name: &str) -> bool {
    matches!(name, "postgres" | "postmaster")
}

fn is_server(pid: i32, directory: &Path, file_started_at: i64) -> bool {
    if !is_alive(pid) || !is_thread_group_leader(pid) {
        return false;
    }
    let same_directory = match (fs::metadata(format!("/proc/{pid}/cwd")), fs::metadata(directory)) {
        (Ok(theirs), Ok(ours)) => Some((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino())),
        // It has let go of its directory, after its memory and its files: it is about to be gone, and writes no more.
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Some(false),
        _ => None,
    };
    let called_postgres = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| is_called_postgres(name.trim()));
    match same_directory {
        Some(same) => same && called_postgres,
        None => called_postgres && started_at(pid).is_some_and(|at| (at - file_started_at).abs() <= START_TIME_TOLERANCE_S),
    }
}

fn is_thread_group_leader(pid: i32) -> bool {
    // Threads have a folder in /proc too, which listing it does not show.
    fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| status.lines().find_map(|line| line.strip_prefix("Tgid:")).is_some_and(|group| group.trim() == pid.to_string()))
}

struct Stat {
    state: char,
    parent: i32,
    start_ticks: u64,
}

/// Reads `/proc/PID/stat`; see `proc_pid_stat(5)`. The name in parentheses may hold anything, so fields count from its end.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat { state: fields.first()?.chars().next()?, parent: fields.get(1)?.parse().ok()?, start_ticks: fields.get(19)?.parse().ok()? })
}

/// All living descendants of a process, itself not among them. Backends are process groups of their own, so a group is
/// no way to find them.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut children: Vec<(i32, i32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(other) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            && let Some(stat) = stat(other)
        {
            children.push((stat.parent, other));
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(children.iter().filter(|(above, _)| *above == parent).map(|(_, child)| *child));
        next += 1;
    }
    found.remove(0);
    found
}

/// The record of the server that we started last: what makes a `postmaster.pid` ours.
///
/// It is written by the server's own process before it becomes `postgres`, so no file of a server that we started can
/// exist without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// The format of this file; 1.
    pub format: u32,
    /// The process id, right-aligned in ten characters, since the child patches it in.
    pub pid: String,
    /// The boot it was started in.
    pub boot_id: String,
    /// When it was started, in seconds since 1970.
    pub spawned_at: i64,
    /// When its boot began, in seconds since 1970, as the clock told then: a clock that is set later moves what
    /// [`boot::boot_time`] tells.
    #[serde(default)]
    pub booted_at: Option<i64>,
}

/// How long after its spawn a server may write its `postmaster.pid`.
const PID_FILE_DELAY: Duration = Duration::from_secs(10);

impl ServerRecord {
    /// Reads the record; `None` where there is none or it is not ours to understand: then nothing is proven.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Whether this `postmaster.pid` was written by the recorded server.
    pub fn matches(&self, pid_file: &PostmasterPid) -> bool {
        let delay = i64::try_from(PID_FILE_DELAY.as_secs()).unwrap_or(i64::MAX);
        self.pid.trim() == pid_file.pid.to_string() && (self.spawned_at - 2..=self.spawned_at + delay).contains(&pid_file.started_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_alive_and_no_server() {
        let me = std::process::id() as i32;
        assert!(is_alive(me) && is_thread_group_leader(me));
        assert!(!is_server(me, Path::new("/"), started_at(me).unwrap()));
    }

    #[test]
    fn a_thread_is_no_process() {
        let thread = std::thread::spawn(|| {
            let id = rustix::thread::gettid().as_raw_nonzero().get();
            is_thread_group_leader(id)
        });
        assert!(!thread.join().unwrap());
    }

    #[test]
    fn a_record_matches_its_own_file_only() {
        let record = ServerRecord { format: 1, pid: format!("{:>10}", 42), boot_id: "b".into(), spawned_at: 1_000, booted_at: None };
        let file = |pid, started_at| PostmasterPid::parse(format!("{pid}\n/data\n{started_at}\n").as_bytes()).unwrap();
        assert!(record.matches(&file(42, 1_001)));
        assert!(!record.matches(&file(43, 1_001)) && !record.matches(&file(42, 900)) && !record.matches(&file(42, 1_011)));
    }
}
