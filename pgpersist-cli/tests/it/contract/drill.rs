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

/// What every report of a restore drill tells beyond that, where a dump was loaded.
const RESTORED: &[&str] = &[
    "/id",
    "/started_at",
    "/duration_s",
    "/target",
    "/cluster",
    "/store",
    "/version",
    "/cluster_s",
    "/restore_s",
    "/dump_age_s",
    "/bytes",
    "/rows",
    "/proves",
    "/proves_not",
    "/databases/0/database",
    "/databases/0/verdict",
    "/databases/0/name",
    "/databases/0/taken_at",
    "/databases/0/age_s",
    "/databases/0/size_bytes",
    "/databases/0/system_identifier",
    "/databases/0/server_version",
    "/databases/0/rows_expected",
    "/databases/0/rows_found",
    "/databases/0/table_count",
    "/databases/0/load_s",
    "/databases/0/check_s",
    "/databases/0/checks/0/name",
    "/databases/0/checks/0/status",
    "/databases/0/checks/0/summary",
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
        promise("a restore drill without a store is invalid", &["drill", "restore", "--json"]).code(2).error("invalid"),
        promise("a restore drill without any dump is not found", &["drill", "restore", "--store", "{dir}", "--json"])
            .code(4)
            .error("not_found"),
        promise("one dump is of one database", &["drill", "restore", "--store", "x", "--dump", "latest", "-d", "a", "-d", "b"])
            .code(2)
            .stderr("remedy: give `-d` once, or leave out `--dump`"),
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
            // It lies on another file system, so the scratch folder does not take it along.
            let ledger = std::path::Path::new(report["ledger"].as_str().unwrap());
            std::fs::remove_file(ledger).unwrap();
            std::fs::remove_dir(ledger.parent().unwrap()).unwrap();
        }),
    ]
}

/// Lines about the cluster's dumps, which are loaded into clusters of their own.
pub(super) fn restores() -> Vec<Case> {
    let apart = |case: Case| case.variable("PGPERSIST_CACHE", "{dir}/volume/cache").variable("TMPDIR", "{dir}/volume/tmp");
    vec![
        apart(promise("a dry run of a restore drill tells the plan", &["drill", "restore", "--dry-run", "--json"])).fields(&["/plan/0"]),
        apart(promise("a restore drill proves that the newest dumps come back", &["drill", "restore", "--json"]))
            .fields(&["/rounds", "/recovery_s/min", "/recovery_s/median", "/recovery_s/max"])
            .fields(RESTORED)
            .missing(&["/seed", "/kept", "/databases/0/remedy"])
            .value("/kind", "restore")
            .value("/verdict", "pass")
            .value("/reasons", serde_json::json!([]))
            .value("/notes", serde_json::json!([]))
            .value("/databases/0/reasons", serde_json::json!([]))
            .value("/databases/0/differences", serde_json::json!([]))
            .value("/acknowledged", 8)
            .value("/in_flight", 0)
            .value("/lost", 0)
            .value("/torn", 0),
        apart(promise(
            "a restore drill of one dump keeps its cluster where that is asked for",
            &["drill", "restore", "--dump", "latest", "-d", "shop", "--keep", "--json"],
        ))
        .fields(&["/kept_commands/0"])
        .then(|cluster| {
            let kept = std::fs::read_dir(cluster.scratch.join("volume/tmp")).unwrap();
            assert_eq!(kept.filter(|entry| entry.as_ref().unwrap().path().join("data/PG_VERSION").exists()).count(), 1);
        }),
        apart(promise("a check that is not true fails the drill, in words", &["drill", "restore", "-d", "shop", "--quiet"]))
            .before(|cluster| {
                let check = "[[drill.check]]\nname = \"none\"\ndatabase = \"shop\"\nsql = \"select count(*) = 0 from orders\"\n";
                cluster.configure(&format!("databases = [\"shop\"]\n{check}"));
            })
            .code(7)
            .stdout("FAIL: a restore of 1 database from {dir}/volume/backups is not proven\n")
            .stdout("failed: shop: check:none: it returned false\n"),
        promise("drills of both kinds are listed, newest first", &["drill", "list", "--json"])
            .value("/drills/0/kind", "restore")
            .value("/drills/0/verdict", "fail")
            .value("/drills/2/verdict", "pass"),
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
    cluster.dump(&[]);
    travel(&cluster, restores());
    assert_eq!(cluster.postmaster(), postmaster, "none of these drills may touch the cluster");
    travel(&cluster, live());
    assert_ne!(cluster.postmaster(), postmaster, "the server was killed and started again");
}
