//! Credentials that may neither delete nor replace, on a server that is as strict about it as Google: all but `prune` works.

use serde_json::Value;

use crate::clouds::run_with;
use crate::clouds::story::{ORDERS, fill};
use crate::support::cluster::TestCluster;
use crate::support::scratch::Run;
use crate::support::stores::{BUCKET, gcs};

/// What health finds out about the store.
fn is_writable(health: &Value) -> bool {
    let findings = health["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["name"] == "store:1").unwrap_or_else(|| panic!("no store in {health}"));
    assert_ne!(finding["status"], "fail", "{finding}");
    finding["observed"]["writable"] == true
}

#[test]
fn who_only_writes_can_do_all_but_prune() {
    let Some(server) = gcs::start() else { return };
    gcs::may_delete(&server, false);
    let cluster = TestCluster::running("");
    fill(&cluster, 150_000);
    let before = cluster.sql("customerInvoice", ORDERS);
    let address = |prefix: &str| server.bare_url_at(&server.endpoint(), prefix);
    let (url, copy) = (address("prod"), address("copy"));
    let run = |arguments: &[&str]| run_with(&cluster.scratch, &server, &url, arguments);
    let at_the_copy = |arguments: &[&str]| run_with(&cluster.scratch, &server, &copy, arguments);
    let count = |run: &dyn Fn(&[&str]) -> Run| {
        let listed = run(&["list", "--json"]).done().json();
        let dumps = listed["dumps"].as_array().unwrap();
        assert!(dumps.iter().all(|dump| dump["state"] == "complete"), "{listed}");
        dumps.len()
    };

    let mut name = String::new();
    // The second sync meets what the first has left of its lease. Each dump has its roles beside it.
    for _ in 0..2 {
        let dumped = run(&["dump", "--json"]).done().json();
        assert!(dumped["size_bytes"].as_u64().unwrap() > 9 << 20, "{dumped} has a single part");
        dumped["name"].as_str().unwrap().clone_into(&mut name);
        let synced = at_the_copy(&["sync", "--json", "--store", &url]).done().json();
        assert_eq!(synced["stores"][0]["copied"], 2, "{synced}");
    }
    assert_eq!(count(&run), 2);
    run(&["verify"]).done();
    for _ in 0..2 {
        assert!(is_writable(&run(&["health", "--json"]).json()));
    }
    assert_eq!(count(&at_the_copy), 2);
    at_the_copy(&["verify"]).done();

    cluster.sql("postgres", "DROP DATABASE \"customerInvoice\"");
    run(&["load", &name, "-d", "customerInvoice"]).done();
    at_the_copy(&["load", &name, "-d", "again"]).done();
    for database in ["customerInvoice", "again"] {
        assert_eq!(cluster.sql(database, ORDERS), before, "{database}");
    }

    // What was uploaded in parts stays where it lay until it had its name: that is what such credentials cost there.
    let hidden = server.plain("GET", &format!("/{BUCKET}?prefix=prod/.pgpersist/uploads/"), &[], "");
    assert_eq!(hidden.matches("<Key>").count(), 2, "{hidden}");

    let prune = ["prune", "--keep-last", "1", "--yes", "--json"];
    let refused = run(&prune);
    assert_eq!((refused.code, refused.error()["kind"].as_str()), (Some(1), Some("denied")), "{refused:?}");
    assert_eq!(count(&run), 2, "something was dropped");
    let checked = run(&["store", "check", "--no-throughput", "--json"]);
    assert_eq!((checked.code, checked.json()["fitness"].as_str()), (Some(3), Some("weak")), "{checked:?}");

    // Somebody else's credentials may, and find the lease free.
    gcs::may_delete(&server, true);
    assert_eq!(run(&prune).done().json()["dropped"].as_array().unwrap().len(), 2);
    assert_eq!(count(&run), 1);
}
