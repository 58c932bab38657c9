//! A store whose volume is not mounted is an empty folder, and no new store.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::cluster::TestCluster;
use crate::support::tree::Tree;

fn program(name: &str, arguments: &[&Path]) {
    assert!(Command::new(name).args(arguments).status().unwrap().success());
}

#[test]
fn a_store_that_failed_to_mount_is_not_filled_with_dumps() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.dump(&[]);
    cluster.dump(&[]);
    let (store, away) = (cluster.store(), cluster.scratch.join("volume/unmounted"));
    // What is left of a mount is its mount point, empty or absent.
    program("mv", &[&store, &away]);
    let told = [
        &cluster.scratch.fill("the store {dir}/volume/backups took dumps of this cluster, and what it holds now is not that store"),
        "  remedy: if its volume is not mounted, mount it; if it was emptied on purpose, `pgpersist dump --yes` begins anew in it",
    ];
    for exists in [false, true] {
        if exists {
            cluster.scratch.folder("volume/backups");
        }
        for words in [&["dump"][..], &["dump", "--dry-run"], &["dump", "-d", "postgres"]] {
            cluster.run(words).refused(5, &told);
        }
        assert!(Tree::of(&store).paths().all(|path| path == store));
        let health = cluster.run(&["health", "--json"]);
        let placement = &health.json()["findings"][1];
        assert_eq!((health.code, &placement["status"]), (Some(1), &"fail".into()), "{placement}");
        assert!(placement["summary"].as_str().unwrap().contains("is not that store"), "{placement}");
    }
    // An init at every start of a container makes the store's card anew, which makes it no other store.
    cluster.run(&["init", "--allow-ephemeral"]).done();
    cluster.run(&["dump"]).refused(5, &told);

    // Mounted again, all is as before.
    program("rm", &[Path::new("--recursive"), &store]);
    program("mv", &[&away, &store]);
    cluster.dump(&[]);
    assert_eq!(cluster.run(&["list", "--json"]).done().json()["dumps"].as_array().unwrap().len(), 3);

    // Emptied on purpose, it is a new beginning once somebody says so.
    for entry in fs::read_dir(&store).unwrap() {
        program("rm", &[Path::new("--recursive"), &entry.unwrap().path()]);
    }
    cluster.run(&["dump"]).refused(5, &told);
    cluster.dump(&["--yes"]);
    cluster.dump(&[]);
    assert_eq!(cluster.run(&["list", "--json"]).done().json()["dumps"].as_array().unwrap().len(), 2);
}
