//! Promises of `backup` and `restore`, and of `list` and `verify` where there are physical backups.

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

fn backups(cluster: &TestCluster) -> Vec<String> {
    let listed = cluster.run(&["list", "--json"]).done().json();
    listed["backups"].as_array().unwrap().iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
}

/// Changes a byte in a pack of the newest backup.
fn damage(cluster: &TestCluster) {
    let folder = cluster.store().join(".pgpersist/main/repository/packs").join(&backups(cluster)[0]);
    let pack = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100] ^= 0xff;
    let relative = pack.strip_prefix(cluster.scratch.path()).unwrap().to_str().unwrap().to_owned();
    cluster.scratch.write_bytes(&relative, &bytes);
}

/// Lines that share one running cluster with a database of orders.
pub(super) fn journey() -> Vec<Case> {
    let elsewhere = "{dir}/volume/restored";
    vec![
        promise("restore without a backup is not found", &["restore", "-D", "{dir}/volume/none", "--json"])
            .code(4)
            .error("not_found")
            .value("/remedy", "make one with `pgpersist backup`"),
        promise("a dry run of backup has a plan", &["backup", "--dry-run", "--json"])
            .fields(&["/plan/0"])
            .then(|cluster| assert!(backups(cluster).is_empty())),
        promise("backup has its promised fields", &["backup", "--label", "the first", "--json"])
            .fields(&["/name", "/size_bytes", "/stored_bytes", "/new_bytes", "/duration_s", "/started_at", "/start_lsn", "/stop_lsn"])
            .fields(&["/phases/start_s", "/phases/copy_s", "/phases/stop_s", "/phases/publish_s"])
            .fields(&["/phases/effort/read_s", "/phases/effort/verify_s", "/phases/effort/hash_s", "/phases/effort/compress_s"])
            .fields(&["/phases/effort/wait_s", "/phases/effort/put_s", "/phases/effort/fsync_s"])
            .value("/unread_bytes", 0)
            .value("/damaged", serde_json::json!([])),
        promise("backup is told in words", &["backup", "--compression", "lz4", "--jobs", "1", "--rate-limit", "1GB", "--full-read"])
            .stdout(" in the store, ")
            .stdout(" of it new) in ")
            .stderr("reading {dir}/volume/data"),
        promise("an unknown compression is invalid", &["backup", "--compression", "zip"]).code(2).stderr("zip"),
        promise("a rate limit of nothing is invalid", &["backup", "--rate-limit", "0"]).code(2).stderr("nothing would ever be read"),
        promise("list has the backups", &["list", "--json"])
            .fields(&[
                "/backups/0/name",
                "/backups/0/started_at",
                "/backups/0/size_bytes",
                "/backups/0/stored_bytes",
                "/backups/0/new_bytes",
            ])
            .fields(&["/backups/1/start_lsn", "/backups/1/stop_lsn"])
            .value("/backups/1/label", "the first")
            .missing_place("/backups/2"),
        promise("list tells the backups in words", &["list"]).stdout("whole cluster").stdout("the first"),
        promise("verify looks at every object of the backups", &["verify", "--json"])
            .value("/damaged", serde_json::json!([]))
            .fields(&["/objects", "/bytes"]),
        promise("verify of a backup that is not there is not found", &["verify", "20200101T000000Z-00000000", "--json"])
            .code(4)
            .error("not_found"),
        promise("restore of a name that is none is invalid", &["restore", "yesterday", "-D", elsewhere, "--json"]).code(2).error("invalid"),
        promise("restore over a cluster is refused", &["restore", "--json"]).code(5).error("unsafe"),
        promise("a dry run of restore has a plan and makes nothing", &["restore", "latest", "-D", elsewhere, "--dry-run", "--json"])
            .fields(&["/plan/0"])
            .then(|cluster| assert!(!cluster.scratch.join("volume/restored").exists())),
        promise("restore has its promised fields", &["restore", "-D", elsewhere, "--json"])
            .fields(&["/name", "/duration_s", "/bytes", "/files"])
            .value("/data_directory", elsewhere)
            .value("/verified", true)
            .then(started_elsewhere),
        promise("a backup of a server that is down is unavailable", &["backup", "--json"])
            .before(|cluster| drop(cluster.run(&["stop"]).done()))
            .code(6)
            .error("unavailable"),
        promise("a damaged pack is 7, and named with the backups that need it", &["verify", "--json"])
            .before(damage)
            .code(7)
            .fields(&["/damaged/0/name", "/damaged/0/reason"]),
        promise("a damaged pack is told in words", &["verify"])
            .code(7)
            .stdout("DAMAGED  .pgpersist/main/repository/packs/")
            .stdout("needed by ")
            .stderr("looking at "),
    ]
}

/// What was restored starts, and has the orders; then it goes, for the next line.
fn started_elsewhere(cluster: &TestCluster) {
    let data = cluster.scratch.join("volume/restored");
    let data = data.to_str().unwrap();
    cluster.run(&["stop"]).done();
    cluster.run(&["start", "-D", data]).done();
    assert_eq!(cluster.sql("customerInvoice", "SELECT sum(amount) FROM orders"), "36");
    cluster.run(&["stop", "-D", data]).done();
    cluster.run(&["start"]).done();
}

#[test]
fn a_cluster_is_backed_up_and_restored_as_promised() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    cluster.fill("customerInvoice");
    travel(&cluster, journey());
}
