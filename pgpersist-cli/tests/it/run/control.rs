//! The socket of an agent: commands find it by themselves.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::run::schedules::{Lock, NIGHTLY, behind, start};
use crate::run::{Agent, PATIENCE, eventually};
use crate::support::cluster::TestCluster;

fn connect(cluster: &TestCluster) -> UnixStream {
    let stream = UnixStream::connect(cluster.scratch.join("volume/.pgpersist/data/control.socket")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Says a line, and returns the first one of the answer; the connection stays.
pub(super) fn asked(cluster: &TestCluster, line: &str) -> (Value, BufReader<UnixStream>) {
    let mut stream = connect(cluster);
    stream.write_all(line.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut answer = String::new();
    reader.read_line(&mut answer).unwrap();
    (serde_json::from_str(&answer).unwrap_or_default(), reader)
}

#[test]
fn status_tells_of_the_agent_and_of_none() {
    let cluster = TestCluster::planned("[dump]\nschedule = \"0 2 * * *\"\n");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("its jobs are known", || cluster.run(&["status", "--json"]).json()["agent"]["jobs"]["dump"]["next_at"].is_string());
    let document = cluster.run(&["status", "--json"]).done().json();
    let told = &document["agent"];
    assert_eq!((&told["phase"], &told["restarts"], told["pid"].as_u64()), (&"ready".into(), &0.into(), Some(agent.child.id().into())));
    let text = cluster.run(&["status"]).done().stdout;
    assert!(text.contains(&format!("  agent: process {}, ready for ", agent.child.id())) && text.contains("  dump: next at "), "{text}");
    agent.stopped();
    assert_eq!(cluster.run(&["status", "--json"]).json()["agent"], Value::Null);
}

#[test]
fn stop_ends_an_agent_that_has_no_server_to_stop() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.run(&["fence"]).done();
    let plan = cluster.run(&["stop", "--dry-run", "--json"]).done().json();
    assert!(plan["plan"][0].as_str().unwrap().starts_with("have the agent that supervises "), "{plan}");
    let stopped = cluster.run(&["stop", "--json"]).done();
    assert_eq!(stopped.json()["changed"], false, "{stopped:?}");
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    cluster.run(&["unfence"]).done();

    // With one, both end.
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for(" is ready after ", 2);
    let stopped = cluster.run(&["stop", "--json"]).done();
    assert_eq!((&stopped.json()["changed"], &stopped.json()["state"]), (&true.into(), &"stopped".into()), "{stopped:?}");
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert!(agent.said().contains("shutting the server down"), "{}", agent.said());
}

#[test]
fn a_dump_by_hand_and_one_of_the_agent_wait_for_each_other() {
    let cluster = behind(NIGHTLY, Lock::Held);
    let mut agent = start(&cluster);
    eventually("pg_dump waits for the lock", || cluster.programs("pg_dump") == 1);
    let mut by_hand = cluster.scratch.command();
    let by_hand = by_hand.args(["dump", "--verbose"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let slot = || asked(&cluster, "{\"ask\":\"hold\",\"job\":\"dump\"}\n");
    let (answer, mut third) = slot();
    assert_eq!(answer["answer"], "busy");
    assert_eq!(cluster.programs("pg_dump"), 1);
    cluster.let_go();
    agent.wait_for("dump: done in ", 1);
    // Who waits gets it, one after the other.
    let mut line = String::new();
    third.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "{\"answer\":\"held\"}");
    drop(third);
    let done = by_hand.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(cluster.dumps(), 2);
    agent.stopped();
}

#[test]
fn what_is_no_question_is_told_and_harms_nobody() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    for line in ["{}\n", "\n", "{\"ask\":\"rm\"}\n", "GET / HTTP/1.1\r\n", &format!("{}\n", "x".repeat(100_000))] {
        let mut stream = connect(&cluster);
        // It may be sent away before all is said.
        let _ = stream.write_all(line.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"{\"answer\":\"refused\""), "{}", String::from_utf8_lossy(&answer));
    }
    // More of them than it has places for, who say nothing: they are sent away.
    let silent: Vec<UnixStream> = (0..64).map(|_| connect(&cluster)).collect();
    eventually("it answers", || cluster.run(&["status", "--json"]).json()["agent"]["phase"] == "ready");
    drop(silent);
    std::thread::sleep(Duration::from_millis(50));
    agent.stopped();
}
