//! Promises of `restore` where there are tablespaces or a cluster in the way, and of `init` where there are backups.

use pgpersist_core::fs::durable;
use serde_json::json;

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;
use crate::support::mount::Mount;

/// A table in a tablespace of its own, and a backup.
fn back_up(cluster: &TestCluster) {
    let space = cluster.scratch.folder("volume/space");
    cluster.sql("postgres", &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    cluster.sql("customerInvoice", "CREATE TABLE elsewhere TABLESPACE space AS SELECT i FROM generate_series(1, 100) i");
    cluster.run(&["backup"]).done();
}

/// The cluster starts, and has what was backed up; then it is stopped.
fn has_all(cluster: &TestCluster) {
    cluster.start();
    assert_eq!(cluster.sql("customerInvoice", "SELECT sum(amount) FROM orders"), "36");
    assert_eq!(cluster.sql("customerInvoice", "SELECT count(*) FROM elsewhere"), "100");
    cluster.run(&["stop"]).done();
}

fn is_replaced(cluster: &TestCluster) {
    let names = std::fs::read_dir(cluster.scratch.join("volume")).unwrap();
    let kept = names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with("data.before_restore_"));
    assert_eq!(kept.count(), 1);
    has_all(cluster);
}

/// The volume is lost: data directory and tablespaces, and what told of them.
fn lose_everything(cluster: &TestCluster) {
    for name in ["data", "space", "space2", ".pgpersist"] {
        durable::remove_tree(&cluster.scratch.join("volume").join(name)).unwrap();
    }
}

/// A pack of the only backup is lost.
fn lose_a_pack(cluster: &TestCluster) {
    let packs = cluster.scratch.join("volume/backups/.pgpersist/main/repository/packs");
    let run = std::fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    durable::remove_file(&run.join("000000.pack")).unwrap();
}

/// Lines that share one running cluster with a database of orders.
pub(super) fn journey() -> Vec<Case> {
    let elsewhere = "{dir}/volume/restored";
    let mapping = "space={dir}/volume/space2";
    vec![
        promise("a tablespace goes nowhere where anything is", &["restore", "-D", elsewhere, "--json"])
            .before(back_up)
            .code(5)
            .error("unsafe")
            .then(|cluster| assert!(!cluster.scratch.join("volume/restored").exists())),
        promise("a mapping of no tablespace is invalid", &["restore", "-D", elsewhere, "--tablespace", "none=/none", "--json"])
            .code(2)
            .error("invalid"),
        promise("a mapping without a place is invalid", &["restore", "-D", elsewhere, "--tablespace", "space", "--json"])
            .code(2)
            .error("invalid"),
        promise("a plan of restore tells its numbers", &["restore", "-D", elsewhere, "--tablespace", mapping, "--dry-run", "--json"])
            .fields(&["/plan/0", "/plan/1", "/name", "/data_directory", "/files", "/bytes", "/stored_bytes"])
            .fields(&["/space/0/path", "/space/0/free_bytes", "/tablespaces/0/name", "/tablespaces/0/from", "/requires/server_version"])
            .value("/tablespaces/0/to", "{dir}/volume/space2")
            .missing(&["/consent_to", "/kept_aside"])
            .then(|cluster| assert!(!cluster.scratch.join("volume/space2").exists())),
        promise("a plan of restore is told in words", &["restore", "-D", elsewhere, "--tablespace", mapping, "--dry-run"])
            .stdout("make the tablespace space in {dir}/volume/space2, instead of {dir}/volume/space")
            .stdout("What no backup holds\n")
            .stderr("looking at what "),
        promise("a running server's directory is not taken", &["restore", "--in-place", "--tablespace", mapping, "--yes", "--json"])
            .code(5)
            .error("conflict"),
        promise("a cluster makes room only on consent", &["restore", "--in-place", "--tablespace", mapping, "--json"])
            .before(|cluster| drop(cluster.run(&["stop"]).done()))
            .code(5)
            .error("unsafe")
            .fields(&["/plan/0"]),
        promise("a plan of restore in place says so", &["restore", "--in-place", "--tablespace", mapping, "--dry-run", "--json"])
            .fields(&["/kept_aside", "/plan/0"])
            .value("/consent_to", "replacing the cluster in {dir}/volume/data"),
        promise("restore in place keeps the old cluster", &["restore", "--in-place", "--tablespace", mapping, "--yes", "--json"])
            .fields(&["/name", "/kept_aside", "/files", "/bytes"])
            .value("/tablespaces/0/to", "{dir}/volume/space2")
            .value("/configuration", json!([]))
            .then(is_replaced),
        promise("files are changed in place only on consent", &["restore", "--delta", "--json"])
            .code(5)
            .error("unsafe")
            .fields(&["/plan/0"]),
        promise("what no backup holds is given up only by its name", &["restore", "--delta", "--yes", "--json"]).code(5).error("unsafe"),
        promise("a plan of what is changed in place tells what stays", &["restore", "--delta", "--dry-run", "--json"])
            .fields(&["/plan/0", "/kept_aside", "/kept_bytes", "/kept_files", "/written_bytes", "/removed_files"])
            .fields(&["/unshipped_wal/end_lsn", "/unshipped_wal/timeline", "/set_aside/0"])
            .value("/goes_on", false)
            .value("/consent_to", "making the cluster in {dir}/volume/data that of the backup"),
        promise("in place and aside are two things", &["restore", "--delta", "--in-place", "--json"]).code(2).error("invalid"),
        promise("where a log ends is a position", &["restore", "--delta", "--discard-unshipped-wal", "all", "--json"])
            .code(2)
            .error("invalid"),
        promise("nothing is given up where nothing is changed in place", &["restore", "--discard-unshipped-wal", "0/0", "--json"])
            .code(2)
            .error("invalid"),
        promise(
            "a dry run of init tells which backup it restores",
            &["init", "--restore-latest", "--allow-ephemeral", "--dry-run", "--json"],
        )
        .before(lose_everything)
        .value("/plan/action", "restore")
        .fields(&["/plan/backup"]),
        promise("init restores the newest backup", &["init", "--restore-latest", "--allow-ephemeral", "--json"])
            .value("/action", "restored")
            .fields(&["/system_identifier", "/version", "/data_directory"])
            .then(has_all),
        promise("a pack that is gone is told before anything is made", &["restore", "-D", elsewhere, "--tablespace", mapping, "--json"])
            .before(lose_a_pack)
            .code(7)
            .error("damaged")
            .then(|cluster| assert!(!cluster.scratch.join("volume/restored").exists())),
    ]
}

