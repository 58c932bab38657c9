//! A running postmaster, held so that no other process can be mistaken for it: its number may be somebody else's as soon as
//! it has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::server::process::{self, Presence};

/// How often a process is looked at where the kernel has no handles.
const WITHOUT_HANDLE: Duration = Duration::from_millis(200);

/// How long a wait on a handle lasts before it is looked whether anybody still wants to know.
const A_WHILE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// The postmaster that was proven to be the server of a data directory.
#[derive(Debug)]
pub(crate) struct Postmaster {
    pid: i32,
    start_ticks: u64,
    /// None from a kernel older than 5.3, which knows no such handles.
    handle: Option<OwnedFd>,
}

impl Postmaster {
    /// The server of this directory; `None` when none is seen to run. Blocking.
    pub(crate) fn of(directory: &Path) -> Result<Option<Self>> {
        let Presence::Running(pid_file) = Presence::of(directory)? else { return Ok(None) };
        let Some(pid) = Pid::from_raw(pid_file.pid) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(Errno::SRCH) => return Ok(None),
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(errno) => return Err(Error::file("watch the server of", directory, errno.into())),
        };
        let start_ticks = process::start_ticks(pid_file.pid);
        // Only a process that still is the server now was it when the handle was opened.
        let still = Presence::of(directory)?.running().is_some_and(|again| again.pid == pid_file.pid);
        Ok(start_ticks.filter(|_| still).map(|start_ticks| Self { pid: pid_file.pid, start_ticks, handle }))
    }

    /// The server that we have just started, before it has written any file; `None` when it has ended already. Blocking.
    pub(crate) fn launched(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok();
        process::start_ticks(pid).map(|start_ticks| Self { pid, start_ticks, handle })
    }

    /// Turns true when this very process has ended; it may be a zombie then. A thread of its own waits for it, as long as
    /// it lives.
    ///
    /// # Errors
    /// [`Error::File`] when there is no thread to be had.
    pub(crate) fn end(&self) -> Result<watch::Receiver<bool>> {
        let failed = |error| Error::file("watch the server, process", self.pid.to_string(), error);
        let handle = self.handle.as_ref().map(OwnedFd::try_clone).transpose().map_err(failed)?;
        let (send, ended) = watch::channel(false);
        let same = Self { pid: self.pid, start_ticks: self.start_ticks, handle };
        let wait = move || {
            while same.is_alive() && !send.is_closed() {
                match &same.handle {
                    Some(handle) => drop(poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&A_WHILE))),
                    None => std::thread::sleep(WITHOUT_HANDLE),
                }
            }
            // With nobody to tell, nobody waits.
            let _ = send.send(true);
        };
        std::thread::Builder::new().name("postmaster-end".to_owned()).spawn(wait).map_err(failed)?;
        Ok(ended)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether this very process runs; a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        process::is_alive(self.pid) && process::start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Sends a signal to this very process. One that has ended gets none, and that is no error.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match (&self.handle, Pid::from_raw(self.pid)) {
            (Some(handle), _) => pidfd_send_signal(handle, signal),
            (None, Some(pid)) if self.is_alive() => kill_process(pid, signal),
            _ => Ok(()),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
