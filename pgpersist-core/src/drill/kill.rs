//! When and whom to kill, drawn from the seed; and the SIGKILL itself, through descriptors of processes that were verified.
//!
//! Backends are process groups of their own (`InitPostmasterChild` calls `setsid`), so "the group" here means the
//! postmaster and all of its descendants, not what `kill(-pid)` reaches.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::drill::KillKind;
use crate::drill::dice::Dice;
use crate::error::{Error, Result};
use crate::server::process::{self, Presence};
use crate::workers;

/// Keeps these dice apart from those of the writers.
const PURPOSE: u64 = u64::MAX;

/// What to kill in each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillChoice {
    /// Each kind by turns, in an order that the seed decides.
    Mix,
    /// Always this one.
    Only(KillKind),
}

impl KillChoice {
    /// The word that the command line and documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mix => "mix",
            Self::Only(kind) => kind.as_str(),
        }
    }
}

/// One kill of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedKill {
    /// Whom.
    pub kind: KillKind,
    /// When, as a fraction of the length of an undisturbed run.
    pub moment: f64,
    /// Whose backend, from 0, where only one is killed.
    pub writer: usize,
}

/// The kills of a drill: the same for the same seed and options, always.
pub fn plan(seed: u64, rounds: u32, writers: u32, choice: KillChoice) -> Vec<PlannedKill> {
    let mut dice = Dice::new(seed, PURPOSE);
    let mut kinds = Vec::new();
    (0..rounds)
        .map(|_| {
            if kinds.is_empty() {
                kinds = vec![KillKind::Postmaster, KillKind::Backend, KillKind::Group];
            }
            let drawn = kinds.swap_remove(dice.below(kinds.len() as u64) as usize);
            PlannedKill {
                kind: if let KillChoice::Only(kind) = choice { kind } else { drawn },
                moment: dice.fraction(),
                writer: dice.below(u64::from(writers)) as usize,
            }
        })
        .collect()
}

/// A process that is proven to be what it should be, and cannot become another one any more.
#[derive(Debug)]
pub(crate) struct Victim {
    pid: i32,
    descriptor: OwnedFd,
}

impl Victim {
    /// The postmaster of a data directory.
    pub(crate) fn postmaster(directory: &Path) -> Result<Self> {
        let Some(pid) = Presence::of(directory)?.running().map(|file| file.pid) else { return Err(gone("the server")) };
        let victim = Self::open(pid)?;
        // Proven again now that the number cannot pass to another process unnoticed.
        match Presence::of(directory)?.running() {
            Some(file) if file.pid == pid => Ok(victim),
            _ => Err(gone("the server")),
        }
    }

    /// A living descendant of this postmaster.
    pub(crate) fn below(&self, pid: i32) -> Result<Self> {
        let victim = Self::open(pid)?;
        if process::descendants(self.pid).contains(&pid) && process::is_alive(self.pid) { Ok(victim) } else { Err(gone("the backend")) }
    }

    /// All living descendants.
    fn all_below(&self) -> Result<Vec<Self>> {
        let opened: Vec<Self> = process::descendants(self.pid).into_iter().filter_map(|pid| Self::open(pid).ok()).collect();
        // What ended before its descriptor was open is no descendant any more.
        let still = process::descendants(self.pid);
        Ok(opened.into_iter().filter(|victim| still.contains(&victim.pid)).collect())
    }

    fn open(pid: i32) -> Result<Self> {
        let target = Pid::from_raw(pid).ok_or_else(|| Error::Bug(format!("{pid} is no process id")))?;
        let descriptor =
            pidfd_open(target, PidfdFlags::empty()).map_err(|e| Error::file("take hold of process", format!("/proc/{pid}"), e.into()))?;
        Ok(Self { pid, descriptor })
    }

    fn send(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::file("signal process", format!("/proc/{}", self.pid), errno.into())),
        }
    }

    /// SIGKILL to this one.
    pub(crate) fn kill(&self) -> Result<()> {
        self.send(Signal::KILL)
    }

    /// SIGKILL to the postmaster and all of its descendants; returns their ids.
    pub(crate) fn kill_group(&self) -> Result<Vec<i32>> {
        // Stopped, it starts no process between the look and the kill.
        self.send(Signal::STOP)?;
        let below = match self.all_below() {
            Ok(below) => below,
            Err(error) => {
                self.send(Signal::CONT)?;
                return Err(error);
            }
        };
        self.send(Signal::KILL)?;
        below.iter().try_for_each(Self::kill)?;
        Ok(std::iter::once(self.pid).chain(below.iter().map(|victim| victim.pid)).collect())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

fn gone(what: &str) -> Error {
    Error::unavailable(format!("{what} ended before it could be killed"), "look at the server's log")
}

/// Kills as planned; returns the ids of the processes that got the signal. Blocking.
pub(crate) fn strike(directory: &Path, kind: KillKind, backend: Option<i32>) -> Result<Vec<i32>> {
    let postmaster = Victim::postmaster(directory)?;
    match (kind, backend) {
        (KillKind::Postmaster, _) => postmaster.kill().map(|()| vec![postmaster.pid()]),
        (KillKind::Group, _) => postmaster.kill_group(),
        (KillKind::Backend, Some(pid)) => {
            let backend = postmaster.below(pid)?;
            backend.kill().map(|()| vec![backend.pid()])
        }
        (KillKind::Backend, None) => Err(Error::Bug("no backend to kill".into())),
    }
}

/// Waits until all of these have ended.
pub(crate) async fn wait_until_gone(pids: Vec<i32>, deadline: Duration) -> Result<()> {
    let until = Instant::now() + deadline;
    loop {
        let pids_ = pids.clone();
        if workers::run(move || Ok(!pids_.iter().any(|pid| process::is_alive(*pid)))).await? {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::Deadline { what: "killed processes did not end".to_owned(), after: deadline, remedy: None });
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_plans_the_same_kills() {
        let one = plan(42, 20, 4, KillChoice::Mix);
        assert_eq!(one, plan(42, 20, 4, KillChoice::Mix));
        assert_ne!(one, plan(43, 20, 4, KillChoice::Mix));
        // More rounds only add to the plan.
        assert_eq!(one[..5], plan(42, 5, 4, KillChoice::Mix));
    }

    #[test]
    fn a_mix_has_every_kind_in_three_rounds() {
        for seed in 0..50 {
            let kinds: Vec<_> = plan(seed, 3, 4, KillChoice::Mix).iter().map(|kill| kill.kind.as_str()).collect();
            assert!(["postmaster", "backend", "group"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
        }
        assert!(plan(1, 9, 4, KillChoice::Only(KillKind::Group)).iter().all(|kill| kill.kind == KillKind::Group && kill.writer < 4));
    }
}
