//! Physical backups that the agent makes at their times, retention after them, and what health says of both.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::run::control::asked;
use crate::run::schedules::{handled, record_file};
use crate::run::{Agent, eventually};
use crate::support::cluster::TestCluster;

/// A backup each night.
const NIGHTLY: &str = "databases = [\"orders\"]\n[backup]\nschedule = \"30 2 * * *\"\n[schedule]\nretry_wait = \"1s\"\n";

/// A cluster whose agent was up once and has missed years of its jobs since.
fn behind(more: &str) -> TestCluster {
    let cluster = TestCluster::stopped(&format!("{NIGHTLY}{more}"));
    let mut agent = start(&cluster);
    agent.wait_until_ready();
    cluster.fill("orders");
    eventually("the job is remembered", || record_file(&cluster, "backup").exists());
    agent.stopped();
    handled(&cluster, "backup", "2024-02-08T02:30:00Z");
    cluster
}

fn start(cluster: &TestCluster) -> Agent {
    Agent::start(cluster, &["--", "-c", "max_prepared_transactions=1"])
}

fn names(cluster: &TestCluster) -> Vec<String> {
    let listed = cluster.run(&["list", "--json"]).done().json();
    listed["backups"].as_array().unwrap().iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
}

fn finding(cluster: &TestCluster, name: &str) -> Value {
    let report = cluster.run(&["health", "--json"]).json();
    report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{report}")).clone()
}

fn status_of(cluster: &TestCluster, name: &str) -> String {
    finding(cluster, name)["status"].as_str().unwrap().to_owned()
}

#[test]
fn what_was_missed_is_backed_up_once_told_by_all_who_tell_and_followed_by_retention() {
    let cluster = behind("[retention]\nkeep_last = 1\n");
    cluster.start();
    let planned = finding(&cluster, "backups");
    assert_eq!((&planned["status"], &planned["summary"]), (&"warn".into(), &"none yet".into()), "{planned}");
    cluster.run(&["backup"]).done();
    cluster.run(&["stop"]).done();

    let mut agent = start(&cluster);
    agent.wait_for("backup: begins, planned for 2024-02-09T02:30:00Z and missed then", 1);
    agent.wait_for("backup: done in ", 1);
    agent.wait_for("prune: done in ", 1);
    let made = names(&cluster);
    assert_eq!(made.len(), 2, "the dropped one can be restored for a day");
    assert!(agent.said().contains(&format!(" s: {} (", made[0])), "{}", agent.said());
    assert_eq!(cluster.run(&["list", "--json"]).json()["backups"][1]["dropped"], true);

    let agents = cluster.run(&["status", "--json"]).json()["agent"]["jobs"].clone();
    assert_eq!((&agents["backup"]["schedule"], &agents["backup"]["last"]["outcome"]), (&"30 2 * * * UTC".into(), &"success".into()));
    let told = finding(&cluster, "backups");
    assert_eq!((&told["status"], told["observed"]["name"].as_str()), (&"pass".into(), Some(made[0].as_str())), "{told}");
    assert!(told["observed"]["oldest_full_read_age_s"].is_u64() && told["observed"]["age_s"].as_u64() < Some(3600), "{told}");
    for job in ["backup", "prune"] {
        assert_eq!(status_of(&cluster, &format!("schedule:{job}")), "pass");
    }
    let metrics = cluster.run(&["health", "--format", "prometheus"]).stdout;
    for line in ["pgpersist_job_failures{job=\"backup\"} 0\n", "pgpersist_backup_age_seconds ", "pgpersist_backups 2\n"] {
        assert!(metrics.contains(line), "no {line}:\n{metrics}");
    }
    agent.stopped();
    assert_eq!(agent.said().matches("backup: begins").count(), 1, "{}", agent.said());
}

/// Turns a byte of the table's first page around, on the disk of a stopped cluster, and returns the file.
fn rot(cluster: &TestCluster) -> String {
    cluster.start();
    cluster.sql("orders", "CHECKPOINT");
    let file = cluster.sql("orders", "SELECT pg_relation_filepath('orders')");
    cluster.run(&["stop"]).done();
    let mut open = OpenOptions::new().read(true).write(true).open(cluster.data().join(&file)).unwrap();
    let mut byte = [0];
    open.seek(SeekFrom::Start(8000)).unwrap();
    open.read_exact(&mut byte).unwrap();
    open.seek(SeekFrom::Start(8000)).unwrap();
    open.write_all(&[byte[0] ^ 0xff]).unwrap();
    file
}

