//! As PID 1 of a container: it reaps, it passes signals on, and it ends when its command does.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::run::{Agent, eventually, kill, state_of};
use crate::support::cluster::TestCluster;
use crate::support::container::can_isolate;
use crate::support::processes;

/// The agent as PID 1 of namespaces of its own; the process that was started is `unshare`.
fn contained(cluster: &TestCluster, arguments: &[&str]) -> Agent {
    let mut command = Command::new("unshare");
    command.args(["--fork", "--kill-child", "--pid", "--mount-proc", "--"]).arg(env!("CARGO_BIN_EXE_pgpersist"));
    cluster.scratch.prepare(&mut command);
    command.args(["run", "--allow-ephemeral"]).args(arguments);
    Agent::spawn(cluster, command)
}

/// The number, seen from here, of the namespace's first process.
fn first_process(agent: &Agent) -> i32 {
    let mut children = Vec::new();
    eventually("there is a first process", || {
        children = processes::children_of(agent.child.id() as i32);
        !children.is_empty()
    });
    children[0]
}

#[test]
fn it_reaps_orphans_and_ends_cleanly_on_sigterm() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    let mut agent = contained(&cluster, &[]);
    agent.wait_until_ready();
    let first = first_process(&agent);
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 100) AS a");
    cluster.sql_in_background("postgres", "SELECT pg_sleep(1000)");
    // The backends of a killed postmaster become orphans; the agent's own number for it is another one.
    let agents = processes::children_of(first);
    assert_eq!(agents.len(), 1, "PID 1 has one child, the command: {agents:?}");
    let postmaster = processes::children_of(agents[0])
        .into_iter()
        .find(|child| fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "postgres"));
    kill(postmaster.unwrap(), Signal::KILL);
    agent.wait_for(" is ready after ", 2);
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "100");
    // One that has just ended may be seen for a moment.
    eventually("no zombie is left", || processes::zombies_below(first).is_empty());
    kill(first, Signal::TERM);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert_eq!(state_of(&cluster), "shut down");
}

#[test]
fn its_exit_code_is_the_commands() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    let mut refused = contained(&cluster, &["--", "--single"]);
    assert_eq!(refused.ended(), Some(2), "{}", refused.said());
    let mut agent = contained(&cluster, &[]);
    agent.wait_until_ready();
    let command = processes::children_of(first_process(&agent))[0];
    kill(command, Signal::KILL);
    assert_eq!(agent.ended(), Some(128 + 9), "{}", agent.said());
    // The kernel ended the server with its namespace; the next agent recovers.
    let mut next = Agent::start(&cluster, &[]);
    next.wait_for(" is ready after ", 2);
    next.stopped();
}
