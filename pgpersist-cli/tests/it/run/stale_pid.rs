//! A killed server's number belongs to somebody else by now, as in a container, where numbers begin anew: to a process that works in the
//! very same folder, to a thread, to another server. The server comes back, and nobody else is harmed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Agent, kill};
use crate::support::cluster::TestCluster;
use crate::support::user;

/// A process that is no server and works in the data directory, as somebody's shell may; ends with its handle.
struct Visitor(Child);

impl Visitor {
    /// One that the agent, which is of the same user, could signal.
    fn of(cluster: &TestCluster) -> Self {
        let mut command = Command::new("sleep");
        command.arg("3600").current_dir(cluster.data()).stdin(Stdio::null());
        user::run_as_user(&mut command);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The thread of an agent that waits for its server, and bears the name of one.
fn thread_of(agent: &Agent) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap();
    let mut threads = tasks.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let named = |thread: &i32| fs::read_to_string(format!("/proc/{thread}/comm")).is_ok_and(|name| name.trim() == "postmaster");
    threads.find(named).expect("an agent has a thread that waits for its server")
}

/// Makes all that the server `dead` has left say that it was process `pid`.
fn renumber(cluster: &TestCluster, dead: i32, pid: i32) {
    // The lock file of the socket begins as `postmaster.pid` does.
    for name in ["volume/data/postmaster.pid".to_owned(), format!("volume/socket/.s.PGSQL.{}.lock", cluster.scratch.port())] {
        let text = fs::read_to_string(cluster.scratch.join(&name)).unwrap();
        let (number, rest) = text.split_once('\n').unwrap();
        assert_eq!(number, dead.to_string(), "{name}");
        cluster.scratch.write_bytes(&name, format!("{pid}\n{rest}").as_bytes());
    }
    let record = "volume/.pgpersist/data/server.json";
    let mut text: Value = serde_json::from_slice(&fs::read(cluster.scratch.join(record)).unwrap()).unwrap();
    assert_eq!(text["pid"].as_str().unwrap().trim(), dead.to_string());
    text["pid"] = format!("{pid:>10}").into();
    cluster.scratch.write_bytes(record, text.to_string().as_bytes());
}

#[test]
fn a_number_that_is_somebody_elses_by_now_harms_nobody() {
    let (cluster, other) = TestCluster::pair();
    cluster.init();
    other.init();
    let mut neighbour = Agent::start(&other, &[]);
    neighbour.wait_until_ready();
    let mut visitor = Visitor::of(&cluster);
    let (thread, server) = (thread_of(&neighbour), other.postmaster().unwrap());

    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 7 AS a");
    for (round, whose) in [visitor.0.id() as i32, thread, server].into_iter().enumerate() {
        let dead = cluster.postmaster().unwrap();
        agent.signal(Signal::KILL);
        agent.ended();
        kill(dead, Signal::KILL);
        renumber(&cluster, dead, whose);
        // No command takes it for the server either.
        assert_eq!(cluster.run(&["status"]).code, Some(6), "process {whose}");
        cluster.run(&["stop"]).done();
        assert_eq!(cluster.postmaster(), Some(whose));

        agent = Agent::start(&cluster, &[]);
        agent.wait_for(" is ready after ", round + 2);
        assert_ne!(cluster.postmaster(), Some(whose));
        assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "7");
        assert!(!agent.said().contains("is adopted"), "{}", agent.said());

        assert_eq!(visitor.0.try_wait().unwrap(), None, "in round {round}");
        assert!(neighbour.child.try_wait().unwrap().is_none(), "{}", neighbour.said());
        assert!(Path::new(&format!("/proc/{thread}")).exists() && other.postmaster() == Some(server), "{}", neighbour.said());
        assert_eq!(other.sql("postgres", "SELECT 1"), "1");
    }
    agent.stopped();
    neighbour.stopped();
    assert_eq!(neighbour.said().matches(" is ready after ").count(), 1, "{}", neighbour.said());
}
