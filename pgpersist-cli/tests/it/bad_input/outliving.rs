//! Programs that a server started, and that outlive it with its lock in their hands.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::TestCluster;

/// A program of the server's, ended with this.
struct Sleeper(i32);

impl Sleeper {
    fn start(cluster: &TestCluster) -> Self {
        let note = cluster.scratch.join("volume/sleeper");
        cluster.sql(
            "postgres",
            &format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; sleep 600 </dev/null >/dev/null 2>&1 & echo $! >{}'", note.display()),
        );
        Self(fs::read_to_string(note).unwrap().trim().parse().unwrap())
    }

    fn runs(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/comm", self.0)).is_ok_and(|name| name.trim() == "sleep")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if self.runs() {
            let _ = kill_process(Pid::from_raw(self.0).unwrap(), Signal::KILL);
        }
    }
}

#[test]
fn a_program_that_outlives_the_server_is_named() {
    let cluster = TestCluster::running("");
    let sleeper = Sleeper::start(&cluster);
    let named = format!("process {} (sleep), which", sleeper.0);

    // A restart would end half-way.
    let postmaster = cluster.postmaster();
    cluster.run(&["restart"]).refused(5, &[&named, "  remedy: end it first"]);
    assert_eq!(cluster.postmaster(), postmaster);

    let stopped = cluster.run(&["stop", "--json"]);
    assert_eq!(stopped.code, Some(3), "{stopped:?}");
    let report = stopped.json();
    assert!(report["warnings"][0].as_str().unwrap().contains(&named), "{stopped:?}");
    assert_eq!((&report["changed"], &report["immediate"], &report["state"]), (&true.into(), &false.into(), &"stopped".into()));
    assert_eq!(cluster.postmaster(), None);
    assert!(sleeper.runs(), "it is not ours to end");

    let again = cluster.run(&["stop"]);
    assert_eq!(again.code, Some(3), "{again:?}");
    assert!(again.stdout.starts_with("It did not run.") && again.stderr.contains(&named), "{again:?}");
    assert!(cluster.run(&["status"]).stdout.contains(&named));
    cluster.run(&["start", "--timeout", "1"]).refused(
        5,
        &["has ended, but process ", &format!("process {} (sleep)", sleeper.0), &format!("  remedy: end it (`kill {}`)", sleeper.0)],
    );
    drop(sleeper);
    cluster.start();
    cluster.run(&["stop"]).done();
}
