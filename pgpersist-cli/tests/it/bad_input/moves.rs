//! Places that a cluster cannot move to, run in, or drop old dumps from.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use crate::bad_input::places::{Closed, mounted};
use crate::support::cluster::TestCluster;
use crate::support::scratch::Scratch;
use crate::support::tree::Tree;

#[test]
fn a_cluster_moves_to_no_place_that_cannot_hold_it() {
    let cluster = TestCluster::stopped("");
    let before = cluster.volume_tree();
    let scratch = &cluster.scratch;
    let to = |place: &str| scratch.run(&["migrate", "--from", "{dir}/volume/data", "--to", place], &[]);

    scratch.write("file", "of somebody else");
    for place in ["{dir}/file", "{dir}/file/below"] {
        to(place).refused(2, &[&scratch.fill("{dir}/file"), "  remedy: "]);
    }
    assert_eq!(fs::read_to_string(scratch.join("file")).unwrap(), "of somebody else");
    {
        let _closed = Closed::new(scratch, "closed", 0o555);
        let run = scratch.run_as_user(&["migrate", "--from", "{dir}/volume/data", "--to", "{dir}/closed/data"], &[]);
        run.refused(1, &[&scratch.fill("{dir}/closed"), "Permission denied", "  remedy: run as the user who owns it"]);
        assert_eq!(fs::read_dir(scratch.join("closed")).unwrap().count(), 0);
    }
    if let Some(mount) = mounted(&scratch.join("read-only"), 256 * 1024) {
        mount.make_read_only();
        to("{dir}/read-only/data").refused(6, &["Read-only file system", "  remedy: remount the file system read-write"]);
    }
    if let Some(_mount) = mounted(&scratch.join("small"), 8192) {
        to("{dir}/small/data").refused(6, &["bytes more, and ", "  remedy: make room on that volume, or choose another"]);
        assert!(!scratch.join("small/data").exists());
    }
    before.assert_same(&cluster.volume_tree());
    // The source is as good as before.
    cluster.start();
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
}

#[test]
fn a_server_does_not_start_on_a_file_system_that_became_read_only() {
    let cluster = TestCluster::planned("");
    let Some(mount) = mounted(&cluster.scratch.join("volume"), 256 * 1024) else { return };
    cluster.scratch.folder("volume/socket");
    cluster.init();
    mount.make_read_only();
    let before = Tree::of(&cluster.scratch.join("volume"));
    for command in ["start", "restart"] {
        cluster.run(&[command]).refused(6, &["Read-only file system", "  remedy: remount the file system read-write"]);
        assert_eq!(cluster.postmaster(), None);
    }
    before.assert_same(&Tree::of(&cluster.scratch.join("volume")));
}

/// Three dumps as the old scripts left them: larger than an empty one, and not looked into.
fn dumps(scratch: &Scratch, store: &str) -> PathBuf {
    let folder = scratch.folder(store);
    for day in ["20200101", "20200102", "20200103"] {
        scratch.write_bytes(&format!("{store}/backup_{day}_000000.sql.gz"), &[b'x'; 200]);
    }
    folder
}

const PRUNE: &[&str] = &["prune", "--keep-last", "2"];

#[test]
fn a_store_that_cannot_be_written_keeps_its_old_dumps() {
    let scratch = Scratch::new();
    let environment = [("PGPERSIST_CLUSTER_DATABASES", "orders")];
    {
        let folder = dumps(&scratch, "closed");
        let _closed = Closed::new(&scratch, "closed", 0o555);
        let before = Tree::of(&folder);
        // Not root, and not the folder's owner either way: its mode forbids it to both.
        let run = scratch.run_as_user(&[PRUNE, &["--store", "{dir}/closed"]].concat(), &environment);
        run.refused(1, &["Permission denied", "  remedy: run as the user who owns it"]);
        before.assert_same(&Tree::of(&folder));
    }
    if let Some(mount) = mounted(&scratch.join("read-only"), 1024) {
        let folder = dumps(&scratch, "read-only/backups");
        mount.make_read_only();
        let before = Tree::of(&folder);
        let run = scratch.run(&[PRUNE, &["--store", "{dir}/read-only/backups"]].concat(), &environment);
        run.refused(6, &["Read-only file system", "  remedy: remount the file system read-write"]);
        before.assert_same(&Tree::of(&folder));
    }
    if let Some(_mount) = mounted(&scratch.join("full"), 256) {
        let folder = dumps(&scratch, "full/backups");
        let filled = File::create(scratch.join("full/filler")).unwrap().write_all(&[1; 1 << 20]);
        assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        // Dropping old dumps is the way out of a full disk, so it needs no room.
        scratch.run(&[PRUNE, &["--store", "{dir}/full/backups"]].concat(), &environment).done();
        assert!(!folder.join("backup_20200101_000000.sql.gz").exists() && folder.join("backup_20200102_000000.sql.gz").exists());
    }
}

#[test]
fn whatever_is_left_of_a_cluster_keeps_init_from_making_another() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.dump(&[]);
    cluster.run(&["stop"]).done();
    let remove = |name: &str| {
        let removed = std::process::Command::new("rm").arg("--recursive").arg(cluster.scratch.join(name)).status();
        assert!(removed.unwrap().success());
    };
    let refused = |evidence: &str| {
        // Its own folder holds the claim's empty lock.
        let volume = || Tree::without(&cluster.scratch.join("volume"), &["supervisor.lock"]);
        let before = volume();
        cluster.run(&["init", "--allow-ephemeral"]).refused(5, &[evidence, "  remedy: if its volume is not mounted, mount it"]);
        before.assert_same(&volume());
    };
    // The card on the volume alone: the directory is gone, and the store as well.
    remove("volume/data");
    fs::create_dir(cluster.scratch.join("elsewhere")).unwrap();
    assert!(std::process::Command::new("mv").arg(cluster.store()).arg(cluster.scratch.join("elsewhere")).status().unwrap().success());
    refused("the volume's card names system identifier");
    // The dumps alone: of another machine nothing is left, and of the store only what people think of as backups.
    remove("volume/.pgpersist");
    assert!(
        std::process::Command::new("mv").arg(cluster.scratch.join("elsewhere/backups")).arg(cluster.store()).status().unwrap().success()
    );
    remove("volume/backups/.pgpersist");
    refused("the store holds dumps of it, such as backup_");
}
