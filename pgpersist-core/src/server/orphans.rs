//! Backends that outlive their postmaster. They notice its death and end within moments, unless they wait for something in
//! shared memory whose holder was killed with it: such a wait knows no death of the postmaster (`LWLockAcquire`, `lwlock.c`,
//! PostgreSQL 14 to 18), lasts for ever, and keeps the next server from starting.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::error::Result;
use crate::server::cluster::Cluster;
use crate::server::lock::{self, ServerLock};
use crate::server::process::{self, Presence};
use crate::workers;

/// How long backends get to notice by themselves that their postmaster is gone.
pub(crate) const NOTICE: Duration = Duration::from_secs(3);
/// How long one may take to end that is told to.
const QUIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// Takes the server's lock; what a dead postmaster has left and does not end by itself is ended. Waits no longer than `grace`.
///
/// # Errors
/// As [`ServerLock::take`].
pub(crate) async fn outlast(cluster: &Cluster, grace: Duration) -> Result<ServerLock> {
    match ServerLock::take(cluster, grace.min(NOTICE)).await {
        Err(_) if grace > NOTICE => {
            end(cluster).await?;
            ServerLock::take(cluster, grace - NOTICE).await
        }
        taken => taken,
    }
}

/// Ends the backends that a dead postmaster of this cluster has left, as it would have done itself: with SIGQUIT, and with SIGKILL
/// what does not hear. The next start recovers, whatever they did. Returns how many there were.
///
/// # Errors
/// When it cannot be told whether a postmaster runs.
pub(crate) async fn end(cluster: &Cluster) -> Result<usize> {
    let cluster = cluster.clone();
    workers::run(move || {
        if matches!(Presence::of(cluster.path())?, Presence::Running(_)) {
            return Ok(0);
        }
        // Of all that works in the directory only what holds our lock was started by us.
        let ours = lock::holders(cluster.directory().as_ref());
        let works_here = process::working_in(cluster.path());
        let orphans: Vec<Orphan> =
            ours.iter().filter(|holder| works_here.contains(&holder.pid)).filter_map(|holder| Orphan::of(holder.pid)).collect();
        orphans.iter().for_each(|orphan| orphan.signal(Signal::QUIT));
        if !gone(&orphans, QUIT) {
            orphans.iter().for_each(|orphan| orphan.signal(Signal::KILL));
            gone(&orphans, QUIT);
        }
        Ok(orphans.len())
    })
    .await
}

/// Waits until all have ended, or the time is over.
fn gone(orphans: &[Orphan], time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        match orphans.iter().any(Orphan::is_alive) {
            false => return true,
            true if Instant::now() >= deadline => return false,
            true => std::thread::sleep(POLL),
        }
    }
}

/// A backend without a postmaster.
struct Orphan {
    pid: i32,
    start_ticks: u64,
    /// None from a kernel older than 5.3, which knows no such handles.
    handle: Option<OwnedFd>,
}

impl Orphan {
    /// Holds a process, if it is one: a backend by its title, whose parent is seen and is no postmaster.
    fn of(pid: i32) -> Option<Self> {
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok();
        let start_ticks = process::start_ticks(pid)?;
        let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let parent = process::parent(pid)?;
        let has_postmaster = fs::read_to_string(format!("/proc/{parent}/comm")).is_ok_and(|name| process::is_called_postgres(name.trim()));
        // The parent's number is 0 where it lives in another PID namespace: then nothing is known of it.
        (title.starts_with(b"postgres: ") && parent > 0 && !has_postmaster).then_some(Self { pid, start_ticks, handle })
    }

    fn is_alive(&self) -> bool {
        process::is_alive(self.pid) && process::start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// One that has ended meanwhile needs none.
    fn signal(&self, signal: Signal) {
        let _: std::result::Result<(), Errno> = match (&self.handle, Pid::from_raw(self.pid)) {
            (Some(handle), _) => pidfd_send_signal(handle, signal),
            (None, Some(pid)) if self.is_alive() => kill_process(pid, signal),
            _ => Ok(()),
        };
    }
}
