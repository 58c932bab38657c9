//! The heartbeat comes while all is well, and stops when it is not.

use std::time::Duration;

use rustix::process::Signal;

use crate::run::hooks::{alert, events, ready};
use crate::run::{eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::receiver::{Receiver, events_of};

#[test]
fn it_beats_while_all_is_well_and_is_silent_while_something_fails() {
    let receiver = Receiver::start();
    let hooks = format!(
        "[hooks]\ncommand = [\"{{dir}}/alert\"]\ninterval = \"1s\"\nheartbeat = \"http://127.0.0.1:{}/canary\"\nheartbeat_interval = \"1s\"\n",
        receiver.port
    );
    // One row is well, none is a division by zero.
    let probe = "[[health.probe]]\nname = \"orders\"\ndatabase = \"postgres\"\nsql = \"select 1 / count(*) from orders\"\n";
    let cluster = TestCluster::stopped(&format!("{hooks}{probe}"));
    alert(&cluster, "");
    let mut agent = ready(&cluster);
    cluster.sql("postgres", "CREATE TABLE orders AS SELECT 1 AS a");
    let probe = || events_of(events(&cluster), "probe:orders");
    let beats = || receiver.requests().len();
    // Where the place of the data does not survive, as on the disk of a container, nothing is ever well.
    let is_well = cluster.run(&["health"]).code == Some(0);
    if is_well {
        eventually("it beats", || beats() >= 3);
        let first = &receiver.requests()[0];
        assert!(first.head.starts_with("GET /canary HTTP/1.1\r\n") && first.body.is_empty(), "{first:?}");
    }
    // Before there was a table, it may have been told to fail.
    eventually("the probe is well", || probe().last().is_none_or(|(word, _)| word == "recovery"));
    let before = probe().len();
    cluster.sql("postgres", "DELETE FROM orders");
    eventually("the failure is told", || probe().len() > before);
    assert_eq!(probe().last().unwrap().0, "failure");
    // One may have been under way.
    std::thread::sleep(Duration::from_millis(500));
    let silent_since = beats();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(beats(), silent_since);
    cluster.sql("postgres", "INSERT INTO orders VALUES (1)");
    eventually("the recovery is told", || probe().last().unwrap().0 == "recovery");
    if is_well {
        eventually("it beats again", || beats() > silent_since);
        // Nobody answers any more: that is told once.
        drop(receiver);
        agent.wait_for("heartbeat: http://127.0.0.1:", 1);
        kill(cluster.postmaster().unwrap(), Signal::KILL);
        agent.wait_for(" is ready after ", 2);
    }
    agent.stopped();
    assert!(agent.said().matches("heartbeat: ").count() <= 1 && !agent.said().contains("canary"), "{}", agent.said());
}
