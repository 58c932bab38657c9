//! The volume goes away under a running server.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;

use crate::run::{Agent, eventually};
use crate::support::cluster::TestCluster;
use crate::support::volume::{FileSystem, Volume, must};

/// A cluster on a file system of its own, whose server runs; the device's name comes along.
fn on_a_volume(cluster: &TestCluster) -> Option<(Volume, Agent)> {
    let folder = cluster.scratch.folder("volumes");
    let volume = Volume::create(&folder, "own", FileSystem::Ext4, 200)?;
    crate::support::user::hand_over(volume.path());
    let text = crate::support::cluster::CONFIGURATION
        .replace("{dir}/volume/data", "{dir}/volumes/own/data")
        .replace("shared_buffers", "max_wal_size = \"64MB\"\nshared_buffers");
    cluster.scratch.write("pgpersist.toml", &text);
    let mut agent = Agent::start(cluster, &[]);
    agent.wait_until_ready();
    Some((volume, agent))
}

fn nobody_works_in(cluster: &TestCluster) {
    eventually("the server has ended", || crate::support::processes::bearing(cluster.scratch.path()).is_empty());
}

#[test]
fn a_volume_that_turns_read_only_stops_the_server_loudly() {
    let cluster = TestCluster::planned("");
    let Some((volume, mut agent)) = on_a_volume(&cluster) else { return };
    // What the kernel does by itself when it finds an error.
    must(Command::new("mount").args(["-o", "remount,errors=remount-ro"]).arg(volume.path()));
    let device = volume.device().trim_start_matches("/dev/").to_owned();
    OpenOptions::new().write(true).open(format!("/sys/fs/ext4/{device}/trigger_fs_error")).unwrap().write_all(b"for a test").unwrap();
    assert_eq!(agent.ended(), Some(6), "{}", agent.said());
    assert!(agent.said().contains("turned read-only"), "{}", agent.said());
    assert!(agent.said().contains("  remedy: look at the volume"), "{}", agent.said());
    nobody_works_in(&cluster);
}

#[test]
fn a_volume_that_is_unmounted_stops_the_server_loudly() {
    let cluster = TestCluster::planned("");
    let Some((volume, mut agent)) = on_a_volume(&cluster) else { return };
    must(Command::new("umount").arg("--lazy").arg(volume.path()));
    assert_eq!(agent.ended(), Some(6), "{}", agent.said());
    assert!(agent.said().contains("is gone") || agent.said().contains("another directory"), "{}", agent.said());
    nobody_works_in(&cluster);
    // The next one finds nothing there, and makes nothing there.
    let run = cluster.run(&["run"]);
    assert_eq!(run.code, Some(5), "{run:?}");
}

#[test]
fn a_full_volume_loses_nothing() {
    let cluster = TestCluster::planned("");
    let Some((volume, mut agent)) = on_a_volume(&cluster) else { return };
    let fill = volume.path().join("fill");
    let fill_up =
        || drop(Command::new("dd").args(["if=/dev/zero", "bs=64k", "status=none"]).arg(format!("of={}", fill.display())).output());
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a");
    // While it runs: whoever writes gets an error, or the server ends and is started again.
    fill_up();
    cluster.sql_in_background("postgres", "INSERT INTO t SELECT generate_series(1, 2000000)");
    agent.wait_for("No space left on device", 1);
    std::fs::remove_file(&fill).unwrap();
    eventually("it runs", || cluster.run(&["status"]).code == Some(0));
    agent.stopped();
    // And at the start: it waits, and says so, and starts the server as soon as there is room.
    fill_up();
    let before = agent.said().matches(" is ready after ").count();
    let mut next = Agent::start(&cluster, &[]);
    next.wait_for("it is started when there is room: enlarge the volume", 1);
    std::fs::remove_file(&fill).unwrap();
    next.wait_for("there is room again", 1);
    next.wait_for(" is ready after ", before + 1);
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "1000");
    next.stopped();
}
