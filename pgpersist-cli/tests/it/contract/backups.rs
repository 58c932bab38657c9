//! Promises of `verify` and `prune`, and of `init` where a cluster is known and gone.

use pgpersist_core::data_directory::placement::{self, Verdict};

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

/// Gives the newest dump a copy of each of these days, without a side file, as the old scripts left them.
fn copies(cluster: &TestCluster, days: &[&str]) {
    let dump = std::fs::read(cluster.store().join(name_of_newest(cluster))).unwrap();
    for day in days {
        cluster.scratch.write_bytes(&format!("volume/backups/backup_{day}_000000.sql.gz"), &dump);
    }
}

fn name_of_newest(cluster: &TestCluster) -> String {
    cluster.run(&["show", "latest", "--json"]).done().json()["name"].as_str().unwrap().to_owned()
}

/// Takes the newest dump's permissions away, or gives them back.
fn readable(cluster: &TestCluster, readable: bool) {
    let mode = if readable { 0o640 } else { 0 };
    let path = cluster.store().join(name_of_newest(cluster));
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn dumps(cluster: &TestCluster) -> usize {
    cluster.run(&["list", "--json"]).done().json()["dumps"].as_array().unwrap().len()
}

/// Lines that share one cluster with one configured database and one dump of it.
pub(super) fn journey() -> Vec<Case> {
    vec![
        promise("verify reads every dump, and that of the roles", &["verify", "--json"])
            .value("/objects", 2)
            .value("/damaged", serde_json::json!([]))
            .value("/unreadable", serde_json::json!([]))
            .fields(&["/bytes"]),
        promise("verify looks at one dump", &["verify", "latest", "--quick", "--json"]).value("/objects", 1).fields(&["/bytes"]),
        promise("what cannot be read is told, and the rest is read", &["verify", "--json"])
            .before(|cluster| readable(cluster, false))
            .then(|cluster| readable(cluster, true))
            .code(1)
            .value("/objects", 2)
            .value("/damaged", serde_json::json!([]))
            .value("/unreadable/0/kind", "denied")
            .fields(&["/unreadable/0/name", "/unreadable/0/reason"]),
        promise("verify of what is not there is not found", &["verify", "backup_19990101_000000.sql.gz", "--json"])
            .code(4)
            .error("not_found"),
        promise("prune drops nothing that is young", &["prune", "--json"])
            .value("/dropped", serde_json::json!([]))
            .value("/freed_bytes", 0)
            .fields(&["/kept/0/name", "/kept/0/reason"]),
        promise("a dry run of prune explains every keep and drop", &["prune", "--dry-run", "--json"])
            .before(|cluster| copies(cluster, &["20200101", "20200102", "20200103"]))
            .value("/plan/dropped/0/name", "backup_20200101_000000.sql.gz")
            .fields(&["/plan/kept/0/reason", "/plan/dropped/2/reason", "/plan/freed_bytes"])
            .then(|cluster| assert_eq!(dumps(cluster), 4)),
        promise("more than half at once needs a confirmation", &["prune", "--json"])
            .code(5)
            .error("unsafe")
            .fields(&["/plan/2"])
            .then(|cluster| assert_eq!(dumps(cluster), 4)),
        promise(
            "rules on the command line beat the configuration's",
            &["prune", "--keep-last", "2", "--keep-days", "3650", "--dry-run", "--json"],
        )
        .value("/plan/dropped", serde_json::json!([])),
        promise("a size may have its unit", &["prune", "--keep-days", "3650", "--max-bytes", "10GB", "--dry-run", "--json"])
            .value("/plan/dropped", serde_json::json!([])),
        promise("a count of nothing is told with what helps", &["prune", "--keep-days", "0", "--json"])
            .code(2)
            .error("invalid")
            .value("/remedy", "give --keep-days another value; `--help` tells what it takes"),
        promise("the newest of each day is kept", &["prune", "--keep-days", "1", "--keep-daily", "4", "--dry-run", "--json"])
            .value("/plan/dropped", serde_json::json!([])),
        // These three days are of one week, and of one month.
        promise("the newest of each week is kept", &["prune", "--keep-days", "1", "--keep-weekly", "2", "--dry-run", "--json"])
            .value("/plan/dropped/0/name", "backup_20200101_000000.sql.gz")
            .value("/plan/dropped/1/name", "backup_20200102_000000.sql.gz")
            .missing_place("/plan/dropped/2"),
        promise("the newest of each month is kept", &["prune", "--keep-days", "1", "--keep-monthly", "2", "--dry-run", "--json"])
            .value("/plan/dropped/1/name", "backup_20200102_000000.sql.gz")
            .missing_place("/plan/dropped/2"),
        promise(
            "a limit of bytes drops what other rules keep, but never the newest",
            &["prune", "--keep-days", "3650", "--max-bytes", "1", "--dry-run", "--json"],
        )
        .fields(&["/plan/kept/0/name", "/plan/dropped/2/name", "/plan/freed_bytes"])
        .missing_place("/plan/dropped/3"),
        promise("a confirmed prune drops", &["prune", "--yes", "--json"])
            .fields(&["/kept/0/name", "/kept/0/reason", "/dropped/2/name", "/dropped/0/reason", "/dropped/0/size_bytes", "/freed_bytes"])
            .fields(&["/unfinished_uploads", "/stores/0/unfinished_uploads"])
            .then(|cluster| assert_eq!(dumps(cluster), 1)),
        promise("a damaged dump is 7, and named", &["verify", "--json"])
            .before(|cluster| {
                let name = name_of_newest(cluster);
                let path = cluster.store().join(&name);
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                cluster.scratch.write_bytes(&format!("volume/backups/{name}"), &bytes);
            })
            .code(7)
            .fields(&["/damaged/0/name", "/damaged/0/reason"]),
        promise("a damaged dump is told in words", &["verify"]).code(7).stdout("DAMAGED  backup_").stdout("SHA-256").stderr("backup_"),
        promise("a damaged dump is not loaded", &["load", "latest", "-d", "copy", "--json"]).code(7).error("damaged").then(|cluster| {
            assert_eq!(cluster.databases(), ["customerInvoice"]);
            // What follows needs a good one.
            std::fs::remove_file(cluster.store().join(name_of_newest(cluster))).unwrap();
            cluster.dump(&[]);
            cluster.run(&["stop"]).done();
        }),
        promise("a cluster that is known and whose directory is empty is refused", &["init", "--allow-ephemeral", "--json"])
            .before(|cluster| std::fs::remove_dir(empty(cluster)).unwrap())
            .code(5)
            .error("unsafe")
            .then(|cluster| assert!(!cluster.data().exists())),
        promise("the ways out are named", &["init", "--allow-ephemeral"]).code(5).stderr("--restore-latest").stderr("--new"),
        promise("a dry run of a restore tells the plan", &["init", "--allow-ephemeral", "--restore-latest", "--dry-run", "--json"])
            .value("/plan/action", "restore")
            .fields(&["/plan/dumps/0"]),
        promise("the newest dumps are restored", &["init", "--allow-ephemeral", "--restore-latest", "--json"])
            .value("/action", "restored")
            .value("/data_directory", "{dir}/volume/data")
            .fields(&["/system_identifier", "/version"])
            .then(restored),
        restored_unasked(),
        promise("a new beginning is a cluster without the old one's data", &["init", "--allow-ephemeral", "--new", "--json"])
            .value("/action", "created")
            .then(|cluster| assert_eq!(dumps(cluster), 1)),
    ]
}

/// Looks at what was restored, and takes it away for the next line.
fn restored(cluster: &TestCluster) {
    cluster.run(&["start"]).done();
    assert_eq!(cluster.sql("customerInvoice", "SELECT sum(amount) FROM orders"), "36");
    cluster.run(&["stop"]).done();
    std::fs::remove_dir(empty(cluster)).unwrap();
}

/// Restoring unasked needs a place that is proven to last, which the tests' own scratch folder may be or not.
fn restored_unasked() -> Case {
    let lasts = placement::of(&std::env::temp_dir()).is_ok_and(|placement| placement.verdict == Verdict::Persistent);
    let init = |promised| promise(promised, &["init", "--allow-ephemeral", "--json"]).variable("PGPERSIST_CLUSTER_WHEN_MISSING", "restore");
    if lasts {
        init("when the configuration says so, what is missing is restored").value("/action", "restored").then(restored)
    } else {
        init("what is missing is not restored unasked where it would not last").code(5).error("unsafe")
    }
}

/// Takes the cluster away, as a volume that is gone does, and returns the folder that is left.
fn empty(cluster: &TestCluster) -> std::path::PathBuf {
    let gone = cluster.scratch.folder("gone");
    let fresh = tempfile::tempdir_in(gone).unwrap().keep();
    for entry in std::fs::read_dir(cluster.data()).unwrap() {
        let entry = entry.unwrap();
        assert!(std::process::Command::new("mv").arg(entry.path()).arg(&fresh).status().unwrap().success());
    }
    cluster.data()
}

#[test]
fn dumps_are_verified_pruned_and_restored_as_promised() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n[retention]\nkeep_days = 7\n");
    cluster.fill("customerInvoice");
    cluster.dump(&[]);
    travel(&cluster, journey());
}
