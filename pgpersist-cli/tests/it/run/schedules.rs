//! What the agent does at its times: dumps, and retention after them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pgpersist_core::clock::{Clock, SystemClock};
use rustix::process::Signal;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use crate::run::{Agent, eventually};
use crate::support::cluster::TestCluster;
use crate::support::processes;

/// A dump each night, tried again soon after a failure.
pub(super) const NIGHTLY: &str = r#"
databases = ["orders"]
[dump]
schedule = "0 2 * * *"
[schedule]
retry_wait = "1s"
"#;

pub(super) fn record_file(cluster: &TestCluster, job: &str) -> PathBuf {
    cluster.scratch.join(&format!("volume/.pgpersist/data/schedule/{job}.json"))
}

fn record(cluster: &TestCluster, job: &str) -> Value {
    serde_json::from_slice(&fs::read(record_file(cluster, job)).unwrap()).unwrap()
}

/// Makes the record say that the job's moments were dealt with up to then.
pub(super) fn handled(cluster: &TestCluster, job: &str, until: &str) {
    let mut record = record(cluster, job);
    record["handled"] = until.into();
    cluster.scratch.write_bytes(&format!("volume/.pgpersist/data/schedule/{job}.json"), record.to_string().as_bytes());
}

/// Whether somebody has locked the table, so that a dump waits.
#[derive(PartialEq)]
pub(super) enum Lock {
    Held,
    Free,
}

/// A cluster with the database, whose agent was up once and has missed years since.
pub(super) fn behind(more: &str, lock: Lock) -> TestCluster {
    let cluster = TestCluster::stopped(more);
    let mut agent = start(&cluster);
    agent.wait_until_ready();
    cluster.fill("orders");
    if lock == Lock::Held {
        cluster.sql("orders", "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'held'");
    }
    eventually("the job is remembered", || record_file(&cluster, "dump").exists());
    agent.stopped();
    assert_eq!(cluster.dumps(), 0);
    handled(&cluster, "dump", "2024-02-08T02:00:00Z");
    cluster
}

/// An agent whose server keeps a lock, once taken, also while it does not run.
pub(super) fn start(cluster: &TestCluster) -> Agent {
    Agent::start(cluster, &["--", "-c", "max_prepared_transactions=1"])
}

impl TestCluster {
    pub(super) fn let_go(&self) {
        self.sql("orders", "ROLLBACK PREPARED 'held'");
    }

    pub(super) fn dumps(&self) -> usize {
        let run = self.run(&["list", "--json"]).done();
        run.json()["dumps"].as_array().unwrap().len()
    }

    fn finding(&self, name: &str) -> Value {
        let report = self.run(&["health", "--json"]).json();
        report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{report}")).clone()
    }

    pub(super) fn programs(&self, name: &str) -> usize {
        // One that is asked for its version does no work, and is gone in a moment.
        let works = |title: String| title.contains(&format!("bin/{name} ")) && !title.contains("--version");
        processes::bearing(self.scratch.path()).iter().filter(|process| works(process.title())).count()
    }
}

