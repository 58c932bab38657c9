//! Promises of `drill`.

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

/// What every report of a crash drill tells.
const REPORT: &[&str] = &[
    "/kind",
    "/verdict",
    "/seed",
    "/rounds",
    "/acknowledged",
    "/in_flight",
    "/lost",
    "/torn",
    "/recovery_s/min",
    "/recovery_s/median",
    "/recovery_s/max",
];

/// Lines about one cluster, on which none of them may work: each drill makes its own.
pub(super) fn journey() -> Vec<Case> {
    // Templates and throw-away clusters stay on the test's own volume.
    let apart = |case: Case| case.variable("PGPERSIST_CACHE", "{dir}/volume/cache").variable("TMPDIR", "{dir}/volume/tmp");
    vec![
        promise("before the first drill there is none to list", &["drill", "list", "--json"]).value("/drills", serde_json::json!([])),
        promise("a dry run of a drill tells the plan", &["drill", "crash", "--rounds", "1", "--dry-run", "--json"]).fields(&["/plan/0"]),
        promise("a report's name says its format", &["drill", "crash", "--report", "report.txt", "--json"]).code(2).error("invalid"),
        promise("a drill of the cluster itself needs a confirmation", &["drill", "crash", "--live", "--json"])
            .code(5)
            .error("unsafe")
            .fields(&["/plan/0"]),
        apart(promise("a crash drill that loses nothing passes", &["drill", "crash", "--rounds", "1", "--writers", "2", "--json"]))
            .fields(REPORT)
            .value("/kind", "crash")
            .value("/verdict", "pass")
            .value("/lost", 0)
            .value("/torn", 0),
        apart(promise(
            "a drill that loses something is 7",
            &["drill", "crash", "--rounds", "1", "--writers", "2", "--plant", "deleted-row", "--json"],
        ))
        .code(7)
        .fields(REPORT)
        .value("/verdict", "fail")
        .value("/lost", 1),
        promise("drills are listed, newest first", &["drill", "list", "--json"])
            .value("/drills/0/verdict", "fail")
            .value("/drills/1/verdict", "pass"),
    ]
}

#[test]
fn drills_report_as_promised() {
    let cluster = TestCluster::running("");
    cluster.scratch.folder("volume/cache");
    cluster.scratch.folder("volume/tmp");
    let postmaster = cluster.postmaster();
    travel(&cluster, journey());
    assert_eq!(cluster.postmaster(), postmaster, "no drill may touch the cluster");
}
