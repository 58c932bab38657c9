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

/// Lines without a cluster.
pub(super) fn table() -> Vec<Case> {
    vec![
        promise("faults are planted in throw-away clusters only", &["drill", "crash", "--plant", "deleted-row", "--copy", "-D", "data"])
            .code(5)
            .stderr("remedy: faults are planted in throw-away clusters only"),
        promise("a live drill wants a confirmation and shows its plan", &["drill", "crash", "--live", "-D", "data", "--json"])
            .code(5)
            .error("unsafe")
            .fields(&["/plan/0"]),
        promise("a dry run of a drill tells the plan", &["drill", "crash", "--dry-run", "--json"]).fields(&["/plan/0"]),
        promise("a report's name says its format", &["drill", "crash", "--report", "drill.txt"])
            .code(2)
            .stderr("remedy: end it with `.md` or `.json`"),
        promise("where there is no cluster there are no drills to list", &["drill", "list", "-D", "data", "--json"])
            .code(4)
            .error("not_found"),
    ]
}

/// Lines about one cluster, on which none of them may work: each drill makes its own.
pub(super) fn journey() -> Vec<Case> {
    // Templates and throw-away clusters stay on the test's own volume.
    let apart = |case: Case| case.variable("PGPERSIST_CACHE", "{dir}/volume/cache").variable("TMPDIR", "{dir}/volume/tmp");
    vec![
        promise("without a drill there is none to list", &["drill", "list"]).stdout("No drill yet"),
        promise("the list of drills is a document", &["drill", "list", "--json"]).value("/drills", serde_json::json!([])),
        apart(promise(
            "a crash drill that loses nothing passes, and its report is also a file",
            &[
                "drill",
                "crash",
                "--rounds",
                "1",
                "--writers",
                "2",
                "--kill",
                "backend",
                "--seed",
                "7",
                "--report",
                "{dir}/volume/drill.md",
                "--json",
            ],
        ))
        .fields(REPORT)
        .value("/kind", "crash")
        .value("/seed", 7)
        .value("/rounds", 1)
        .value("/kills/0/kill", "backend")
        .then(|cluster| {
            let report = std::fs::read_to_string(cluster.scratch.join("volume/drill.md")).unwrap();
            assert!(report.starts_with("# ") && report.contains("7"), "{report}");
        })
        .value("/verdict", "pass")
        .value("/lost", 0)
        .value("/torn", 0),
        apart(promise("a drill that loses something is 7", &["drill", "crash", "--rounds", "1", "--plant", "deleted-row", "--quiet"]))
            .code(7)
            .stdout("FAIL after 1 kill, as it must: `deleted-row` was planted"),
        promise("drills are listed, but those whose fault was put in", &["drill", "list", "--json"])
            .value("/drills/0/verdict", "pass")
            .then(|cluster| {
                let listed = cluster.run(&["drill", "list", "--json"]).done().json();
                assert_eq!(listed["drills"].as_array().unwrap().len(), 1);
            }),
        apart(promise(
            "a copy of the cluster is drilled, kept, and its report is JSON",
            &[
                "drill",
                "crash",
                "--copy",
                "--rounds",
                "1",
                "--writers",
                "2",
                "--kill",
                "group",
                "--keep",
                "--report",
                "{dir}/volume/drill.json",
                "--json",
            ],
        ))
        .fields(REPORT)
        .value("/verdict", "pass")
        .then(|cluster| {
            let report = std::fs::read(cluster.scratch.join("volume/drill.json")).unwrap();
            let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
            assert_eq!(report["verdict"], "pass");
            let kept = std::path::Path::new(report["kept"].as_str().unwrap());
            assert!(kept.starts_with(cluster.scratch.path()) && kept.is_dir(), "{report}");
        }),
    ]
}

/// Lines about the cluster itself.
pub(super) fn live() -> Vec<Case> {
    vec![
        promise(
            "a confirmed drill of the live cluster kills its server and finds all again",
            &["drill", "crash", "--live", "--yes", "--rounds", "1", "--writers", "2", "--kill", "postmaster", "--json"],
        )
        .fields(REPORT)
        .value("/verdict", "pass")
        .value("/lost", 0)
        .then(|cluster| {
            assert_eq!(cluster.databases(), ["shop"]);
            assert_eq!(cluster.sql("shop", "SELECT sum(amount) FROM orders"), "36");
        }),
    ]
}

#[test]
fn drills_report_as_promised() {
    let cluster = TestCluster::running("databases = [\"shop\"]\n");
    cluster.fill("shop");
    cluster.scratch.folder("volume/cache");
    cluster.scratch.folder("volume/tmp");
    let postmaster = cluster.postmaster();
    travel(&cluster, journey());
    assert_eq!(cluster.postmaster(), postmaster, "none of these drills may touch the cluster");
    travel(&cluster, live());
    assert_ne!(cluster.postmaster(), postmaster, "the server was killed and started again");
}
