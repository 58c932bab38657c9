//! Hooks: who is told of what, that nobody is told twice, and that a hook which hangs hurts nobody.

mod command;
mod ends;
mod heartbeat;
mod webhook;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::run::Agent;
use crate::support::cluster::TestCluster;

/// Makes a program that adds each event to what [`events`] returns, and then does this.
fn alert(cluster: &TestCluster, then: &str) {
    cluster.scratch.folder("told");
    // Where it works it is found, since its environment has nothing of the test. Who sees the event finds the environment.
    let script = format!(
        "#!/bin/sh\ncd {{dir}}/told\nenv | grep PGPERSIST_ >> {{dir}}/told/environment\n{{ cat; echo; }} >> {{dir}}/told/events\n{then}\n"
    );
    let path = cluster.scratch.write("alert", &script);
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// What the program was told so far.
fn events(cluster: &TestCluster) -> Vec<Value> {
    let text = fs::read_to_string(cluster.scratch.join("told/events")).unwrap_or_default();
    // The last line may be half-written.
    text.split_inclusive('\n').filter(|line| line.ends_with("}\n")).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A file that its owner alone reads.
fn secret(cluster: &TestCluster, name: &str, text: &str) {
    let path = cluster.scratch.write(&format!("volume/{name}"), text);
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
}

/// An agent whose server is ready.
fn ready(cluster: &TestCluster) -> Agent {
    let mut agent = Agent::start(cluster, &[]);
    agent.wait_until_ready();
    agent
}
