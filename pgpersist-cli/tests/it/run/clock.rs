//! The clock of a machine is set while an agent runs: over a schedule, over the night that summer time begins, and back.

use std::fs;
use std::path::PathBuf;

use crate::run::Agent;
use crate::support::cluster::TestCluster;
use crate::support::user;

/// Where the distribution puts the library that tells a process another time.
pub(crate) fn library() -> PathBuf {
    let found = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    found.into_iter().find(|path| path.exists()).expect("script/setup --tests installs libfaketime")
}

/// An agent whose clock shows what a file says.
struct Clock<'a> {
    cluster: &'a TestCluster,
}

impl Clock<'_> {
    /// Sets it; it goes on from there.
    fn set(&self, utc: &str) {
        // Replaced as a whole: the agent reads it all the time.
        self.cluster.scratch.write_bytes("volume/clock.new", format!("@{utc}\n").as_bytes());
        let moved = std::process::Command::new("mv").args(["clock.new", "clock"]).current_dir(self.cluster.scratch.join("volume")).status();
        assert!(moved.unwrap().success());
    }

    fn start(&self) -> Agent {
        // As the user from the beginning: what the library makes for root, the user whom it becomes could not open.
        let (mut command, _program) = user::pgpersist_as_user();
        self.cluster.scratch.prepare(&mut command);
        command.args(["run", "--allow-ephemeral"]);
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", self.cluster.scratch.join("volume/clock"));
        command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("TZ", "UTC");
        Agent::spawn(self.cluster, command)
    }
}

#[test]
fn a_clock_that_jumps_over_a_schedule_and_over_summer_time_makes_one_dump_each() {
    let more = "databases = [\"orders\"]\n[dump]\nschedule = \"30 2 * * *\"\n[schedule]\ntime_zone = \"Europe/Berlin\"\n";
    let cluster = TestCluster::stopped(more);
    let clock = Clock { cluster: &cluster };
    // Half past two does not exist in this night: at two it is three.
    clock.set("2026-03-29 00:40:00");
    let mut agent = clock.start();
    agent.wait_until_ready();
    cluster.fill("orders");
    clock.set("2026-03-29 00:59:58");
    agent.wait_for("dump: begins, as planned for 2026-03-29T01:00:00Z", 1);
    agent.wait_for("dump: done in ", 1);
    // A jump over two nights: one dump.
    clock.set("2026-03-31 10:00:00");
    agent.wait_for("dump: begins, planned for 2026-03-30T00:30:00Z and missed then", 1);
    agent.wait_for("dump: done in ", 2);
    // Put back before what was dealt with, and over the night again: nothing is done twice.
    clock.set("2026-03-31 09:59:00");
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!(agent.said().matches("dump: begins").count(), 2, "{}", agent.said());
    // In autumn the hour from two to three comes twice.
    clock.set("2026-10-24 10:00:00");
    agent.wait_for("dump: done in ", 3);
    clock.set("2026-10-25 00:29:58");
    agent.wait_for("dump: begins, as planned for 2026-10-25T00:30:00Z", 1);
    agent.wait_for("dump: done in ", 4);
    clock.set("2026-10-25 01:29:58");
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!(agent.said().matches("dump: begins").count(), 4, "{}", agent.said());
    agent.stopped();
}