#[test]
fn a_backup_with_damaged_pages_has_failed_and_health_tells_the_last_good_one() {
    let cluster = behind("[retention]\nkeep_last = 1\n");
    cluster.start();
    cluster.run(&["backup"]).done();
    cluster.run(&["stop"]).done();
    let good = names(&cluster)[0].clone();
    let file = rot(&cluster);
    let mut agent = start(&cluster);
    agent.wait_for("backup: failed: ", 1);
    let told = format!("was made, and damaged pages are on the disk: 1, the first one block 0 of {file}");
    assert!(agent.said().contains(&told), "{}", agent.said());
    let backups = finding(&cluster, "backups");
    assert_eq!(backups["status"], "fail", "{backups}");
    let summary = backups["summary"].as_str().unwrap();
    assert!(summary.contains(&format!("1 damaged page, block 0 of {file}; the last good one is {good} (")), "{summary}");
    assert_eq!(status_of(&cluster, "schedule:backup"), "fail");
    agent.stopped();
    // Another one would find the same, and what is good is not pushed out.
    assert_eq!(agent.said().matches("backup: begins").count(), 1, "{}", agent.said());
    assert!(!agent.said().contains("prune: begins"), "{}", agent.said());
    assert_eq!(names(&cluster).len(), 2);
}

#[test]
fn dumps_that_fail_are_not_pushed_out_by_backups_that_succeed() {
    let more = "attempts = 1\n[dump]\nschedule = \"0 2 * * *\"\ndeadline = \"2s\"\n[retention]\nkeep_last = 1\n";
    let cluster = behind(more);
    let mut agent = start(&cluster);
    agent.wait_for("prune: done in ", 1);
    for _ in 0..2 {
        cluster.dump(&[]);
    }
    cluster.sql("orders", "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'held'");
    agent.stopped();
    handled(&cluster, "dump", "2024-02-08T02:00:00Z");
    let mut agent = start(&cluster);
    agent.wait_for("dump: failed: it did not end within 2", 1);
    agent.stopped();
    handled(&cluster, "backup", "2024-02-08T02:30:00Z");
    let mut agent = start(&cluster);
    agent.wait_for("prune: done in ", 2);
    assert!(agent.said().contains("no dumps are dropped until the next is made"), "{}", agent.said());
    assert_eq!(cluster.dumps(), 2);
    let dropped: Vec<Value> =
        cluster.run(&["list", "--json"]).json()["backups"].as_array().unwrap().iter().map(|b| b["dropped"].clone()).collect();
    assert_eq!(dropped, [false, true], "backups go by their rules");
    cluster.sql("orders", "ROLLBACK PREPARED 'held'");
    // Once dumps are made again, the rules are applied to them, too.
    agent.stopped();
    handled(&cluster, "dump", "2024-02-08T02:00:00Z");
    cluster.configure(&format!("{NIGHTLY}{more}").replace("keep_last = 1", "keep_last = 2"));
    let mut agent = start(&cluster);
    agent.wait_for("dump: done in ", 1);
    agent.wait_for("prune: done in ", 3);
    assert_eq!(cluster.dumps(), 2);
    agent.stopped();
}

#[test]
fn a_backup_by_hand_and_one_of_the_agent_wait_for_each_other() {
    let cluster = TestCluster::stopped(NIGHTLY);
    let mut agent = start(&cluster);
    agent.wait_until_ready();
    // Whoever holds the job, as a command does.
    let (answer, held) = asked(&cluster, "{\"ask\":\"hold\",\"job\":\"backup\"}\n");
    assert_eq!(answer["answer"], "held");
    let mut by_hand = cluster.scratch.command();
    by_hand.args(["backup", "--verbose"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut by_hand = by_hand.spawn().unwrap();
    let mut said = BufReader::new(by_hand.stderr.take().unwrap()).lines();
    let waits = |line: &String| line.contains("waiting until the agent has done its own backup");
    assert!(said.any(|line| waits(&line.unwrap())), "it did not wait");
    cluster.configure(&NIGHTLY.replace("30 2 * * *", "* * * * *"));
    agent.signal(Signal::HUP);
    agent.wait_for("backup: waits, since somebody does the same by hand", 1);
    assert_eq!(names(&cluster), [""; 0]);
    drop(held);
    agent.wait_for("backup: done in ", 1);
    said.for_each(drop);
    assert!(by_hand.wait().unwrap().success());
    assert!(names(&cluster).len() >= 2);
    agent.stopped();
}
