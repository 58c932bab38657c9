//! Something is killed: the postmaster, a backend, the agent, both.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::run::{Agent, eventually, kill, state_of};
use crate::support::cluster::TestCluster;
use crate::support::container::{APART, can_isolate, contained};
use crate::support::scratch::Run;

fn rows(cluster: &TestCluster) -> String {
    cluster.sql("postgres", "SELECT count(*) FROM t")
}

#[test]
fn a_killed_postmaster_comes_back() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 100) AS a");
    for times in 2..=3 {
        let killed = cluster.postmaster().unwrap();
        kill(killed, Signal::KILL);
        agent.wait_for(" is ready after ", times);
        assert_ne!(cluster.postmaster(), Some(killed));
        assert_eq!(rows(&cluster), "100");
        assert!(agent.said().contains(&format!("(process {killed}) was killed: signal: 9 (SIGKILL)")), "{}", agent.said());
    }
    // The second time in a row it waits a moment.
    assert!(agent.said().contains("the server is started again in 1 s"), "{}", agent.said());
    agent.stopped();
    assert_eq!(state_of(&cluster), "shut down");
}

#[test]
fn a_killed_backend_is_the_servers_own_affair() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    let postmaster = cluster.postmaster();
    cluster.sql_in_background("postgres", "SELECT pg_sleep(1000)");
    let sleeper =
        || cluster.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)' AND pid <> pg_backend_pid()");
    eventually("a backend sleeps", || !sleeper().is_empty());
    kill(sleeper().parse().unwrap(), Signal::KILL);
    agent.wait_for("all server processes terminated; reinitializing", 1);
    // PostgreSQL 15 does not end on a fast shutdown before that, only on an immediate one.
    agent.wait_for("database system is ready to accept connections", 2);
    assert_eq!(cluster.postmaster(), postmaster);
    agent.stopped();
}

#[test]
fn a_server_whose_agent_was_killed_is_adopted_by_the_next_one() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 100) AS a");
    let postmaster = cluster.postmaster().unwrap();
    agent.signal(Signal::KILL);
    assert_eq!(agent.ended(), None);
    assert_eq!(rows(&cluster), "100");

    let mut next = Agent::start(&cluster, &[]);
    next.wait_for(&format!("the server, process {postmaster}, runs already and is adopted"), 1);
    assert_eq!((cluster.postmaster(), rows(&cluster).as_str()), (Some(postmaster), "100"));
    cluster.sql("postgres", "DO $$ BEGIN RAISE WARNING 'heard by the next one'; END $$");
    next.wait_for("heard by the next one", 1);
    // It is no child of this agent, whose end must be seen all the same.
    kill(postmaster, Signal::KILL);
    next.wait_for(" is ready after ", 2);
    assert_eq!(rows(&cluster), "100");

    // Both at once.
    let postmaster = cluster.postmaster().unwrap();
    next.signal(Signal::KILL);
    kill(postmaster, Signal::KILL);
    next.ended();
    let mut last = Agent::start(&cluster, &[]);
    last.wait_for(" is ready after ", 3);
    assert_eq!(rows(&cluster), "100");
    last.stopped();
}

#[test]
fn two_agents_never_share_a_directory() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.run(&["run", "--allow-ephemeral"]).refused(5, &["is in use by another pgpersist: process", "  remedy: "]);
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
    if can_isolate() {
        let apart = contained(&cluster, APART, "exec \"$@\"", &["run", "--allow-ephemeral"]);
        Run::from({ apart }.output().unwrap()).refused(5, &["in use by another pgpersist", "  remedy: "]);
    }
    // Nor does an agent take a server that nobody of us started.
    agent.stopped();
    cluster.start();
    let mut second = Agent::start(&cluster, &[]);
    second.wait_for("is adopted", 1);
    second.stopped();
}

#[test]
fn a_port_that_becomes_free_in_time_is_waited_for() {
    let cluster = TestCluster::stopped("");
    let taken = TcpListener::bind(("127.0.0.1", cluster.scratch.port())).unwrap();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server is started again in 1 s", 1);
    drop(taken);
    agent.wait_until_ready();
    agent.stopped();
}

#[test]
fn a_port_that_stays_taken_is_given_up_with_6() {
    let cluster = TestCluster::stopped("");
    let port = cluster.scratch.port();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut agent = Agent::start(&cluster, &[]);
    // The first time it does not wait at all.
    for seconds in [1, 2, 4, 8, 16] {
        agent.wait_for(&format!("the server is started again in {seconds} s"), 1);
    }
    assert_eq!(agent.ended(), Some(6), "{}", agent.said());
    assert!(agent.said().contains("the server was started again 6 times within 10 minutes and does not stay: this is given up"));
    let remedy = format!("  remedy: another server uses port {port}: stop it, or set `[cluster] port` (or PGPORT) to a free one");
    assert!(agent.said().contains(&remedy), "{}", agent.said());
    assert!(!agent.said().contains(" is ready after "), "{}", agent.said());
    assert_eq!((cluster.postmaster(), state_of(&cluster).as_str()), (None, "shut down"));
    // Nothing of it stays in the way.
    drop(taken);
    let mut next = Agent::start(&cluster, &[]);
    next.wait_until_ready();
    next.stopped();
}

#[test]
fn what_no_restart_can_help_is_said_at_once() {
    let cluster = TestCluster::stopped("");
    let configuration = cluster.data().join("postgresql.auto.conf");
    cluster.scratch.write("volume/data/postgresql.auto.conf", "shared_buffers = 'much'\n");
    let run = cluster.run(&["run", "--allow-ephemeral"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("invalid value for parameter \"shared_buffers\"") && run.stderr.contains("  remedy: "), "{run:?}");
    std::fs::remove_file(configuration).unwrap();
    cluster.scratch.write_bytes("volume/data/global/pg_control", &[0; 8192]);
    let run = cluster.run(&["run", "--allow-ephemeral"]);
    assert_eq!(run.code, Some(7), "{run:?}");
}

#[test]
fn a_backend_that_never_notices_is_ended_before_the_next_server_starts() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    for (round, of_agent) in [false, true].into_iter().enumerate() {
        // As one that waits for a lock in shared memory whose holder was killed: it hears of nothing but signals that kill.
        cluster.sql_in_background("postgres", "SELECT pg_sleep(1000)");
        let sleeper =
            || cluster.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)' AND pid <> pg_backend_pid()");
        eventually("it sleeps", || !sleeper().is_empty());
        let sleeper = sleeper().parse().unwrap();
        kill(sleeper, Signal::STOP);
        let postmaster = cluster.postmaster().unwrap();
        if of_agent {
            agent.signal(Signal::KILL);
            agent.ended();
        }
        kill(postmaster, Signal::KILL);
        if of_agent {
            agent = Agent::start(&cluster, &[]);
        }
        agent.wait_for(" is ready after ", round + 2);
        assert!(!std::path::Path::new(&format!("/proc/{sleeper}/cwd")).exists(), "it is still there");
    }
    agent.stopped();
    // `stop` alone does the same.
    cluster.start();
    cluster.sql_in_background("postgres", "SELECT pg_sleep(1000)");
    let sleeper =
        || cluster.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)' AND pid <> pg_backend_pid()");
    eventually("it sleeps", || !sleeper().is_empty());
    kill(sleeper().parse().unwrap(), Signal::STOP);
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    cluster.run(&["stop"]).done();
    cluster.start();
}
