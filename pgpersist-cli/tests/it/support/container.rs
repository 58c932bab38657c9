//! A container as far as we need one: namespaces of its own, in which the program runs and sees none of our processes.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::cluster::TestCluster;
use crate::support::skip::skip;

/// Namespaces of its own for processes, for what they share, and for mounts.
pub(crate) const APART: &[&str] = &["--fork", "--kill-child", "--pid", "--ipc", "--mount", "--mount-proc"];

/// How long a container's server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether namespaces can be made and something mounted in them; a test that needs them skips where not.
pub(crate) fn can_isolate() -> bool {
    let probe =
        Command::new("unshare").args(["--fork", "--pid", "--ipc", "--mount", "--mount-proc", "mount", "--bind", "/", "/mnt"]).output();
    let can = probe.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        skip("namespaces", format_args!("none can be made here: {probe:?}"));
    }
    can
}

/// The program with its arguments as `script` runs it (as `"$@"`) in namespaces of its own.
pub(crate) fn contained(cluster: &TestCluster, namespaces: &[&str], script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["--", "sh", "-c", &cluster.scratch.fill(script), "sh", env!("CARGO_BIN_EXE_pgpersist")]);
    cluster.scratch.prepare(&mut command);
    command.args(arguments.iter().map(|word| cluster.scratch.fill(word)));
    command
}

/// A container that started a server and lives on; all in it ends with it.
#[derive(Debug)]
pub(crate) struct Container(Child);

impl Container {
    /// Starts one in which `first` (a command of the shell that succeeds) comes before `pgpersist start` with these arguments.
    pub(crate) fn start(cluster: &TestCluster, first: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        // The shell is the namespace's first process: when it is killed, the kernel ends all others.
        let script = format!("{first} && \"$@\" >started 2>&1; echo done >>started; exec sleep 600");
        let mut command = contained(cluster, APART, &script, &[&["start"], arguments].concat());
        let container = Self(command.envs(environment.iter().copied()).stdout(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        let started = || fs::read_to_string(cluster.scratch.join("started")).unwrap_or_default();
        while !started().ends_with("done\n") {
            assert!(Instant::now() < deadline, "the container did not start: {}", started());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(started().contains("Started in "), "{}", started());
        container
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