#[test]
fn a_restore_finds_its_place_as_promised() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    cluster.fill("customerInvoice");
    travel(&cluster, journey());
}

#[test]
fn a_delta_restore_gives_up_what_was_named_and_keeps_the_rest() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    cluster.fill("customerInvoice");
    cluster.run(&["backup"]).done();
    cluster.sql("customerInvoice", "DELETE FROM orders");
    let running = cluster.run(&["restore", "--delta", "--yes", "--json"]);
    assert_eq!((running.code, running.error()["kind"].as_str()), (Some(5), Some("conflict")), "{running:?}");
    cluster.run(&["stop"]).done();
    let plan = cluster.run(&["restore", "--delta", "--dry-run", "--json"]).json();
    let end = plan["unshipped_wal"]["end_lsn"].as_str().unwrap().to_owned();
    // A clean shutdown has removed the part of the log that tells how many there were.
    assert_eq!(plan["unshipped_wal"]["timeline"], 1, "{plan}");
    let done = cluster.run(&["restore", "--delta", "--yes", "--discard-unshipped-wal", &end, "--json"]).json();
    assert_eq!(done["verified"], true);
    assert!(done["kept_bytes"].as_u64() > done["written_bytes"].as_u64() && done["damaged"].is_null(), "{done}");
    assert!(std::path::Path::new(done["kept_aside"].as_str().unwrap()).join("pg_wal").is_dir(), "{done}");
    cluster.start();
    assert_eq!(cluster.sql("customerInvoice", "SELECT sum(amount) FROM orders"), "36");
    cluster.run(&["stop"]).done();
}

#[test]
fn what_is_left_of_a_damaged_backup_is_restored_on_consent_and_never_called_good() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    cluster.fill("customerInvoice");
    cluster.run(&["backup"]).done();
    // A byte in the middle of the largest pack, where the pages of databases lie.
    let packs = cluster.scratch.join("volume/backups/.pgpersist/main/repository/packs");
    let run = std::fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    let packs = std::fs::read_dir(run).unwrap().map(|pack| pack.unwrap().path());
    let pack = packs.max_by_key(|pack| std::fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::io::Write::write_all(&mut std::fs::File::create(&pack).unwrap(), &bytes).unwrap();
    let elsewhere = "{dir}/volume/restored";
    let unasked = cluster.run(&["restore", "-D", elsewhere, "--without-damaged", "--json"]);
    assert_eq!((unasked.code, unasked.error()["kind"].as_str()), (Some(5), Some("unsafe")), "{unasked:?}");
    let run = cluster.run(&["restore", "-D", elsewhere, "--without-damaged", "--yes", "--json"]);
    assert_eq!(run.code, Some(7), "{run:?}");
    let done = run.json();
    assert_eq!(done["verified"], false);
    assert!(done["damaged"][0]["path"].is_string() && done["damaged"][0]["blocks"][0][1].is_u64(), "{done}");
}

#[test]
fn where_there_is_no_room_nothing_is_made() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    let Some(_small) = Mount::new(&cluster.scratch.join("small"), 20 << 10) else { return };
    cluster.run(&["backup"]).done();
    for more in [&["--dry-run"][..], &[]] {
        let run = cluster.run(&[&["restore", "-D", "{dir}/small/data", "--json"], more].concat());
        assert_eq!(run.code, Some(6), "{run:?}");
        let error = run.error();
        assert_eq!(error["kind"], "unavailable");
        assert!(error["error"].as_str().unwrap().contains("bytes) are free there"), "{error}");
        assert_eq!(std::fs::read_dir(cluster.scratch.join("small")).unwrap().count(), 0);
    }
}
