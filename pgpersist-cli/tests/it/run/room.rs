//! Room on the volume: what is remembered of it, ballast that is given back when there is none left, and a start that waits
//! for it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::run::{Agent, eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::processes;
use crate::support::user;
use crate::support::volume::{FileSystem, Volume};

const OWN: &str = ".pgpersist/data";
const BALLAST: u64 = 32 << 20;

/// A cluster on a small volume of its own, which an agent is to keep ballast on.
struct Ground {
    // Dropped first: a folder with a mount point in it cannot be removed.
    volume: Volume,
    cluster: TestCluster,
}

impl Ground {
    fn make() -> Option<Self> {
        let cluster = TestCluster::planned("");
        let volume = Volume::create(&cluster.scratch.folder("volumes"), "own", FileSystem::Ext4, 250)?;
        user::hand_over(volume.path());
        let ground = Self { volume, cluster };
        ground.configure("ballast = \"32MB\"");
        Some(ground)
    }

    fn configure(&self, more: &str) {
        let text = crate::support::cluster::CONFIGURATION
            .replace("{dir}/volume/data", "{dir}/volumes/own/data")
            .replace("[cluster]\n", &format!("[cluster]\n{more}\n"))
            .replace("shared_buffers", "max_wal_size = \"64MB\"\nshared_buffers");
        self.cluster.scratch.write("pgpersist.toml", &text);
    }

    fn own(&self, file: &str) -> PathBuf {
        self.volume.path().join(OWN).join(file)
    }

    fn fill_up(&self) {
        let mut command = Command::new("dd");
        // Root would fill the blocks as well that nobody else may use.
        user::run_as_user(&mut command);
        command.args(["if=/dev/zero", "bs=64k", "status=none"]).arg(format!("of={}", self.fill().display()));
        drop(command.output());
    }

    fn fill(&self) -> PathBuf {
        self.volume.path().join("fill")
    }

    /// Kills the agent and all that its server is, as a lost machine would.
    fn lose_the_machine(&self, agent: &mut Agent) {
        agent.signal(Signal::KILL);
        agent.ended();
        kill(self.postmaster(), Signal::KILL);
        eventually("nobody is left", || processes::bearing(self.cluster.scratch.path()).is_empty());
    }

    fn postmaster(&self) -> i32 {
        let text = fs::read_to_string(self.volume.path().join("data/postmaster.pid")).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }
}

fn disk(cluster: &TestCluster) -> Value {
    let report = cluster.run(&["health", "--json"]).json();
    report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "disk").unwrap().clone()
}

#[test]
fn ballast_is_given_back_when_the_volume_is_full_and_taken_in_again() {
    let Some(ground) = Ground::make() else { return };
    let cluster = &ground.cluster;
    let mut agent = Agent::start(cluster, &[]);
    agent.wait_for("32 MB of ballast are taken in", 1);
    assert_eq!(fs::metadata(ground.own("ballast")).unwrap().len(), BALLAST);
    assert_eq!(disk(cluster)["observed"]["ballast_bytes"], BALLAST);
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a");
    ground.lose_the_machine(&mut agent);
    ground.fill_up();

    // Its recovery finds room, and its people can clean up.
    let ready = agent.said().matches(" is ready after ").count();
    let mut next = Agent::start(cluster, &[]);
    next.wait_for("the volume was full: 32 MB of ballast are given back", 1);
    next.wait_for(" is ready after ", ready + 1);
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "1000");
    assert!(!ground.own("ballast").exists());
    next.wait_for("no room for 32 MB of ballast, which wants four times as much to be free: there is none", 1);
    let seen = disk(cluster);
    assert_eq!(seen["status"], "fail");
    assert!(seen["summary"].as_str().unwrap().ends_with("the ballast of 32 MB is not there, or was given back"), "{seen}");

    fs::remove_file(ground.fill()).unwrap();
    next.signal(Signal::HUP);
    next.wait_for("32 MB of ballast are taken in", 2);
    assert_eq!(disk(cluster)["observed"]["ballast_bytes"], BALLAST);
    // Nobody wants it any more.
    ground.configure("");
    next.signal(Signal::HUP);
    next.wait_for("32 MB of ballast are given back, since none is configured", 1);
    assert!(!ground.own("ballast").exists());
    next.stopped();
}

