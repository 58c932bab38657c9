//! `init` with a store that cannot be told of the cluster: nothing is made that nobody would know of.

use std::fs::{self, File};
use std::io::Write;

use crate::support::cluster::TestCluster;
use crate::support::mount::Mount;
use crate::support::scratch::Scratch;
use crate::support::tree::Tree;
use crate::support::user;

const INIT: &[&str] = &["init", "--allow-ephemeral", "-D", "{dir}/volume/data", "--store"];

/// A volume for the data; what stands on it stays as it is.
fn volume() -> (Scratch, Tree) {
    let scratch = Scratch::new();
    scratch.folder("volume");
    let before = Tree::of(&scratch.join("volume"));
    (scratch, before)
}

#[test]
fn a_store_that_its_user_cannot_write_stops_init_before_anything_is_made() {
    let (scratch, before) = volume();
    fs::create_dir(scratch.join("store")).unwrap();
    if user::server_user().is_none() {
        eprintln!("skipped: only root can make a folder of somebody else");
        return;
    }
    for store in ["{dir}/store", "{dir}/store/below"] {
        scratch.run_as_user(&[INIT, &[store]].concat(), &[]).refused(1, &["Permission denied", "  remedy: "]);
        before.assert_same(&Tree::of(&scratch.join("volume")));
    }
    user::hand_over(&scratch.join("store"));
    scratch.run_as_user(&[INIT, &["{dir}/store"]].concat(), &[]).done();
    let left: Vec<_> =
        Tree::of(&scratch.join("store")).paths().filter(|path| path.is_file()).map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(left, ["cluster.json", "place.json"]);
}

#[test]
fn a_read_only_store_stops_init_before_anything_is_made() {
    let (scratch, before) = volume();
    let Some(mount) = Mount::new(&scratch.join("store"), 1024) else { return };
    user::hand_over(&scratch.join("store"));
    mount.make_read_only();
    for store in ["{dir}/store", "{dir}/store/below"] {
        let run = scratch.run(&[INIT, &[store]].concat(), &[]);
        run.refused(6, &["Read-only file system", "  remedy: remount the file system read-write"]);
        before.assert_same(&Tree::of(&scratch.join("volume")));
    }
}

#[test]
fn a_full_store_stops_init_before_anything_is_made() {
    let (scratch, before) = volume();
    let Some(_mount) = Mount::new(&scratch.join("store"), 256) else { return };
    user::hand_over(&scratch.join("store"));
    let mut filler = File::create(scratch.join("store/filler")).unwrap();
    while filler.write_all(&[7; 512]).is_ok() {}
    let run = scratch.run(&[INIT, &["{dir}/store"]].concat(), &[]);
    run.refused(6, &["No space left on device", "  remedy: free some space"]);
    before.assert_same(&Tree::of(&scratch.join("volume")));
    drop(filler);
    fs::remove_file(scratch.join("store/filler")).unwrap();
    scratch.run(&[INIT, &["{dir}/store"]].concat(), &[]).done();
}

#[test]
fn a_store_that_knows_the_cluster_already_need_not_be_writable() {
    let (scratch, _) = volume();
    let Some(mount) = Mount::new(&scratch.join("store"), 1024) else { return };
    user::hand_over(&scratch.join("store"));
    scratch.run(&[INIT, &["{dir}/store"]].concat(), &[]).done();
    mount.make_read_only();
    scratch.run(&[INIT, &["{dir}/store"]].concat(), &[]).done();
}

#[test]
fn a_damaged_newest_dump_is_named_with_what_can_be_done() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    cluster.dump(&[]);
    let newest = cluster.dump(&[]);
    cluster.run(&["stop"]).done();
    let path = cluster.scratch.join("volume/backups").join(&newest);
    let good = fs::read(&path).unwrap();
    let gone = cluster.scratch.folder("gone");
    for name in ["data", ".pgpersist"] {
        if cluster.scratch.join("volume").join(name).exists() {
            assert!(std::process::Command::new("mv").arg(cluster.scratch.join("volume").join(name)).arg(&gone).status().unwrap().success());
        }
    }
    let mut flipped = good.clone();
    let middle = good.len() / 2;
    flipped[middle] ^= 0xff;
    for (bad, told) in [(&good[..middle], "is damaged"), (&flipped[..], newest.as_str())] {
        cluster.scratch.write_bytes(&format!("volume/backups/{newest}"), bad);
        let run = cluster.run(&["init", "--allow-ephemeral", "--restore-latest"]);
        assert_eq!(run.code, Some(7), "{run:?}");
        for text in [told, &newest, "`pgpersist init --new`", "`pgpersist load NAME`", "move it out of the store"] {
            assert!(run.stderr.contains(text), "`{text}` is not in {run:?}");
        }
        assert!(!run.stderr.contains("choose another"), "{run:?}");
        assert!(!cluster.data().join("PG_VERSION").exists(), "nothing was restored from an older one");
    }
    cluster.scratch.write_bytes(&format!("volume/backups/{newest}"), &good);
    cluster.run(&["init", "--allow-ephemeral", "--restore-latest"]).done();
}
