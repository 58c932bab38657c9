//! Promises about several stores: `sync`, and what other commands do where there are copies.

use std::fs;

use serde_json::json;

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;
use crate::support::volume::must;

/// Lines without a cluster.
pub(super) fn table() -> Vec<Case> {
    const TWO: &str = "[[store]]\nurl = 'here'\n[[store]]\nurl = 'there'\nkeep_monthly = 12\n";
    vec![
        promise("sync without a store is invalid", &["sync", "--json"]).code(2).error("invalid"),
        promise("sync with one store has nothing to copy to", &["sync", "--store", "{dir}/here"]).code(2).stderr("no second store"),
        promise("two empty stores are up to date", &["sync", "--json"])
            .file(TWO)
            .value("/stores/0/place", 2)
            .value("/stores/0/store", "{dir}/there")
            .value("/stores/0/copied", 0)
            .value("/stores/0/bytes", 0)
            .value("/stores/0/behind", 0)
            .value("/stores/0/conflicts", json!([]))
            .value("/stores/0/damaged", json!([]))
            .missing(&["/stores/0/error", "/stores/0/kind", "/stores/0/remedy"]),
        promise("a dry run of sync tells each store's plan", &["sync", "--dry-run", "--json"])
            .file(TWO)
            .value("/plan/stores/0/place", 2)
            .value("/plan/stores/0/copies", json!([]))
            .value("/plan/stores/0/left_out", json!([])),
        promise("a store is named by its place", &["list", "--store", "2", "--json"])
            .file(TWO)
            .code(3)
            .value("/stores/0/store", "{dir}/there"),
        promise("a place that is none is invalid", &["list", "--store", "3", "--json"]).file(TWO).code(2).error("invalid"),
        promise("a store keeps by its own rules", &["prune", "--dry-run", "--json"])
            .file(TWO)
            .code(3)
            .value("/plan/kept", json!([]))
            .value("/plan/stores/1/store", "{dir}/there")
            .missing(&["/plan/stores/1/error"]),
        promise("a rule that is mistyped in a store is told with the right one", &["config", "check"])
            .file("[[store]]\nurl = 'here'\nkeep_montly = 12\n")
            .code(2)
            .stderr("did you mean `keep_monthly`?"),
    ]
}

fn offsite(cluster: &TestCluster) -> std::path::PathBuf {
    cluster.scratch.join("volume/offsite")
}

fn shell(cluster: &TestCluster, script: &str) -> String {
    must(std::process::Command::new("sh").args(["-c", script, "sh"]).arg(cluster.store()).arg(offsite(cluster)))
}

fn newest(cluster: &TestCluster) -> String {
    cluster.run(&["show", "latest", "--json"]).json()["name"].as_str().unwrap().to_owned()
}

