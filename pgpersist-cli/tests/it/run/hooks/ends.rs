//! An agent that ends by itself says so before it does, and the next one that stays tells that it is over.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::run::hooks::ready;
use crate::run::{Agent, eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::http::free_port;
use crate::support::receiver::Receiver;

fn hook(receiver: &Receiver) -> String {
    format!("[hooks]\nwebhook = \"http://127.0.0.1:{}/\"\ninterval = \"1s\"\n", receiver.port)
}

fn words(receiver: &Receiver) -> Vec<String> {
    receiver.events_of("agent").into_iter().map(|(word, _)| word).collect()
}

#[test]
fn what_no_restart_can_help_is_told_once_and_its_end() {
    let (receiver, port) = (Receiver::start(), free_port());
    let cluster = TestCluster::stopped(&format!("{}[health]\nlisten = \"127.0.0.1:{port}\"\n", hook(&receiver)));
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    // As a kubelet would, again and again.
    for _ in 0..2 {
        let run = cluster.run(&["run", "--allow-ephemeral"]);
        assert_eq!(run.code, Some(6), "{run:?}");
    }
    assert_eq!(words(&receiver), ["failure"]);
    let (_, document) = receiver.events_of("agent").remove(0);
    let finding = &document["findings"][0];
    assert!(finding["summary"].as_str().unwrap().contains("`pgpersist run` ends: could not listen on"), "{document}");
    assert!(finding["remedy"].as_str().unwrap().contains("[health] listen"), "{document}");
    drop(taken);
    let mut agent = ready(&cluster);
    eventually("it is over", || words(&receiver) == ["failure", "recovery"]);
    agent.stopped();

    // A directory that cannot be used is another reason, and somebody who hangs is not waited for.
    cluster.scratch.write_bytes("volume/data/global/pg_control", &[0; 8192]);
    receiver.be_silent();
    let run = cluster.run(&["run", "--allow-ephemeral"]);
    assert_eq!(run.code, Some(7), "{run:?}");
    assert_eq!(words(&receiver), ["failure", "recovery", "failure"]);
}

#[test]
fn a_server_that_does_not_stay_is_told_and_that_it_is_given_up() {
    let receiver = Receiver::start();
    let cluster = TestCluster::stopped(&hook(&receiver));
    let mut agent = Agent::start(&cluster, &[]);
    for times in 1..=7 {
        agent.wait_for(" is ready after ", times);
        kill(cluster.postmaster().unwrap(), Signal::KILL);
    }
    assert_eq!(agent.ended(), Some(6), "{}", agent.said());
    let server: Vec<String> = receiver.events_of("server").into_iter().map(|(word, _)| word).collect();
    assert_eq!(server.first().map(String::as_str), Some("failure"));
    assert_eq!(words(&receiver), ["failure"]);
    let (_, document) = receiver.events_of("agent").remove(0);
    assert!(document["summary"].as_str().unwrap().contains("was killed: signal: 9"), "{document}");
    // The next one stays.
    let mut agent = Agent::start(&cluster, &[]);
    eventually("both are over", || {
        let server = receiver.events_of("server").pop().map(|(word, _)| word);
        words(&receiver) == ["failure", "recovery"] && server.as_deref() == Some("recovery")
    });
    agent.stopped();
}
