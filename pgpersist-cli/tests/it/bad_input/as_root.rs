//! What root prepares: nothing for a command that is refused, and nothing of somebody else's.

use std::fs;

use crate::support::cluster::TestCluster;
use crate::support::scratch::Scratch;
use crate::support::tree::Tree;
use crate::support::user;

#[test]
fn foreign_files_of_root_are_no_cluster_to_be_handed_over() {
    if user::server_user().is_none() {
        eprintln!("skipped: only root has files of root");
        return;
    }
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("data")).unwrap();
    scratch.write("data/thesis.tex", "years of work");
    let before = Tree::of(scratch.path());
    for words in [&["init", "--allow-ephemeral", "-D", "{dir}/data"][..], &["migrate", "--from", "{dir}/nothing", "--to", "{dir}/data"]] {
        let run = scratch.run(words, &[]);
        run.refused(5, &["holds files that are no PostgreSQL cluster: thesis.tex", "  remedy: name an empty or absent directory"]);
        assert!(!run.stderr.contains("chown"), "{run:?}");
        before.assert_same(&Tree::of(scratch.path()));
    }
    let run = scratch.run(&["init", "--allow-ephemeral", "-D", "/"], &[]);
    run.refused(2, &["`/` cannot be a data directory"]);
    assert!(!run.stderr.contains("chown"), "{run:?}");
}

#[test]
fn a_command_that_is_refused_leaves_no_directory_that_root_prepared() {
    if user::server_user().is_none() {
        eprintln!("skipped: only root prepares places");
        return;
    }
    let cluster = TestCluster::stopped("");
    // Root's own, as a mount point is: the cluster's user can make nothing in it.
    fs::create_dir(cluster.scratch.join("mnt")).unwrap();
    let before = Tree::of(&cluster.scratch.join("mnt"));
    let absent = |run: &[&str], code| {
        let run = cluster.scratch.run(&[run, &["--config", "/dev/null"]].concat(), &[]);
        assert_eq!(run.code, Some(code), "{run:?}");
        before.assert_same(&Tree::of(&cluster.scratch.join("mnt")));
        run
    };
    let run = cluster.run(&["dump", "-d", "postgres", "--store", "{dir}/mnt/store"]);
    run.refused(6, &["no server runs in"]);
    before.assert_same(&Tree::of(&cluster.scratch.join("mnt")));
    let listed = cluster.run(&["list", "--store", "{dir}/mnt/store"]);
    assert!(listed.code == Some(3) && listed.stderr.contains("is its volume mounted?"), "{listed:?}");
    absent(&["migrate", "--from", "{dir}/nothing", "--to", "{dir}/mnt/new"], 4);
    cluster.start();
    for format in [&[][..], &["--json"], &["--format", "json"], &["--format=text"]] {
        absent(&[&["migrate", "--from", "{dir}/volume/data", "--to", "{dir}/mnt/new"], format].concat(), 5);
    }
    cluster.run(&["dump", "-d", "postgres", "--store", "{dir}/mnt/store"]).done();
    let moved = ["migrate", "--from", "{dir}/volume/data", "--to", "{dir}/mnt/new", "--config", "/dev/null", "--yes", "--format", "json"];
    let run = cluster.scratch.run(&moved, &[]);
    assert!(matches!(run.code, Some(0 | 3)), "{run:?}");
    assert!(cluster.scratch.join("mnt/new/PG_VERSION").exists());
}
