//! The main story, in each cloud: dump, list, verify, prune, and back into a database after everything else is gone.

use std::io::Write;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::clouds::{one_of_each, run_with};
use crate::support::cluster::TestCluster;
use crate::support::stores::StoreServer;
use crate::support::stores::rclone::Rclone;

pub(super) const ORDERS: &str = "SELECT count(*) || ' ' || md5(string_agg(orders::text, ',' ORDER BY id)) FROM orders";

/// Rows that hardly compress, so that a dump has several parts.
pub(super) fn fill(cluster: &TestCluster, rows: u32) {
    cluster.sql("postgres", "CREATE DATABASE \"customerInvoice\"");
    cluster.sql(
        "customerInvoice",
        &format!(
            "CREATE TABLE orders AS SELECT n AS id, sha512(n::text::bytea) AS noise FROM generate_series(1, {rows}) n;
             ALTER TABLE orders ADD PRIMARY KEY (id)"
        ),
    );
}

fn tell(cluster: &TestCluster, server: &StoreServer) {
    let url = server.bare_url_at(&server.endpoint(), "teams/db 1/prod").replace(' ', "%20");
    let run = |arguments: &[&str]| run_with(&cluster.scratch, server, &url, arguments);
    let before = cluster.sql("customerInvoice", ORDERS);
    let databases = cluster.databases();

    let planned = run(&["dump", "--dry-run"]).done();
    assert!(planned.stdout.contains("customerInvoice"), "{planned:?}");
    let first = run(&["dump", "--json"]).done().json();
    let second = run(&["dump", "--json", "--verbose"]).done().json();
    let (first, name) = (first["name"].as_str().unwrap(), second["name"].as_str().unwrap());
    assert!(second["size_bytes"].as_u64().unwrap() > 9 << 20, "{second} has a single part");

    let listed = run(&["list", "--json"]).done().json();
    let names: Vec<&str> = listed["dumps"].as_array().unwrap().iter().map(|dump| dump["name"].as_str().unwrap()).collect();
    assert_eq!(names, [name, first], "{listed}");
    assert!(listed["dumps"].as_array().unwrap().iter().all(|dump| dump["state"] == "complete"), "{listed}");
    assert!(run(&["list"]).done().stdout.contains(name));
    run(&["verify"]).done();

    // Somebody else's program finds it where the address says, and gzip and sha256sum agree.
    if let Some(rclone) = Rclone::find() {
        let bytes = rclone.of(server).cat(&format!("teams/db 1/prod/{name}"));
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(second["sha256"], sum.as_str());
        let mut gunzip = Command::new("gunzip").arg("-t").stdin(Stdio::piped()).spawn().unwrap();
        gunzip.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(gunzip.wait().unwrap().success());
    }

    // What is thrown away is shown first, and only then gone.
    run(&["prune", "--keep-last", "1", "--dry-run"]).done();
    assert_eq!(run(&["list", "--json"]).done().json()["dumps"].as_array().unwrap().len(), 2);
    run(&["prune", "--keep-last", "1", "--yes"]).done();
    let listed = run(&["list", "--json"]).done().json();
    assert_eq!((listed["dumps"].as_array().unwrap().len(), &listed["dumps"][0]["name"]), (1, &second["name"]), "{listed}");

    // The database is gone, and comes back from the bucket alone.
    cluster.sql("postgres", "DROP DATABASE \"customerInvoice\"");
    run(&["load", "latest", "-d", "customerInvoice"]).done();
    assert_eq!(cluster.sql("customerInvoice", ORDERS), before);
    assert_eq!(cluster.databases(), databases);
    run(&["load", name, "-d", "again"]).done();
    assert_eq!(cluster.sql("again", ORDERS), before);
    cluster.sql("postgres", "DROP DATABASE again");
    run(&["load", first, "-d", "again"]).refused(4, &[first]);
}

#[test]
fn a_database_comes_back_from_each_cloud() {
    let servers = one_of_each();
    if servers.is_empty() {
        return;
    }
    let cluster = TestCluster::running("");
    fill(&cluster, 150_000);
    for server in &servers {
        tell(&cluster, server);
    }
}
