//! Promises of `migrate`.

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;
use crate::support::tree::Tree;

/// A way of the cluster over the volume.
const MOVE: &[&str] = &["migrate", "--from", "{dir}/volume/data", "--to", "{dir}/volume/new"];

/// Lines that share one stopped cluster, which moves on with them.
pub(super) fn journey() -> Vec<Case> {
    let json = |words: &[&'static str]| [words, &["--json"]].concat();
    vec![
        promise("migrating a cluster whose server runs needs a confirmation and shows its plan", &json(MOVE))
            .before(TestCluster::start)
            .code(5)
            .error("unsafe")
            .fields(&["/plan/0"])
            .then(|cluster| {
                assert!(cluster.postmaster().is_some() && !cluster.scratch.join("volume/new").exists());
                cluster.run(&["stop"]).done();
            }),
        promise("a dry run of migrate has a plan and touches nothing", &[MOVE, &["--dry-run", "--json"]].concat())
            .fields(&["/plan/steps/0", "/plan/bytes", "/plan/action"])
            .then(|cluster| assert!(!cluster.scratch.join("volume/new").exists())),
        promise("migrate into itself is invalid", &json(&["migrate", "--from", "{dir}/volume/data", "--to", "{dir}/volume/data/inside"]))
            .code(2)
            .error("invalid"),
        promise("migrate from nothing is not found", &json(&["migrate", "--from", "{dir}/nothing", "--to", "{dir}/volume/new"]))
            .code(4)
            .error("not_found"),
        promise("migrate has one target", &[MOVE, &["-D", "{dir}/volume/data"]].concat()).code(2).stderr("cannot be used with"),
        promise("migrate has its promised fields", &json(MOVE))
            .fields(&["/from", "/to", "/bytes", "/files", "/downtime_s", "/undo/0"])
            .fields(&["/system_identifier", "/changed"])
            .value("/from", "{dir}/volume/data")
            .value("/to", "{dir}/volume/new")
            .value("/resumed", false),
        promise("status of a source that was migrated is 7 and says so", &["status", "-D", "{dir}/volume/data", "--json"])
            .code(7)
            .value("/state", "damaged")
            .fields(&["/detail", "/data_directory"])
            .stdout("it was migrated to another directory"),
        promise("a migration that was made is not repeated", MOVE).stdout("There was nothing to do"),
        promise("a source that was migrated does not start", &["start", "-D", "{dir}/volume/data"])
            .code(5)
            .stderr("was migrated to another directory"),
        promise("migrate tells what it moved and how to go back", &["migrate", "--from", "{dir}/volume/new", "--to", "{dir}/volume/newer"])
            .stdout("Moved {dir}/volume/new to {dir}/volume/newer: ")
            .stdout("mv {dir}/volume/new/global/pg_control.migrated {dir}/volume/new/global/pg_control\n")
            .stderr("putting the copy into place")
            .then(|cluster| assert!(Tree::of(&cluster.scratch.join("volume/newer")).paths().count() > 900)),
    ]
}

#[test]
fn a_cluster_is_moved_as_promised() {
    travel(&TestCluster::stopped(""), journey());
}
