//! Told to stop, at any moment.

use std::time::Duration;

use rustix::process::Signal;

use crate::run::{Agent, eventually, kill, state_of};
use crate::support::cluster::TestCluster;
use crate::support::processes;

#[test]
fn it_creates_starts_and_stops_on_request() {
    let cluster = TestCluster::planned("databases = [\"orders\"]\n");
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Agent::start(&cluster, &["--", "-c", "work_mem=9MB"]);
        eventually("it runs", || cluster.run(&["status"]).code == Some(0));
        assert_eq!(cluster.databases(), ["orders"]);
        assert_eq!(cluster.sql("postgres", "SHOW work_mem"), "9MB");
        cluster.sql_in_background("postgres", "SELECT pg_sleep(1000)");
        agent.signal(signal);
        assert_eq!(agent.ended(), Some(0), "{}", agent.said());
        assert_eq!(state_of(&cluster), "shut down");
        assert_eq!(cluster.run(&["status"]).code, Some(6));
    }
}

#[test]
fn the_servers_log_is_passed_on_with_its_levels() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &["--json"]);
    agent.wait_until_ready();
    cluster.sql("postgres", "DO $$ BEGIN RAISE WARNING 'line one' USING DETAIL = 'more'; END $$");
    agent.wait_for("line one", 1);
    agent.stopped();
    let lines: Vec<serde_json::Value> = agent.said().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |text: &str| lines.iter().find(|line| line["message"].as_str().unwrap().contains(text)).unwrap();
    assert_eq!((&of("line one")["level"], &of("line one")["source"]), (&"WARNING".into(), &"server".into()));
    assert_eq!(of("DETAIL:  more")["level"], "WARNING");
    assert_eq!(of("the server has ended")["source"], "pgpersist");
    assert!(of("database system is shut down")["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_log_directory_keeps_the_servers_log_to_itself() {
    let cluster = TestCluster::stopped("[log]\ndirectory = \"{dir}/volume/logs\"\n");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    agent.stopped();
    assert!(!agent.said().contains("database system is ready"), "{}", agent.said());
    let log = std::fs::read_to_string(cluster.scratch.join("volume/logs/postgresql.log")).unwrap();
    assert!(log.contains("database system is ready"));
}

#[test]
fn a_server_that_somebody_stops_stays_stopped() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    // As `pg_ctl stop` does.
    kill(cluster.postmaster().unwrap(), Signal::INT);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert!(agent.said().contains("shut down by somebody else"), "{}", agent.said());
    // The same with one that it did not start itself.
    cluster.start();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("is adopted", 1);
    cluster.run(&["stop"]).done();
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert_eq!(cluster.run(&["status"]).code, Some(6));
}

/// Has the next clean shutdown of the server hang: it waits for a checkpoint that nobody makes.
fn hang_shutdown(cluster: &TestCluster) {
    let checkpointer = cluster.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    kill(checkpointer.parse().unwrap(), Signal::STOP);
}

#[test]
fn a_second_request_hurries_a_shutdown_that_hangs() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    hang_shutdown(&cluster);
    agent.signal(Signal::TERM);
    agent.wait_for("shutting the server down", 1);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!agent.said().contains("is cut short"));
    agent.signal(Signal::TERM);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert!(agent.said().contains("the clean shutdown is cut short"));
    assert_eq!(state_of(&cluster), "in production");
    cluster.start();
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
}

#[test]
fn a_shutdown_that_hangs_is_cut_short_when_its_time_is_over() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &["--stop-timeout", "1"]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    hang_shutdown(&cluster);
    // Nobody asks a second time.
    agent.signal(Signal::TERM);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    let said = agent.said();
    let (tried, cut) = (said.find("shutting the server down"), said.find("the clean shutdown is cut short"));
    assert!(tried.is_some() && tried < cut, "{said}");
    assert_eq!((cluster.postmaster(), state_of(&cluster).as_str()), (None, "in production"));
    cluster.start();
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
}

