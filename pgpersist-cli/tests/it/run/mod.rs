//! `pgpersist run` as a real process: told to stop, killed, its server killed, its volume taken away.

mod backups;
pub(crate) mod clock;
mod control;
mod crashes;
mod fence;
mod first_process;
mod hooks;
pub(crate) mod http;
mod idle;
mod kubelet;
pub(crate) mod recovery;
mod reload;
mod room;
mod schedules;
mod service_manager;
mod stale_pid;
mod stopping;
mod volume;

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::TestCluster;

/// How long anything that is expected may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent in the foreground of nobody; killed with its handle. Its server is the cluster's to end.
pub(crate) struct Agent {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Agent {
    pub(crate) fn start(cluster: &TestCluster, arguments: &[&str]) -> Self {
        let mut command = cluster.scratch.command();
        command.args(["run", "--allow-ephemeral"]).args(arguments);
        Self::spawn(cluster, command)
    }

    /// What it prints is added to a file.
    pub(crate) fn spawn(cluster: &TestCluster, mut command: Command) -> Self {
        let log = cluster.scratch.join("agent.log");
        let file = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    /// All that it, and those before it, have printed.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has said this so many times.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.said().matches(text).count() < times {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended ({ended:?}) without `{text}`:\n{}", self.said());
            assert!(Instant::now() < deadline, "no `{text}`:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub(crate) fn wait_until_ready(&mut self) {
        self.wait_for(" is ready after ", 1);
    }

    /// Waits for its end, and returns its exit code (none when a signal ended it).
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn stopped(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended(), Some(0), "{}", self.said());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so after a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// What `pg_controldata` says of the cluster's state.
fn state_of(cluster: &TestCluster) -> String {
    let mut command = Command::new(crate::support::user::client("pg_controldata"));
    command.arg(cluster.data()).env("LC_ALL", "C");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("Database cluster state:")).unwrap_or(&text).trim().to_owned()
}
