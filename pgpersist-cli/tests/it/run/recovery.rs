//! A recovery that takes long: told, never ended for it, and stopped when asked.

use std::fs::File;

use rustix::process::Signal;

use crate::run::{Agent, eventually};
use crate::support::cluster::TestCluster;

/// A cluster whose next start waits for an archive until the file `go` exists; the archive turns out to have nothing then.
pub(crate) fn held() -> TestCluster {
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a");
    cluster.run(&["stop"]).done();
    // A history file that is not there tells it to stay on its timeline.
    let command = "case %f in *.history) exit 1;; esac; while [ ! -e {dir}/go ]; do sleep 0.05; done; exit 1";
    cluster.scratch.write("volume/data/postgresql.auto.conf", &format!("restore_command = '{command}'\n"));
    cluster.scratch.write("volume/data/recovery.signal", "");
    cluster
}

pub(crate) fn let_go(cluster: &TestCluster) {
    File::create(cluster.scratch.join("go")).unwrap();
}

#[test]
fn it_is_told_how_far_it_is_and_waited_for() {
    let cluster = held();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server recovers", 1);
    assert_eq!(cluster.run(&["status"]).code, Some(6));
    agent.wait_for("recovering since ", 1);
    let_go(&cluster);
    agent.wait_until_ready();
    eventually("it has ended its recovery", || cluster.sql("postgres", "SELECT pg_is_in_recovery()") == "f");
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "1000");
    agent.stopped();
}

#[test]
fn a_request_to_stop_ends_it_and_the_next_one_goes_on() {
    let cluster = held();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server recovers", 1);
    agent.signal(Signal::TERM);
    // What the server runs, such as a restore_command, may outlive it.
    let_go(&cluster);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    let mut next = Agent::start(&cluster, &[]);
    next.wait_until_ready();
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "1000");
    next.stopped();
}
