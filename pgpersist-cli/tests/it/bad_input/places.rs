//! Paths that cannot hold a cluster or a store.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::cluster::TestCluster;
use crate::support::mount::Mount;
use crate::support::scratch::Scratch;
use crate::support::skip::skip;
use crate::support::tree::Tree;
use crate::support::user;

/// A folder that only its owner may write, or nobody; open again for removal when this is dropped.
pub(super) struct Closed(PathBuf);

impl Closed {
    pub(super) fn new(scratch: &Scratch, name: &str, mode: u32) -> Self {
        let path = scratch.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Self(path)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = fs::set_permissions(&self.0, Permissions::from_mode(0o755));
    }
}

#[test]
fn a_data_directory_that_is_a_file_is_invalid() {
    let scratch = Scratch::new();
    scratch.write("file", "of somebody else");
    let before = Tree::of(scratch.path());
    for command in ["init", "start", "stop", "restart", "status"] {
        let run = scratch.run(&[command, "-D", "{dir}/file"], &[]);
        run.refused(2, &["file is a file, not a directory", "  remedy: name the directory that holds, or is to hold, the cluster"]);
        let run = scratch.run(&[command, "-D", "{dir}/file/below"], &[]);
        run.refused(2, &[&scratch.fill("{dir}/file/below"), "  remedy: "]);
    }
    before.assert_same(&Tree::of(scratch.path()));
}

#[test]
fn a_store_that_is_a_file_is_invalid() {
    let scratch = Scratch::new();
    scratch.write("file", "of somebody else");
    let before = Tree::of(scratch.path());
    for store in ["{dir}/file", "{dir}/file/below", "file://{dir}/file"] {
        for words in
            [&["list"][..], &["dump"], &["show", "latest"], &["load", "latest"], &["verify"], &["prune"], &["init", "--allow-ephemeral"]]
        {
            let run = scratch.run(&[words, &["-D", "{dir}/data", "--store", store]].concat(), &[]);
            run.refused(2, &["error: ", &scratch.fill("{dir}/file"), "  remedy: "]);
        }
    }
    before.assert_same(&Tree::of(scratch.path()));
}

#[test]
fn a_data_directory_that_cannot_be_written_is_denied() {
    let scratch = Scratch::new();
    let _closed = Closed::new(&scratch, "closed", 0o555);
    let before = Tree::of(scratch.path());
    let run = scratch.run_as_user(&["init", "--allow-ephemeral", "-D", "{dir}/closed/data"], &[]);
    run.refused(1, &[&scratch.fill("{dir}/closed"), "Permission denied", "  remedy: run as the user who owns it, or change its owner"]);
    before.assert_same(&Tree::of(scratch.path()));
}

#[test]
fn a_data_directory_that_its_user_cannot_reach_is_not_prepared_by_root() {
    if user::server_user().is_none() {
        return skip("root", "only root prepares places");
    }
    let scratch = Scratch::new();
    let _closed = Closed::new(&scratch, "closed", 0o700);
    let before = Tree::of(scratch.path());
    let run = scratch.run(&["init", "--allow-ephemeral", "-D", "{dir}/closed/data"], &[]);
    run.refused(1, &[&scratch.fill("{dir}/closed"), "Permission denied", "  remedy: run as the user who owns it, or change its owner"]);
    before.assert_same(&Tree::of(scratch.path()));
}

#[test]
fn a_data_directory_of_another_user_is_denied() {
    if user::server_user().is_none() {
        return skip("root", "only root can make files of somebody else");
    }
    let scratch = Scratch::new();
    scratch.folder("data");
    scratch.write("data/PG_VERSION", "15\n");
    fs::create_dir(scratch.join("data/global")).unwrap();
    std::os::unix::fs::chown(scratch.join("data"), Some(54_321), Some(54_321)).unwrap();
    let before = Tree::of(scratch.path());
    let run = scratch.run(&["init", "--allow-ephemeral", "-D", "{dir}/data"], &[]);
    run.refused(1, &["belongs to user id 54321", "  remedy: set `[cluster] os_user` to its owner"]);
    before.assert_same(&Tree::of(scratch.path()));
}

#[test]
fn foreign_files_are_never_touched() {
    let scratch = Scratch::new();
    scratch.folder("data");
    scratch.write("data/thesis.tex", "years of work");
    let before = Tree::of(scratch.path());
    for words in [&["init", "--allow-ephemeral"][..], &["init", "--allow-ephemeral", "--new"], &["start"], &["stop"], &["restart"]] {
        let run = scratch.run(&[words, &["-D", "{dir}/data"]].concat(), &[]);
        run.refused(5, &["holds files that are no PostgreSQL cluster: thesis.tex", "  remedy: name an empty or absent directory"]);
    }
    before.assert_same(&Tree::of(scratch.path()));
}

#[test]
fn a_read_only_file_system_takes_no_cluster() {
    let scratch = Scratch::new();
    let Some(mount) = mounted(&scratch.join("volume"), 4096) else { return };
    mount.make_read_only();
    let before = Tree::of(scratch.path());
    let run = scratch.run(&["init", "--allow-ephemeral", "-D", "{dir}/volume/data"], &[]);
    run.refused(6, &[&scratch.fill("{dir}/volume"), "Read-only file system", "  remedy: remount the file system read-write"]);
    before.assert_same(&Tree::of(scratch.path()));
}

