//! A running postmaster, held so that no other process can be mistaken for it: its number may be somebody else's as soon as
//! it has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::error::{Error, Result};
use crate::server::process::{self, Presence};

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
