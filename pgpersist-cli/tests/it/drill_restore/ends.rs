//! Drills that are interrupted or killed: no cluster stays, nothing half is recorded.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::drill_restore::{APART, IN_STORE, ON_VOLUME, dumped, foreign_dump, left, prepare, recorded, wait_until};
use crate::support::cluster::TestCluster;
use crate::support::processes;

/// Waits within the dump itself, and within a check.
const SLOW_DUMP: &str = "CREATE TABLE t (a int);\nSELECT pg_catalog.pg_sleep(600);\n";
const SLOW_CHECK: &str = "[[drill.check]]\nname = \"slow\"\ndatabase = \"shop\"\nsql = \"select count(pg_sleep(600)) = 1\"\n";

/// A drill that has got as far as this step.
fn drill_at(cluster: &TestCluster, step: &str) -> Child {
    let mut command = cluster.scratch.command();
    command.args(["drill", "restore"]).envs(APART.map(|(name, value)| (name, cluster.scratch.fill(value))));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(step) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the drill ended before `{step}`");
    }
    child.stderr = Some(lines.into_inner());
    wait_until("the drill's cluster", || left(cluster).len() == 1);
    child
}

fn assert_nothing_left(cluster: &TestCluster) {
    wait_until("the removal of the drill's cluster", || left(cluster).is_empty());
    let tmp = cluster.scratch.join("volume/tmp");
    assert_eq!(processes::wait_until_gone(&tmp, Duration::from_secs(60)), Vec::<String>::new());
    assert_eq!((recorded(cluster, ON_VOLUME), recorded(cluster, IN_STORE)), (Vec::new(), Vec::new()));
}

#[test]
fn an_interrupted_drill_leaves_nothing() {
    let cluster = TestCluster::running("databases = [\"shop\"]\n");
    prepare(&cluster);
    foreign_dump(&cluster, "backup_20260101_000000.sql.gz", SLOW_DUMP);
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut child = drill_at(&cluster, "loading ");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let code = child.wait().unwrap().code();
        if signal != Signal::KILL {
            assert_eq!(code, Some(130), "{said}");
            assert!(said.ends_with("error: `drill restore` was cancelled\n"), "{said}");
        }
        assert_nothing_left(&cluster);
    }
}

#[test]
fn a_drill_that_is_killed_while_it_checks_leaves_nothing() {
    let cluster = dumped(SLOW_CHECK);
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = drill_at(&cluster, "checking ");
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        assert_nothing_left(&cluster);
    }
}
