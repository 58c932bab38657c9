//! Promises of `export`. The judge is PostgreSQL's own `pg_verifybackup`.

use std::process::Command;

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;
use crate::support::{judge, volume};

/// What was exported is accepted.
fn accepted(cluster: &TestCluster, folder: &str) {
    volume::must(judge::program("pg_verifybackup").arg(cluster.scratch.join(folder)));
}

fn unpack(cluster: &TestCluster, archive: &str, folder: &str) {
    let folder = cluster.scratch.folder(folder);
    volume::must(Command::new("tar").arg("--extract").arg("--directory").arg(&folder).arg("--file").arg(cluster.scratch.join(archive)));
    judge::give(&folder);
}

/// A tar that goes to whoever reads it, which is nothing for a line of text.
fn streamed(cluster: &TestCluster) {
    let script =
        format!("'{}' export latest --tar - 2>/dev/null | tar --extract --directory volume/streamed", env!("CARGO_BIN_EXE_pgpersist"));
    cluster.scratch.folder("volume/streamed");
    let mut shell = Command::new("sh");
    cluster.scratch.prepare(&mut shell);
    volume::must(shell.arg("-c").arg(script));
    judge::give(&cluster.scratch.join("volume/streamed"));
    accepted(cluster, "volume/streamed");
}

/// Lines that share one running cluster with a database of orders.
pub(super) fn journey() -> Vec<Case> {
    let (directory, archive) = ("{dir}/volume/exported", "{dir}/volume/exported.tar");
    vec![
        promise("export without a backup is not found", &["export", "latest", directory, "--json"])
            .code(4)
            .error("not_found")
            .value("/remedy", "make one with `pgpersist backup`"),
        promise("export wants a place", &["export", "latest"]).code(2).stderr("<DIR>"),
        promise("export wants one place", &["export", "latest", directory, "--tar", archive]).code(2).stderr("--tar"),
        promise("a document and a tar do not share the standard output", &["export", "latest", "--tar", "-", "--json"])
            .before(|cluster| drop(cluster.run(&["backup"]).done()))
            .code(2)
            .error("invalid"),
        promise("export of a name that is none is invalid", &["export", "yesterday", directory, "--json"]).code(2).error("invalid"),
        promise("export of a backup that is not there is not found", &["export", "20200101T000000Z-00000000", directory, "--json"])
            .code(4)
            .error("not_found"),
        promise("a dry run of export has a plan and makes nothing", &["export", "latest", directory, "--dry-run", "--json"])
            .fields(&["/plan/0"])
            .then(|cluster| assert!(!cluster.scratch.join("volume/exported").exists())),
        promise("export has its promised fields", &["export", "latest", directory, "--json"])
            .fields(&["/name", "/bytes", "/files", "/duration_s"])
            .value("/path", directory)
            .then(|cluster| accepted(cluster, "volume/exported")),
        promise("export over anything is refused", &["export", "latest", directory, "--json"]).code(5).error("unsafe"),
        promise("a backup is exported as tar", &["export", "latest", "--tar", archive]).stdout("Exported ").stderr("exporting ").then(
            |cluster| {
                unpack(cluster, "volume/exported.tar", "volume/unpacked");
                accepted(cluster, "volume/unpacked");
                streamed(cluster);
            },
        ),
        promise("a file that is there is not replaced", &["export", "latest", "--tar", archive, "--json"]).code(5).error("unsafe"),
    ]
}

#[test]
fn a_backup_is_exported_as_promised() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    cluster.fill("customerInvoice");
    travel(&cluster, journey());
}
