//! `fence` and `unfence`: the server down, the agent up.

use rustix::process::Signal;

use crate::run::http::listening;
use crate::run::{Agent, eventually, state_of};
use crate::support::cluster::TestCluster;
use crate::support::http::get;

#[test]
fn a_fence_keeps_the_server_down_and_the_agent_up_until_it_is_taken_away() {
    let (section, port) = listening();
    let cluster = TestCluster::stopped(&section);
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 7 AS a");
    let fenced = cluster.run(&["fence", "--reason", "odd rows", "--json"]).done().json();
    assert_eq!((fenced["state"].as_str(), fenced["changed"].as_bool()), (Some("stopped"), Some(true)), "{fenced}");
    assert_eq!(fenced["fence"]["reason"], "odd rows");
    assert_eq!(state_of(&cluster), "shut down");
    assert!(cluster.run(&["status"]).stdout.contains("odd rows"));
    let start = cluster.run(&["start"]);
    assert!(start.code == Some(5) && start.stderr.contains("unfence"), "{start:?}");
    let health = cluster.run(&["health", "--json"]).json();
    let server = health["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "server").unwrap().clone();
    assert!(server["remedy"].as_str().unwrap().contains("unfence"), "{server}");
    agent.wait_for("no server is started until `pgpersist unfence`", 1);
    // A second fence says what stands.
    let again = cluster.run(&["fence", "--json"]).done().json();
    assert_eq!((again["changed"].as_bool(), again["fence"]["reason"].as_str()), (Some(false), Some("odd rows")));
    // The pod may go, and its successor finds the fence.
    agent.stopped();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("no server is started until `pgpersist unfence`", 2);
    assert_eq!(cluster.postmaster(), None);
    // Nothing that a kubelet would end the pod for, and nothing that sends it requests.
    let probes = ["/livez", "/startupz", "/readyz"].map(|path| get(port, path));
    assert_eq!(probes.each_ref().map(|answer| answer.status), [200, 200, 503], "{probes:?}");
    assert_eq!(probes[2].json()["phase"], "fenced");
    let unfenced = cluster.run(&["unfence", "--json"]).done().json();
    assert_eq!((unfenced["state"].as_str(), unfenced["changed"].as_bool()), (Some("running"), Some(true)), "{unfenced}");
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "7");
    assert_eq!(cluster.run(&["unfence", "--json"]).done().json()["changed"], false);
    agent.stopped();
}

#[test]
fn a_fence_without_an_agent_stops_the_server_and_holds_for_the_next() {
    let cluster = TestCluster::running("");
    let fenced = cluster.run(&["fence", "--json"]).done().json();
    assert_eq!((fenced["state"].as_str(), fenced["changed"].as_bool()), (Some("stopped"), Some(true)), "{fenced}");
    assert_eq!(cluster.run(&["start"]).code, Some(5));
    cluster.run(&["unfence"]).done();
    cluster.start();
}

#[test]
fn an_agent_that_is_killed_at_a_fence_leaves_it_to_the_next_one() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    agent.signal(Signal::STOP);
    let mut fence = cluster.scratch.command();
    let mut fence = fence.args(["fence", "--timeout", "30"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    eventually("the fence stands", || cluster.scratch.join("volume/.pgpersist/data/fenced.json").exists());
    agent.signal(Signal::KILL);
    // Nobody is left who would shut the server down but the command.
    assert_eq!(fence.wait().unwrap().code(), Some(0));
    assert_eq!(cluster.postmaster(), None);
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("no server is started until `pgpersist unfence`", 1);
    agent.stopped();
}