#[test]
fn a_start_without_room_for_the_recovery_is_refused_and_ballast_makes_room() {
    let Some(ground) = Ground::make() else { return };
    let cluster = &ground.cluster;
    let mut agent = Agent::start(cluster, &[]);
    agent.wait_for("32 MB of ballast are taken in", 1);
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a");
    ground.lose_the_machine(&mut agent);
    ground.fill_up();
    let start = cluster.run(&["start", "--json"]);
    assert_eq!(start.code, Some(3), "{start:?}");
    assert!(start.json()["ballast_given_back_bytes"].as_u64().unwrap() >= BALLAST, "{start:?}");
    assert!(start.json()["warnings"][0].as_str().unwrap().starts_with("the volume was full: 32 MB of ballast"), "{start:?}");

    // Now there is none, and less than a segment of WAL is free.
    kill(ground.postmaster(), Signal::KILL);
    eventually("nobody is left", || processes::bearing(cluster.scratch.path()).is_empty());
    fs::remove_file(ground.fill()).unwrap();
    ground.fill_up();
    let refused = cluster.run(&["start"]);
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.stderr.contains("and its recovery needs 16 MB"), "{refused:?}");
    assert!(refused.stderr.contains("  remedy: enlarge the volume"), "{refused:?}");
    // The agent waits at the same place, and can be told to stop there.
    let mut waiting = Agent::start(cluster, &[]);
    waiting.wait_for("and its recovery needs 16 MB; it is started when there is room", 1);
    waiting.stopped();
    fs::remove_file(ground.fill()).unwrap();
    assert_eq!(cluster.run(&["start"]).code, Some(0));
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "1000");
    cluster.run(&["stop"]).done();
}

#[test]
fn the_day_on_which_a_volume_is_full_is_told_from_what_was_seen() {
    let cluster = TestCluster::planned("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    let file = cluster.scratch.join("volume/.pgpersist/data/space.json");
    eventually("it is remembered", || file.exists());
    let mut history: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let place = format!("data {}", cluster.data().display());
    assert_eq!(history["places"][&place].as_array().unwrap().len(), 1, "{history}");
    agent.stopped();

    // As if it had been seen for ten days, so that it is full in twenty.
    let now = history["places"][&place][0]["at"].as_i64().unwrap();
    let seen = disk(&cluster)["observed"]["places"][0].clone();
    let (free, total) = (seen["free_bytes"].as_i64().unwrap(), seen["total_bytes"].as_i64().unwrap());
    // A machine whose disk is nearly empty cannot have grown so much; then it is slower.
    let a_day = (free / 20).min((total - free) / 11);
    let samples: Vec<Value> =
        (0..=10).map(|day| json!({ "at": now - (10 - day) * 86_400, "used_bytes": total - free - (10 - day) * a_day })).collect();
    history["places"][&place] = samples.into();
    cluster.scratch.write_bytes("volume/.pgpersist/data/space.json", history.to_string().as_bytes());
    let told = disk(&cluster);
    let observed = &told["observed"]["places"][0];
    let growth = observed["growth_bytes_per_day"].as_f64().unwrap() / a_day as f64;
    assert!((0.9..1.1).contains(&growth), "{told}");
    let expected = free as f64 / a_day as f64;
    match observed["full_in_s"].as_f64() {
        Some(full_in) => {
            assert!((0.8..1.2).contains(&(full_in / 86_400.0 / expected)), "{told}");
            assert!(told["summary"].as_str().unwrap().contains("; full in about "), "{told}");
        }
        None => assert!(expected > 90.0, "{told}"),
    }
}

#[test]
fn a_dump_remembers_the_room_where_no_agent_does() {
    let cluster = TestCluster::running("");
    cluster.fill("postgres");
    let file = cluster.scratch.join("volume/.pgpersist/data/space.json");
    assert!(!file.exists());
    cluster.dump(&["-d", "postgres"]);
    let history: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let places: Vec<&String> = history["places"].as_object().unwrap().keys().collect();
    assert!(places.iter().any(|name| name.starts_with("data ")) && places.iter().any(|name| name.starts_with("store ")), "{history}");
}
