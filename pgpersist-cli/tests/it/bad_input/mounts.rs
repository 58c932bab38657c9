//! One data directory that two containers mount in different ways, and single files that are mounted by themselves.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::cluster::TestCluster;
use crate::support::container::{APART, Container, can_isolate, contained};
use crate::support::scratch::Run;

const DIRECTORY_ITSELF: &str = "mount --bind {dir}/volume/data {dir}/other && exec \"$@\"";

#[test]
fn two_mounts_of_one_directory_are_one_directory() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    cluster.scratch.folder("other");
    // Else the port or the socket would be what keeps the second server from starting.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    cluster.start();
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    let files = || ["postmaster.pid", "postgresql.conf", "pgpersist.conf"].map(|name| fs::read(cluster.data().join(name)).unwrap());
    let before = files();
    for words in [&["start", "--timeout", "1"][..], &["start", "--timeout", "1", "--yes"], &["init", "--allow-ephemeral"]] {
        let mut command = contained(&cluster, APART, DIRECTORY_ITSELF, &[words, &["-D", "{dir}/other"]].concat());
        let run = Run::from(command.env("PGPERSIST_CLUSTER_PORT", &port).output().unwrap());
        run.refused(5, &["a server that was started through another mount of", "  remedy: stop that server or its container first"]);
        assert!(before == files());
        assert!(!cluster.data().join(".pgpersist").exists(), "all others would look for their lock there from now on");
    }
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
    assert_eq!(cluster.run(&["start"]).done().stdout.lines().next(), Some("It runs already."));
    cluster.run(&["stop"]).done();

    // The same the other way round.
    let container = Container::start(
        &cluster,
        "mount --bind {dir}/volume/data {dir}/other",
        &["-D", "{dir}/other"],
        &[("PGPERSIST_CLUSTER_PORT", &port)],
    );
    let before = files();
    for words in [&["start", "--timeout", "1"][..], &["start", "--timeout", "1", "--yes"], &["stop", "--timeout", "1"], &["dump"]] {
        cluster.run(words).refused(5, &["still run and hold its lock"]);
        assert!(before == files());
    }
    drop(container);
    cluster.start();
    assert_eq!(cluster.sql("postgres", "SELECT a FROM t"), "1");
}

#[test]
fn a_claim_is_seen_through_another_mount() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    cluster.scratch.folder("other");
    // What a claim holds of the directory itself.
    let claim = fs::File::open(cluster.data()).unwrap();
    rustix::fs::flock(&claim, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let before = cluster.volume_tree();
    let run = Run::from(contained(&cluster, APART, DIRECTORY_ITSELF, &["start", "-D", "{dir}/other"]).output().unwrap());
    run.refused(5, &["is in use by another pgpersist"]);
    before.assert_same(&cluster.volume_tree());
}

#[test]
fn a_parent_that_became_read_only_hides_no_running_server() {
    let cluster = TestCluster::running("");
    let volume = cluster.scratch.join("volume");
    cluster.scratch.folder("volume/backups");
    // As a volume that somebody else owns by now.
    if crate::support::user::server_user().is_some() {
        std::os::unix::fs::chown(&volume, Some(0), Some(0)).unwrap();
    }
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o555)).unwrap();
    let (started, adopted) = (cluster.run(&["start"]), cluster.run(&["init", "--allow-ephemeral"]));
    let card_inside = cluster.data().join(".pgpersist").exists();
    let stopped = cluster.run(&["stop"]);
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(started.done().stdout.starts_with("It runs already."));
    adopted.done();
    assert!(!card_inside, "a second folder of ours");
    stopped.done();
}

#[test]
fn a_postgresql_conf_that_is_mounted_by_itself_is_left_to_its_owner() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    let file = cluster.data().join("postgresql.conf");
    let with_line = fs::read_to_string(&file).unwrap();
    let without: String = with_line.lines().filter(|line| !line.contains("pgpersist.conf")).map(|line| format!("{line}\n")).collect();
    let mounted = |words: &[&str]| {
        let script = "mount --bind {dir}/volume/data/postgresql.conf {dir}/volume/data/postgresql.conf && exec \"$@\"";
        Run::from(contained(&cluster, &["--mount"], script, words).output().unwrap())
    };
    cluster.scratch.write_bytes("volume/data/postgresql.conf", without.as_bytes());
    mounted(&["start"]).refused(
        5,
        &[
            "postgresql.conf needs the line `include_if_exists = 'pgpersist.conf'`",
            "  remedy: add that line to the file where it comes from",
        ],
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), without);
    cluster.scratch.write_bytes("volume/data/postgresql.conf", with_line.as_bytes());
    mounted(&["start"]).done();
    assert_eq!(fs::read_to_string(&file).unwrap(), with_line);
    assert_eq!(cluster.sql("postgres", "SHOW port"), cluster.scratch.port().to_string());
}