#[test]
fn what_is_dumped_goes_to_the_copies_and_what_a_copy_missed_is_caught_up() {
    let cluster = behind(&format!("{NIGHTLY}[[store]]\nurl = \"{{dir}}/volume/offsite\"\n"), Lock::Free);
    let offsite = cluster.scratch.join("volume/offsite");
    let copies = || {
        let run = cluster.run(&["list", "--store", "2", "--json"]);
        run.json()["dumps"].as_array().unwrap().len()
    };
    let mut agent = start(&cluster);
    agent.wait_for("dump: done in ", 1);
    agent.wait_for("sync: done in ", 1);
    assert_eq!((cluster.dumps(), copies()), (1, 1));
    assert_eq!(cluster.finding("schedule:sync")["status"], "pass");
    assert_eq!(
        (cluster.finding("store:2")["status"].as_str(), cluster.finding("store:2")["observed"]["behind"].as_u64()),
        (Some("pass"), Some(0))
    );
    agent.stopped();
    // While it is down, a dump by hand is a warning, and the agent catches up once it is back.
    let away = cluster.scratch.join("volume/away");
    let mv = |from: &std::path::Path, to: &std::path::Path| {
        assert!(std::process::Command::new("mv").args([from, to]).status().unwrap().success())
    };
    mv(&offsite, &away);
    cluster.start();
    assert_eq!(cluster.run(&["dump"]).code, Some(3));
    cluster.run(&["stop"]).done();
    mv(&away, &offsite);
    assert_eq!(copies(), 1);
    handled(&cluster, "sync", "2024-02-08T02:23:00Z");
    let mut agent = start(&cluster);
    // What agents before have said counts, too.
    agent.wait_for("sync: done in ", 2);
    assert_eq!((cluster.dumps(), copies()), (2, 2));
    agent.stopped();
}

#[test]
fn what_was_missed_is_made_once_and_retention_follows() {
    let cluster = behind(&format!("{NIGHTLY}[retention]\nkeep_last = 1\n"), Lock::Free);
    cluster.start();
    // Of two more, the older one goes; more than half would ask first.
    for _ in 0..2 {
        cluster.dump(&[]);
    }
    cluster.run(&["stop"]).done();
    let mut agent = start(&cluster);
    agent.wait_for("planned for 2024-02-09T02:00:00Z and missed then", 1);
    agent.wait_for("dump: done in ", 1);
    // Two of three are more than half, and that is asked for.
    agent.wait_for("prune: failed: dropping more than half of the dumps at once", 1);
    assert_eq!((cluster.dumps(), cluster.finding("schedule:prune")["status"].as_str()), (3, Some("fail")));
    cluster.run(&["prune", "--yes"]).done();
    agent.stopped();
    handled(&cluster, "dump", "2024-02-08T02:00:00Z");
    let mut agent = start(&cluster);
    agent.wait_for("prune: done in ", 1);
    assert_eq!(agent.said().matches("dump: begins").count(), 2, "{}", agent.said());
    assert_eq!(cluster.dumps(), 1);
    let dump = cluster.finding("schedule:dump");
    assert_eq!((dump["status"].as_str(), dump["observed"]["last_outcome"].as_str()), (Some("pass"), Some("success")));
    assert_eq!(cluster.finding("schedule:prune")["status"], "pass");
    assert_eq!(cluster.finding("dumps")["status"], "pass");
    cluster.run(&["verify"]).done();
    agent.stopped();
}

#[test]
fn a_failing_dump_is_tried_again_told_by_health_and_made_when_it_can_be() {
    let cluster = behind(NIGHTLY, Lock::Free);
    let closed = |mode| fs::set_permissions(cluster.store(), Permissions::from_mode(mode)).unwrap();
    closed(0);
    let mut agent = start(&cluster);
    agent.wait_for("dump: failed: ", 2);
    agent.wait_for("dump: begins, attempt 3 of", 1);
    let finding = cluster.finding("schedule:dump");
    assert_eq!(finding["status"], "warn", "{finding}");
    agent.wait_for("dump: failed: ", 4);
    let finding = cluster.finding("schedule:dump");
    assert_eq!((finding["status"].as_str(), finding["observed"]["failures"].as_u64()), (Some("fail"), Some(4)), "{finding}");
    closed(0o700);
    agent.stopped();
    handled(&cluster, "dump", "2024-02-08T02:00:00Z");
    let mut agent = start(&cluster);
    agent.wait_for("dump: done in ", 1);
    assert_eq!((cluster.dumps(), cluster.finding("schedule:dump")["status"].as_str()), (1, Some("pass")));
    agent.stopped();
}