#[test]
fn a_full_file_system_takes_no_cluster_and_keeps_no_part_of_one() {
    let scratch = Scratch::new();
    let Some(_mount) = mounted(&scratch.join("volume"), 8192) else { return };
    let before = Tree::of(&scratch.join("volume"));
    let run = scratch.run(&["init", "--allow-ephemeral", "-D", "{dir}/volume/data"], &[]);
    assert_eq!(run.code, Some(6), "{run:?}");
    assert!(run.stderr.contains("No space left on device") && run.stderr.contains("  remedy: free some space"), "{run:?}");
    // Our own folder stays, with nothing in it but the locks.
    let after = Tree::without(&scratch.join("volume"), &[".pgpersist"]);
    before.assert_same(&after);
    let own: Vec<PathBuf> =
        Tree::of(&scratch.join("volume/.pgpersist")).paths().filter(|path| path.is_file()).map(Path::to_owned).collect();
    assert!(own.iter().all(|path| path.extension().is_some_and(|extension| extension == "lock")), "{own:?}");
}

pub(super) fn mounted(path: &Path, size_kib: u64) -> Option<Mount> {
    let mount = Mount::new(path, size_kib)?;
    user::hand_over(path);
    Some(mount)
}

#[test]
fn a_store_that_cannot_take_a_dump_takes_no_part_of_it() {
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE DATABASE big");
    // More than the small file systems below can hold, and gzip cannot help.
    cluster.sql("big", "CREATE TABLE noise AS SELECT gen_random_uuid() AS a, gen_random_uuid() AS b FROM generate_series(1, 60000)");
    let dump = |store: &str| cluster.run(&["dump", "-d", "big", "--store", store]);

    {
        let _closed = Closed::new(&cluster.scratch, "closed", 0o555);
        let before = Tree::of(&cluster.scratch.join("closed"));
        let (path, environment) = ("{dir}/closed/backups", &[]);
        let run = cluster.scratch.run_as_user(&["dump", "-d", "big", "--store", path], environment);
        run.refused(1, &["Permission denied", "  remedy: run as the user who owns it, or change its owner"]);
        before.assert_same(&Tree::of(&cluster.scratch.join("closed")));
    }
    if let Some(mount) = mounted(&cluster.scratch.join("read-only"), 1024) {
        mount.make_read_only();
        let before = Tree::of(&cluster.scratch.join("read-only"));
        dump("{dir}/read-only/backups").refused(6, &["Read-only file system", "  remedy: remount the file system read-write"]);
        before.assert_same(&Tree::of(&cluster.scratch.join("read-only")));
    }
    if let Some(_mount) = mounted(&cluster.scratch.join("full"), 1024) {
        // The first dump of something small fits, so the store is as it is in use.
        cluster.run(&["dump", "-d", "postgres", "--store", "{dir}/full/backups"]).done();
        let before = Tree::of(&cluster.scratch.join("full"));
        let run = dump("{dir}/full/backups");
        assert_eq!(run.code, Some(6), "{run:?}");
        assert!(run.stderr.contains("No space left on device") && run.stderr.contains("  remedy: free some space"), "{run:?}");
        // The database's folder may stand there, empty.
        before.assert_same(&Tree::without(&cluster.scratch.join("full"), &["big"]));
        assert_eq!(fs::read_dir(cluster.scratch.join("full/backups/big")).map_or(0, Iterator::count), 0);
    }
    assert_eq!(cluster.sql("big", "SELECT count(*) FROM noise"), "60000");
}

#[test]
fn a_volume_that_failed_to_mount_is_not_filled_with_a_new_cluster() {
    let cluster = TestCluster::stopped("");
    // What is left when a volume is not there: an empty directory, and in another pod not even that. The store remembers.
    let gone = cluster.scratch.folder("gone");
    let volume = cluster.scratch.join("volume");
    for name in ["data", ".pgpersist"] {
        if volume.join(name).exists() {
            assert!(std::process::Command::new("mv").arg(volume.join(name)).arg(&gone).status().unwrap().success());
        }
    }
    let told = [
        "is empty, but a cluster is known to live here: the store's card names system identifier",
        "if its volume is not mounted, mount it",
    ];
    let mut refusals = 0;
    for owner_of_the_folder in [user::server_user().map_or(0, |user| user.uid), 0] {
        if user::server_user().is_some() {
            std::os::unix::fs::chown(&volume, Some(owner_of_the_folder), Some(owner_of_the_folder)).unwrap();
        }
        for exists in [false, true] {
            if exists {
                fs::create_dir(volume.join("data")).unwrap();
            }
            let before = Tree::of(&volume);
            cluster.run(&["init", "--allow-ephemeral"]).refused(5, &told);
            cluster.scratch.run(&["init", "--allow-ephemeral"], &[("PGPERSIST_CLUSTER_DATABASES", "orders")]).refused(5, &told);
            before.assert_same(&Tree::of(&volume));
            cluster.run(&["start"]).refused(4, &[if exists { "is empty" } else { "there is no data directory at" }, "  remedy: "]);
            before.assert_same(&Tree::of(&volume));
            refusals += 1;
        }
        fs::remove_dir(volume.join("data")).unwrap();
    }
    assert_eq!(refusals, 4);
}