#[test]
fn sigquit_does_without_a_clean_shutdown_and_ends_one_that_hangs() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    agent.signal(Signal::QUIT);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert!(!agent.said().contains("shutting the server down"), "{}", agent.said());
    assert_eq!(agent.said().matches("the clean shutdown is cut short").count(), 1, "{}", agent.said());
    assert_eq!((cluster.postmaster(), state_of(&cluster).as_str()), (None, "in production"));

    let mut next = Agent::start(&cluster, &[]);
    next.wait_for(" is ready after ", 2);
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
    hang_shutdown(&cluster);
    next.signal(Signal::TERM);
    next.wait_for("shutting the server down", 1);
    next.signal(Signal::QUIT);
    assert_eq!(next.ended(), Some(0), "{}", next.said());
    assert_eq!(next.said().matches("the clean shutdown is cut short").count(), 2, "{}", next.said());
    assert_eq!(state_of(&cluster), "in production");
    cluster.start();
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
}

#[test]
fn a_server_that_does_not_even_end_at_once_is_told_and_never_killed() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &["--stop-timeout", "1"]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    let postmaster = cluster.postmaster().unwrap();
    kill(postmaster, Signal::STOP);
    agent.signal(Signal::TERM);
    assert_eq!(agent.ended(), Some(6), "{}", agent.said());
    let told = format!("the server (process {postmaster}) did not end");
    assert!(agent.said().contains(&told) && agent.said().contains("  remedy: look at "), "{}", agent.said());
    let stat = std::fs::read_to_string(format!("/proc/{postmaster}/stat")).unwrap();
    assert!(stat.contains(") T "), "it is not as it was: {stat}");
    // It does what it was told as soon as it can.
    kill(postmaster, Signal::CONT);
    eventually("it has ended", || cluster.postmaster().is_none());
    cluster.start();
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
}

#[test]
fn a_request_before_a_server_is_adopted_ends_that_server() {
    let cluster = TestCluster::planned("");
    let mut ended = 0;
    for (round, milliseconds) in [5, 15, 30, 60, 120, 300].into_iter().enumerate() {
        let mut first = Agent::start(&cluster, &[]);
        first.wait_for(" is ready after ", round + 1);
        first.signal(Signal::KILL);
        first.ended();
        let mut second = Agent::start(&cluster, &[]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        second.signal(Signal::TERM);
        match second.ended() {
            Some(0) => {
                ended += 1;
                let left = processes::wait_until_gone(cluster.scratch.path(), Duration::from_secs(5));
                assert!(left.is_empty(), "after {milliseconds} ms: {left:?}\n{}", second.said());
            }
            // Its handlers did not stand yet: the server serves on, and is ended by who comes next.
            code => {
                assert_eq!(code, None, "{}", second.said());
                let before = second.said().matches("is adopted").count();
                let mut third = Agent::start(&cluster, &[]);
                third.wait_for("is adopted", before + 1);
                third.stopped();
            }
        }
    }
    assert!(ended > 0, "every agent was ended before it heard of it");
}

#[test]
fn a_request_during_the_way_up_leaves_no_server() {
    let cluster = TestCluster::planned("");
    // From before the directory is made until after the server is ready.
    for milliseconds in [0, 30, 100, 300, 600, 900, 1200] {
        let mut agent = Agent::start(&cluster, &[]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        // Before its handlers stand, a signal ends it like any program.
        agent.signal(Signal::TERM);
        let code = agent.ended();
        assert!(matches!(code, None | Some(0 | 130)), "{code:?}: {}", agent.said());
        let left = processes::wait_until_gone(cluster.scratch.path(), Duration::from_secs(5));
        assert!(left.is_empty(), "after {milliseconds} ms: {left:?}");
    }
    let mut agent = Agent::start(&cluster, &[]);
    let before = agent.said().matches(" is ready after ").count();
    agent.wait_for(" is ready after ", before + 1);
    agent.stopped();
}