#[test]
fn a_dump_that_hangs_ends_at_its_deadline() {
    let cluster = behind(&NIGHTLY.replace("[dump]", "[dump]\ndeadline = \"2s\""), Lock::Held);
    let mut agent = start(&cluster);
    agent.wait_for("dump: failed: it did not end within 2", 2);
    cluster.let_go();
    agent.wait_for("dump: done in ", 1);
    eventually("nothing is left of the others", || cluster.programs("pg_dump") == 0);
    assert_eq!(cluster.dumps(), 1);
    agent.stopped();
}

#[test]
fn a_stop_in_a_dump_leaves_nothing_and_the_next_agent_makes_it() {
    let cluster = behind(NIGHTLY, Lock::Held);
    let mut agent = start(&cluster);
    eventually("pg_dump waits for the lock", || cluster.programs("pg_dump") == 1);
    agent.stopped();
    assert_eq!(cluster.programs("pg_dump"), 0);
    assert_eq!(record(&cluster, "dump")["last"]["outcome"], "cancelled");
    assert_eq!(cluster.dumps(), 0);
    let mut agent = start(&cluster);
    eventually("pg_dump waits for the lock", || cluster.programs("pg_dump") == 1);
    cluster.let_go();
    agent.wait_for("dump: done in ", 1);
    assert_eq!(cluster.dumps(), 1);
    agent.stopped();
}

#[test]
fn a_dump_whose_agent_is_killed_is_made_by_the_next_one() {
    let cluster = behind(NIGHTLY, Lock::Held);
    let mut agent = start(&cluster);
    eventually("pg_dump waits for the lock", || cluster.programs("pg_dump") == 1);
    agent.signal(Signal::KILL);
    agent.ended();
    cluster.let_go();
    let mut agent = start(&cluster);
    agent.wait_for("runs already and is adopted", 1);
    agent.wait_for("dump: begins, attempt 2 of", 1);
    agent.wait_for("dump: done in ", 1);
    eventually("the orphan has ended", || cluster.programs("pg_dump") == 0);
    assert_eq!(cluster.dumps(), 1);
    assert!(cluster.finding("schedule:dump")["status"] == "pass");
    agent.stopped();
}

#[test]
fn another_schedule_is_taken_up_by_a_reload_and_a_minute_is_a_minute() {
    let cluster = TestCluster::stopped(NIGHTLY);
    let mut agent = start(&cluster);
    agent.wait_until_ready();
    cluster.fill("orders");
    cluster.configure(&NIGHTLY.replace("0 2 * * *", "* * * * *"));
    agent.signal(Signal::HUP);
    agent.wait_for("the configuration was reloaded", 1);
    agent.wait_for("dump: begins, as planned for ", 1);
    agent.wait_for("dump: done in ", 1);
    let planned = record(&cluster, "dump")["last"]["planned"].as_str().unwrap().to_owned();
    assert!(planned.ends_with(":00Z"), "{planned}");
    cluster.configure("databases = [\"orders\"]\n");
    agent.signal(Signal::HUP);
    agent.wait_for("the configuration was reloaded", 2);
    agent.stopped();
}

/// A drill each Sunday.
const WEEKLY: &str = "[drill]\nrestore = \"0 4 * * 0\"\n";

/// A cluster with a dump, whose agent has missed years of drills; `more` follows the section `[drill]` of the configuration.
fn undrilled(more: &str) -> TestCluster {
    let cluster = behind(&format!("{NIGHTLY}{WEEKLY}{more}"), Lock::Free);
    handled(&cluster, "dump", &SystemClock.now().format(&Rfc3339).unwrap());
    cluster.start();
    cluster.dump(&[]);
    cluster.run(&["stop"]).done();
    handled(&cluster, "restore_drill", "2024-02-08T02:00:00Z");
    cluster
}

