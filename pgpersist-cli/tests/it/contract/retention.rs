//! Promises of `prune` and `show` where there are physical backups.

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

fn backups(cluster: &TestCluster) -> Vec<String> {
    let listed = cluster.run(&["list", "--json"]).done().json();
    listed["backups"].as_array().unwrap().iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
}

/// `show` tells all that `list` does, and more.
fn shown(cluster: &TestCluster) {
    let listed = cluster.run(&["list", "--json"]).done().json();
    for backup in listed["backups"].as_array().unwrap() {
        let name = backup["name"].as_str().unwrap();
        let shown = cluster.run(&["show", name, "--json"]).done().json();
        for (field, value) in backup.as_object().unwrap() {
            assert_eq!(shown[field], *value, "{field} of {name}");
        }
        assert!(shown["system_identifier"].as_str().is_some_and(|text| text.parse::<u64>().is_ok()), "{shown}");
        assert!(shown["files"].as_u64().is_some_and(|files| files > 100) && shown["major"].is_u64(), "{shown}");
        assert_eq!((&shown["tablespaces"], &shown["damaged"]), (&serde_json::json!([]), &serde_json::json!([])));
        let text = cluster.run(&["show", name]).done().stdout;
        assert!(text.starts_with(name) && text.contains("system identifier ") && text.contains(" on timeline 1"), "{text}");
    }
    let names = backups(cluster);
    assert_eq!(cluster.run(&["show", &names[0], "--json"]).done().json()["parent"], names[1]);
}

fn dropped(cluster: &TestCluster) -> Vec<bool> {
    let listed = cluster.run(&["list", "--json"]).done().json();
    listed["backups"].as_array().unwrap().iter().map(|backup| backup["dropped"].as_bool().unwrap()).collect()
}

/// Lines that share one running cluster with three backups.
pub(super) fn journey() -> Vec<Case> {
    vec![
        promise("show of a backup where there is none is not found", &["show", "20200101T000000Z-00000000", "--json"])
            .code(4)
            .error("not_found")
            .value("/remedy", "see `pgpersist list` for those that there are"),
        promise("show of a backup that is not there is not found", &["show", "20200101T000000Z-00000000", "--json"])
            .before(|cluster| {
                for _ in 0..3 {
                    cluster.run(&["backup"]).done();
                }
            })
            .code(4)
            .error("not_found")
            .then(shown),
        promise("a dry run of prune explains backups, too", &["prune", "--keep-last", "2", "--dry-run", "--json"])
            .fields(&["/plan/kept/0/name", "/plan/kept/1/reason", "/plan/dropped/0/name", "/plan/dropped/0/reason"])
            .fields(&["/plan/dropped/0/size_bytes", "/plan/dropped/0/removed_after", "/plan/pending_bytes"])
            .missing(&["/plan/blocked"])
            .missing_place("/plan/dropped/1")
            .then(|cluster| assert_eq!(dropped(cluster), [false, false, false])),
        promise("more than half of the backups at once needs a confirmation", &["prune", "--keep-last", "1", "--json"])
            .code(5)
            .error("unsafe")
            .fields(&["/plan/1"])
            .then(|cluster| assert_eq!(dropped(cluster), [false, false, false])),
        promise("a backup that is dropped stays for a day", &["prune", "--keep-last", "2", "--json"])
            .value("/freed_bytes", 0)
            .fields(&["/dropped/0/name", "/dropped/0/reason", "/dropped/0/removed_after", "/kept/1/name", "/pending_bytes"])
            .missing_place("/dropped/1")
            .then(|cluster| {
                assert_eq!(dropped(cluster), [false, false, true]);
                cluster.run(&["verify"]).done();
            }),
        promise("what waits is told in words", &["prune", "--keep-last", "2"])
            .stdout("can be restored until ")
            .stdout("are freed by a later run, when their time of grace is over"),
        promise("list tells what was dropped in words", &["list"]).stdout("  (dropped by retention)"),
        promise("rules that keep it take it back", &["prune", "--keep-last", "3", "--json"])
            .value("/dropped", serde_json::json!([]))
            .value("/pending_bytes", 0)
            .then(|cluster| assert_eq!(dropped(cluster), [false, false, false])),
    ]
}

#[test]
fn backups_are_dropped_kept_and_shown_as_promised() {
    let cluster = TestCluster::running("");
    travel(&cluster, journey());
}
