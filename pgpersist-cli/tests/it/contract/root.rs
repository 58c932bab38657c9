//! Promises about who owns what: root's commands go on as the cluster's user, and a plain user needs no root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;
use crate::support::scratch::Scratch;
use crate::support::skip::skip;
use crate::support::tree::Tree;
use crate::support::user;

/// Lines that a plain user runs, all with one cluster.
pub(super) fn journey() -> Vec<Case> {
    vec![
        promise("a plain user makes a cluster", &["init", "--allow-ephemeral", "--json"]).by_user().value("/action", "created"),
        promise("a plain user starts it", &["start", "--json"]).by_user().value("/changed", true),
        promise("a plain user dumps it", &["dump", "--json"]).by_user().fields(&["/name"]),
        promise("a plain user loads it", &["load", "latest", "-d", "copy", "--json"]).by_user().value("/verified", true),
        promise(
            "what the system forbids is denied",
            &["init", "--allow-ephemeral", "-D", "{dir}/volume/closed/data", "--config", "/dev/null", "--json"],
        )
        .before(|cluster| {
            let closed = cluster.scratch.folder("volume/closed");
            std::fs::set_permissions(closed, std::fs::Permissions::from_mode(0o555)).unwrap();
        })
        .by_user()
        .code(1)
        .error("denied")
        .then(|cluster| std::fs::remove_dir(cluster.scratch.join("volume/closed")).unwrap()),
        promise("a plain user stops it", &["stop", "--json"]).by_user().value("/changed", true),
    ]
}

#[test]
fn a_plain_user_needs_no_root() {
    let cluster = TestCluster::planned("databases = [\"orders\"]\n");
    travel(&cluster, journey());
    let owner = std::fs::metadata(cluster.data()).unwrap().uid();
    assert!(owner != 0 && cluster.volume_tree().paths().all(|path| std::fs::symlink_metadata(path).unwrap().uid() == owner));
}

#[test]
fn what_root_makes_belongs_to_the_clusters_user() {
    let Some(user) = user::server_user() else {
        return skip("root", "only root can hand something over");
    };
    let cluster = TestCluster::planned("");
    // Below a folder that is root's, as the mount point of a fresh volume is.
    std::os::unix::fs::chown(cluster.scratch.join("volume"), Some(0), Some(0)).unwrap();
    let run = cluster.run(&["init", "--allow-ephemeral", "--json"]).done();
    assert_eq!(run.json()["action"], "created");
    cluster.run(&["start"]).done();
    cluster.dump(&["-d", "postgres"]);
    assert_eq!(std::fs::metadata(format!("/proc/{}", cluster.postmaster().unwrap())).unwrap().uid(), user.uid);
    cluster.run(&["stop"]).done();
    for place in [cluster.data(), cluster.store()] {
        for path in Tree::of(&place).paths() {
            assert_eq!(std::fs::symlink_metadata(path).unwrap().uid(), user.uid, "{}", path.display());
        }
    }
}

#[test]
fn root_does_not_prepare_a_place_that_others_can_change() {
    if user::server_user().is_none() {
        return skip("root", "only root prepares places");
    }
    let scratch = Scratch::new();
    let shared = scratch.folder("shared");
    std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let before = Tree::of(scratch.path());
    let run = scratch.run(&["init", "--allow-ephemeral", "-D", "{dir}/shared/data"], &[]);
    run.refused(5, &["root does not prepare", "a directory above it can be changed by others", "remedy: prepare it yourself: `install -d"]);
    before.assert_same(&Tree::of(scratch.path()));
}