#[test]
fn a_restore_drill_is_made_at_its_time_and_told_by_health() {
    let cluster = undrilled("");
    let mut agent = start(&cluster);
    agent.wait_for("restore_drill: begins, planned for 2024-02-11T04:00:00Z and missed then", 1);
    agent.wait_for("restore_drill: done in ", 1);
    assert_eq!(cluster.finding("schedule:restore_drill")["status"], "pass");
    let last = cluster.finding("last_drill");
    assert!(last["status"] == "pass" && last["observed"].to_string().contains("orders"), "{last}");
    agent.stopped();
    // One that does not come back is told by both, and not tried again before somebody has looked.
    let dump = fs::read_dir(cluster.store()).unwrap().flatten().map(|entry| entry.path());
    let dump = dump.into_iter().find(|path| path.to_str().unwrap().ends_with(".sql.gz") && !path.to_str().unwrap().contains("globals"));
    let mut bytes = fs::read(dump.as_ref().unwrap()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    let name = dump.as_ref().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    cluster.scratch.write_bytes(&format!("volume/backups/{name}"), &bytes);
    handled(&cluster, "restore_drill", "2024-02-08T02:00:00Z");
    let mut agent = start(&cluster);
    agent.wait_for("restore_drill: failed: what was dumped does not come back whole", 1);
    assert_eq!(cluster.finding("schedule:restore_drill")["status"], "fail");
    assert_eq!(cluster.finding("last_drill")["status"], "fail");
    agent.stopped();
    assert_eq!(agent.said().matches("restore_drill: begins").count(), 2, "{}", agent.said());
}

/// A check that takes longer than anybody waits.
const SLOW_CHECK: &str = "[[drill.check]]\nname = \"slow\"\ndatabase = \"orders\"\nsql = \"SELECT count(pg_sleep(600)) = 1\"\n";

/// The folders of clusters that drills have made.
fn drilled_in(cluster: &TestCluster) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster.scratch.join("volume/tmp")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("pgpersist-temp-")).collect()
}

/// Whether the drill has loaded the dump and waits for the answer to its question.
fn asks(cluster: &TestCluster) -> bool {
    let folders = drilled_in(cluster);
    let [folder] = &folders[..] else { return false };
    let mut psql = cluster.psql("orders");
    psql.env("PGHOST", folder).env("PGPORT", "5432").env("PGUSER", "postgres");
    let sleeps = "SELECT (SELECT count(*) FROM orders), count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    // Its server may not be up yet, nor the database there.
    let output = psql.args(["-c", sleeps]).stdin(Stdio::null()).output().unwrap();
    output.stdout == b"8|1\n"
}

#[test]
fn a_stop_in_a_restore_drill_leaves_nothing_of_it_and_the_next_agent_makes_it() {
    let cluster = undrilled(SLOW_CHECK);
    let (tmp, cache) = (cluster.scratch.folder("volume/tmp"), cluster.scratch.folder("volume/cache"));
    let start = || {
        let mut command = cluster.scratch.command();
        command.args(["run", "--allow-ephemeral"]).env("TMPDIR", &tmp).env("PGPERSIST_CACHE", &cache);
        Agent::spawn(&cluster, command)
    };
    let mut agent = start();
    eventually("the drill asks its question", || asks(&cluster));
    agent.stopped();
    assert_eq!(record(&cluster, "restore_drill")["last"]["outcome"], "cancelled");
    eventually("the drill's cluster is gone", || drilled_in(&cluster).is_empty());
    assert_eq!(processes::wait_until_gone(&tmp, Duration::from_secs(60)), [""; 0]);
    let files = |folder: &str| fs::read_dir(cluster.scratch.join("volume").join(folder)).map_or(0, Iterator::count);
    let reports = || [".pgpersist/data/drills", "backups/.pgpersist/main/drills"].map(files);
    assert_eq!(reports(), [0, 0], "nothing was proven");
    // With a question that can be answered.
    cluster.configure(&format!("{NIGHTLY}{WEEKLY}"));
    let mut agent = start();
    agent.wait_for("restore_drill: done in ", 1);
    assert_eq!((cluster.finding("last_drill")["status"].as_str(), reports()), (Some("pass"), [1, 1]));
    assert!(drilled_in(&cluster).is_empty());
    agent.stopped();
}