/// Turns one bit of the newest dump in the first store around.
fn damage(cluster: &TestCluster) {
    let name = format!("volume/backups/{}", newest(cluster));
    let mut bytes = fs::read(cluster.scratch.join(&name)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    cluster.scratch.write_bytes(&name, &bytes);
}

/// Lines that share one cluster with one configured database and two stores, the second one with rules of its own.
pub(super) fn journey() -> Vec<Case> {
    vec![
        promise("a dump goes to the copies, too", &["dump", "--json"])
            .value("/copies/0/place", 2)
            .value("/copies/0/copied", 2)
            .value("/copies/0/behind", 0)
            .missing(&["/copies/0/error"])
            .then(|cluster| assert_eq!(shell(cluster, "diff -r --exclude=leases \"$1\" \"$2\" | grep -v place.json || true"), "")),
        promise("list tells which stores have a dump", &["list", "--json"])
            .value("/dumps/0/stores", json!([1, 2]))
            .value("/stores/1/place", 2)
            .missing(&["/stores/0/error", "/stores/1/error"]),
        promise("and so it does in words", &["list"]).stdout("  [1 2]\n"),
        promise("show tells it, too", &["show", "latest", "--json"]).value("/stores", json!([1, 2])),
        promise("health has a finding for each store", &["health", "--json"])
            .value("/findings/5/name", "dumps")
            .value("/findings/6/name", "backups")
            .value("/findings/7/name", "store:1")
            .value("/findings/8/name", "store:2")
            .value("/findings/8/status", "pass")
            .value("/findings/8/observed/behind", 0)
            .value("/findings/8/observed/behind_s", 0)
            .value("/findings/8/observed/writable", true)
            .value("/findings/9/name", "last_drill"),
        promise("a copy that is down is a warning of the dump", &["dump", "--json"])
            .before(|cluster| drop(shell(cluster, "mv \"$2\" \"$2.away\" && echo 'no folder' >\"$2\"")))
            .code(3)
            .fields(&["/name", "/warnings/0", "/copies/0/error"])
            .value("/copies/0/kind", "invalid"),
        promise("sync names the copy that failed, and why", &["sync", "--json"])
            .code(2)
            .value("/stores/0/kind", "invalid")
            .fields(&["/stores/0/error", "/stores/0/remedy"])
            .missing(&["/stores/0/behind"]),
        promise("list goes on without it", &["list", "--json"]).code(3).value("/dumps/0/stores", json!([1])).fields(&["/stores/1/error"]),
        promise("what it lacks is told", &["sync", "--dry-run"])
            .before(|cluster| drop(shell(cluster, "rm \"$2\" && mv \"$2.away\" \"$2\"")))
            .stdout("Would copy globals_")
            .stdout("Would copy backup_"),
        promise("sync brings it up to date", &["sync", "--json"]).value("/stores/0/copied", 2).value("/stores/0/behind", 0),
        promise("a damaged dump is told with the store where it is whole", &["verify", "--json"])
            .before(damage)
            .code(7)
            .value("/damaged/0/store", "{dir}/volume/backups")
            .value("/damaged/0/whole_in/0", "{dir}/volume/offsite")
            .missing_place("/damaged/1"),
        promise("and is loaded from there, which is a warning", &["load", "latest", "-d", "second", "--json"])
            .code(3)
            .value("/verified", true)
            .fields(&["/warnings/0"])
            .then(|cluster| assert_eq!(cluster.sql("second", "SELECT sum(amount) FROM orders"), "36")),
        promise("one store alone is what an option says", &["load", "latest", "-d", "third", "--store", "1", "--json"])
            .code(7)
            .error("damaged"),
        promise("and a drill proves the one that is whole", &["drill", "restore", "--json"])
            .code(3)
            .value("/verdict", "pass")
            .fields(&["/notes/0"]),
        promise("a copy that is gone may be a volume that is not mounted", &["sync", "--json"])
            .before(|cluster| drop(shell(cluster, "rm -r \"$2\"")))
            .code(5)
            .value("/stores/0/kind", "unsafe"),
        promise("once somebody says so, it is made anew; what is damaged is not copied", &["sync", "--yes", "--json"])
            .code(7)
            .value("/stores/0/copied", 3)
            .value("/stores/0/behind", 0)
            .fields(&["/stores/0/damaged/0/name", "/stores/0/damaged/0/reason"]),
        promise("a damaged dump that no store has whole is damaged", &["load", "latest", "-d", "fourth", "--json"])
            .code(7)
            .error("damaged"),
        promise("something else under a dump's name is left alone", &["sync", "--json"])
            .before(|cluster| {
                let name = newest(cluster);
                fs::remove_file(cluster.store().join(&name)).unwrap();
                fs::remove_file(cluster.store().join(format!("{name}.json"))).unwrap();
                let name = newest(cluster);
                cluster.scratch.write_bytes(&format!("volume/offsite/{name}"), &fs::read(cluster.scratch.join("pgpersist.toml")).unwrap());
            })
            .code(5)
            .fields(&["/stores/0/conflicts/0/name", "/stores/0/conflicts/0/reason"]),
        promise("prune goes by each store's own rules", &["prune", "--yes", "--json"])
            .before(|cluster| {
                drop(shell(cluster, "rm -r \"$2\""));
                cluster.run(&["sync", "--yes"]).done();
                cluster.dump(&[]);
                cluster.dump(&[]);
            })
            .fields(&["/kept/0/name", "/dropped/0/name", "/freed_bytes", "/stores/1/kept/0/name"])
            .value("/stores/0/place", 1)
            .value("/stores/1/place", 2)
            .missing(&["/stores/0/error", "/stores/1/error"]),
        promise("what a copy lacks and would keep is not dropped", &["prune", "--store", "1", "--yes", "--json"])
            .before(|cluster| {
                drop(shell(cluster, "mv \"$2\" \"$2.away\""));
                cluster.run(&["dump"]);
            })
            .value("/dropped", json!([]))
            .then(|cluster| drop(shell(cluster, "rm -rf \"$2\" && mv \"$2.away\" \"$2\""))),
        promise("where the first store is lost, its copy is loaded", &["load", "latest", "-d", "fifth", "--json"])
            .before(|cluster| {
                cluster.run(&["sync"]).done();
                drop(shell(cluster, "rm -r \"$1\""));
            })
            .code(3)
            .value("/verified", true)
            .then(|cluster| assert_eq!(cluster.sql("fifth", "SELECT sum(amount) FROM orders"), "36")),
        promise("and nothing is taken from the copy", &["sync", "--json"]).code(5).value("/stores/0/kind", "unsafe"),
        promise("it is filled from its copy, with what its own rules keep", &["sync", "--store", "2", "--store", "1", "--yes", "--json"])
            .value("/stores/0/store", "{dir}/volume/backups")
            .value("/stores/0/behind", 0)
            .then(|cluster| {
                assert_eq!(shell(cluster, "diff -r --exclude=leases \"$1\" \"$2\" | grep -v '^Only in .*/offsite' || true"), "")
            }),
    ]
}

#[test]
fn several_stores_do_as_promised() {
    let cluster = TestCluster::running(
        "databases = [\"customerInvoice\"]\n[[store]]\nurl = \"{dir}/volume/offsite\"\nkeep_last = 30\n[retention]\nkeep_last = 1\n",
    );
    cluster.fill("customerInvoice");
    travel(&cluster, journey());
}
