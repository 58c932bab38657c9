//! A command is run with each event: the whole way of a dump that fails, over agents that are killed, to its recovery.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::run::hooks::{alert, events, ready};
use crate::run::schedules::{Lock, NIGHTLY, behind, handled, start};
use crate::run::{eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::processes;
use crate::support::receiver::{Receiver, events_of};

const HOOK: &str = "[hooks]\ncommand = [\"{dir}/alert\", \"canary\"]\ninterval = \"1s\"\n";

#[test]
fn a_dump_that_fails_is_told_once_and_so_is_its_recovery_whatever_becomes_of_agents() {
    let cluster = behind(&format!("{NIGHTLY}attempts = 1\n{HOOK}"), Lock::Free);
    alert(&cluster, "");
    let told = || events_of(events(&cluster), "schedule:dump");
    let closed = |mode| fs::set_permissions(cluster.store(), Permissions::from_mode(mode)).unwrap();
    closed(0);
    let mut agent = start(&cluster);
    agent.wait_for("dump: failed: ", 1);
    eventually("the failure is told", || told().len() == 1);
    let (word, document) = told().remove(0);
    assert_eq!((word.as_str(), &document["cluster"], &document["status"]), ("failure", &"main".into(), &"fail".into()));
    assert!(document["at"].as_str().unwrap().ends_with('Z') && document["host"].is_string(), "{document}");
    assert_eq!(document["summary"], document["text"]);
    let finding = document["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "schedule:dump").unwrap().clone();
    assert!(finding["remedy"].is_string() && finding["observed"]["failures"] == 1 && finding["since"].is_string(), "{finding}");
    assert!(document["failing"].as_array().unwrap().contains(&"schedule:dump".into()), "{document}");
    let environment = fs::read_to_string(cluster.scratch.join("told/environment")).unwrap();
    assert!(environment.contains("PGPERSIST_EVENT=failure\n") && environment.contains("PGPERSIST_CLUSTER=main\n"), "{environment}");
    agent.wait_for("hook command: told the failure of ", 1);
    eventually("it is remembered", || {
        fs::read_to_string(cluster.scratch.join("volume/.pgpersist/data/hooks.json")).is_ok_and(|text| text.contains("schedule:dump"))
    });

    // The next agent finds it failing still, and tells nothing of it.
    agent.signal(Signal::KILL);
    agent.ended();
    let mut agent = start(&cluster);
    agent.wait_for("runs already and is adopted", 1);
    // Something else is told meanwhile, after looks that saw both.
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    eventually("the server's end and return are told", || {
        let words: Vec<String> = events_of(events(&cluster), "server").into_iter().map(|(word, _)| word).collect();
        words == ["failure", "recovery"]
    });
    assert_eq!(told().len(), 1);
    let (_, document) = events_of(events(&cluster), "server").remove(1);
    assert!(document["failing"].as_array().unwrap().contains(&"schedule:dump".into()), "{document}");

    // And another one tells what the first one's failure has come to.
    agent.signal(Signal::KILL);
    agent.ended();
    closed(0o700);
    handled(&cluster, "dump", "2024-02-08T02:00:00Z");
    let mut agent = start(&cluster);
    agent.wait_for("dump: done in ", 1);
    eventually("the recovery is told", || told().len() == 2);
    let (word, document) = told().remove(1);
    assert_eq!(word, "recovery");
    let recovered = document["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "schedule:dump").unwrap().clone();
    assert_eq!((&recovered["status"], &recovered["since"]), (&"pass".into(), &finding["since"]));
    agent.stopped();
    assert_eq!(told().len(), 2);
    assert!(!agent.said().contains("canary"), "{}", agent.said());
    // A stop on request is nobody's news.
    assert!(events_of(events(&cluster), "agent").is_empty());
}

#[test]
fn a_command_that_hangs_holds_up_nobody_and_ends_with_all_that_it_has_started() {
    let receiver = Receiver::start();
    let webhook = format!("webhook = \"http://127.0.0.1:{}/\"\ndeadline = \"30m\"\n", receiver.port);
    let cluster = TestCluster::stopped(&format!("{HOOK}{webhook}"));
    alert(&cluster, "sleep 3000 & sleep 3000");
    let mut agent = ready(&cluster);
    let sleepers = || processes::bearing(cluster.scratch.path()).iter().filter(|process| process.title().contains("sleep 3000")).count();
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    eventually("the command hangs", || sleepers() == 2);
    // The loop goes on, and the other hook is told all of it.
    agent.wait_for(" is ready after ", 2);
    let words = || receiver.events_of("server").into_iter().map(|(word, _)| word).collect::<Vec<_>>();
    eventually("the webhook knows", || words() == ["failure", "recovery"]);
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    agent.wait_for(" is ready after ", 3);
    eventually("the webhook knows", || words() == ["failure", "recovery", "failure", "recovery"]);
    assert_eq!((sleepers(), events(&cluster).len()), (2, 1));
    agent.stopped();
    eventually("nothing of it is left", || sleepers() == 0);
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_the_last_state_is_told_then() {
    let probe = "[[health.probe]]\nname = \"orders\"\ndatabase = \"postgres\"\nsql = \"select count(*) from orders\"\n";
    let cluster = TestCluster::stopped(&format!("{HOOK}deadline = \"2s\"\n{probe}"));
    alert(&cluster, "[ -e {dir}/go ] || sleep 3000");
    let mut agent = ready(&cluster);
    agent.wait_for("hook command: could not tell the failure of ", 1);
    agent.wait_for("probe:orders: it did not end within 2 s; again in ", 1);
    let sleepers = || processes::bearing(cluster.scratch.path()).iter().filter(|process| process.title().contains("sleep 3000")).count();
    eventually("it is killed with what it has started", || sleepers() == 0);
    fs::File::create(cluster.scratch.join("go")).unwrap();
    agent.wait_for("hook command: told the failure of ", 1);
    cluster.sql("postgres", "CREATE TABLE orders AS SELECT 1 AS a");
    agent.wait_for("hook command: told the recovery of ", 1);
    agent.stopped();
}
