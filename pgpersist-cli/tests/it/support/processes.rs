//! Processes that are proven ours, each held by a pidfd so that a number that went to somebody else is never signalled.
//!
//! Ours is what was started with the scratch folder as HOME, or works in it: that folder's name occurs nowhere else.
//! PostgreSQL's processes overwrite their environment with their titles, but work in the data directory.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::support::shared_memory;

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    id: i32,
    handle: OwnedFd,
}

impl Process {
    fn open(id: i32) -> Option<Self> {
        let handle = pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?;
        Some(Self { id, handle })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if signal == Signal::KILL {
            shared_memory::remember(self.id);
        }
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    fn wait_for_its_end(&self) {
        let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&minute)).unwrap();
        assert_eq!(ended, 1, "{} was killed and lives", self.title());
    }

    /// What it is called, for messages.
    pub(crate) fn title(&self) -> String {
        let title = fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default();
        format!("{}: {}", self.id, String::from_utf8_lossy(&title).replace('\0', " ").trim())
    }

    /// Whether it runs this program.
    pub(crate) fn runs(&self, program: &Path) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.id)).is_ok_and(|running| running == program)
    }

    fn bears(&self, mark: &Path) -> bool {
        let mark = mark.as_os_str().as_bytes();
        let place = fs::read_link(format!("/proc/{}/cwd", self.id)).is_ok_and(|place| place.as_os_str().as_bytes().starts_with(mark));
        place || fs::read(format!("/proc/{}/environ", self.id)).is_ok_and(|text| text.windows(mark.len()).any(|window| window == mark))
    }

    fn ancestry(id: i32) -> Option<(i32, bool)> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let zombie = matches!(fields.next()?, "Z" | "X");
        Some((fields.next()?.parse().ok()?, zombie))
    }
}

fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The living processes that bear a mark, a folder.
pub(crate) fn bearing(mark: &Path) -> Vec<Process> {
    let living = all().filter(|id| Process::ancestry(*id).is_some_and(|(_, zombie)| !zombie));
    // The handle first, the proof after: then it is a proof about what the handle holds.
    living.filter_map(Process::open).filter(|process| process.bears(mark)).collect()
}

/// The children of a process.
pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    all().filter(|id| Process::ancestry(*id).is_some_and(|(above, zombie)| above == parent && !zombie)).collect()
}

/// One that has ended and that its parent has not reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zombie {
    pub(crate) id: i32,
    pub(crate) parent: i32,
}

/// The zombies among the descendants of a process, by one look at all there are.
pub(crate) fn zombies_below(root: i32) -> Vec<Zombie> {
    let seen: Vec<(i32, i32, bool)> = all().filter_map(|id| Process::ancestry(id).map(|(parent, zombie)| (id, parent, zombie))).collect();
    let mut found = Vec::new();
    let mut waiting = vec![root];
    while let Some(above) = waiting.pop() {
        for (id, parent, zombie) in seen.iter().copied().filter(|(_, parent, _)| *parent == above) {
            if zombie {
                found.push(Zombie { id, parent });
            }
            waiting.push(id);
        }
    }
    found
}

/// Kills the process that a thread belongs to, if it descends from `root`.
pub(crate) fn kill_owner_of_thread(thread: i32, root: i32) {
    let Ok(status) = fs::read_to_string(format!("/proc/{thread}/status")) else { return };
    let owner = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok()).unwrap();
    let Some(process) = Process::open(owner) else { return };
    let mut above = owner;
    while let Some((parent, _)) = Process::ancestry(above).filter(|(parent, _)| *parent > 1) {
        if parent == root {
            return process.signal(Signal::KILL);
        }
        above = parent;
    }
}

/// Stops a process and all its descendants, so that none can make another one, and then kills them as one.
pub(crate) fn kill_family(root: i32) {
    let mut family: Vec<Process> = Process::open(root).into_iter().collect();
    let mut next = 0;
    while next < family.len() {
        family[next].signal(Signal::STOP);
        let parent = family[next].id;
        for child in children_of(parent) {
            if !family.iter().any(|known| known.id == child) {
                family.extend(Process::open(child));
            }
        }
        next += 1;
    }
    for member in &family {
        member.signal(Signal::KILL);
    }
    // One that waits for the disk dies when the disk has answered, and holds its files and locks until then.
    for member in &family {
        member.wait_for_its_end();
    }
}

/// Kills the server of a data directory, its backends included, and nothing else that works there.
pub(crate) fn kill_server(data: &Path) {
    let told = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    kill_family(told.lines().next().unwrap().parse().unwrap());
}

/// Waits until no process bears the mark, apart from those that `stays` accepts; kills what does not end in time.
/// Returns the titles of what had to be killed.
pub(crate) fn wait_until_gone(mark: &Path, time: Duration) -> Vec<String> {
    let deadline = Instant::now() + time;
    loop {
        let living = bearing(mark);
        if living.is_empty() {
            return Vec::new();
        }
        if Instant::now() > deadline {
            let titles = living.iter().map(Process::title).collect();
            kill_all(mark);
            return titles;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Kills all that bear the mark, and waits until they are gone.
pub(crate) fn kill_all(mark: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let living = bearing(mark);
        if living.is_empty() || Instant::now() > deadline {
            return;
        }
        for process in living {
            process.signal(Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
