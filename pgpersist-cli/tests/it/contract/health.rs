//! Promises of `health`.

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

/// Lines without a cluster.
pub(super) fn table() -> Vec<Case> {
    vec![
        promise("health of an absent directory fails and still has a line for each finding", &["health", "-D", "{dir}/absent"])
            .code(1)
            .stdout("PostgreSQL Health Check\n==================================\n✗ Data directory: there is no data directory at {dir}/absent\n")
            .stdout("✗ Server: not running")
            .stdout("? Connections: not known")
            .stdout("! Backups: no store is named")
            .stdout("\n? Transaction IDs: "),
        promise("health --json has its promised fields", &["health", "--json", "-D", "{dir}/absent"]).code(1).fields(&[
            "/status",
            "/time",
            "/findings/0/name",
            "/findings/0/status",
            "/findings/0/summary",
            "/findings/0/observed",
            "/findings/0/remedy",
        ]),
        promise("health for Prometheus is in its text format", &["health", "--format", "prometheus", "-D", "{dir}/absent"])
            .code(1)
            .stdout("# TYPE pgpersist_health_status gauge\npgpersist_health_status{name=\"data_directory\"} 2\n"),
        promise("health for Nagios has its exit code", &["health", "--format", "nagios", "-D", "{dir}/absent"])
            .code(2)
            .stdout("PGPERSIST CRITICAL - "),
        promise("health for Nagios that cannot be asked is unknown to it", &["health", "--format", "nagios"])
            .code(3)
            .stdout("PGPERSIST UNKNOWN - no data directory is named"),
        promise("health without a directory is invalid", &["health"]).code(2).stderr("error: no data directory is named"),
    ]
}

/// Lines that share one cluster.
pub(super) fn journey() -> Vec<Case> {
    vec![
        promise("health of a running cluster passes or warns", &["health", "--json"])
            .fields(&["/status", "/findings/0/name", "/findings/0/status", "/findings/0/summary"])
            .value("/findings/0/name", "data_directory")
            .value("/findings/0/status", "pass"),
        promise("health tells the rows of a table", &["health", "--table", "orders"])
            .stdout("\u{2713} Database customerInvoice: accessible (orders: 8 rows)\n"),
        promise("health has the findings of the contract, in their order", &["health", "--format", "prometheus"])
            .stdout("{name=\"server\"} 0\n")
            .stdout("{name=\"connection\"} 0\n")
            .stdout("{name=\"database:customerInvoice\"} 0\n")
            .stdout("{name=\"settings\"} 0\n")
            .stdout("{name=\"dumps\"} 0\n")
            .stdout("{name=\"transaction_ids\"} 0\n"),
        promise("health of a stopped server fails", &["health", "--json"])
            .before(|cluster| drop(cluster.run(&["stop"]).done()))
            .code(1)
            .value("/status", "fail"),
        promise("a stopped server is critical to Nagios", &["health", "--format", "nagios"]).code(2).stdout("PGPERSIST CRITICAL - "),
    ]
}

#[test]
fn health_reports_as_promised() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    cluster.fill("customerInvoice");
    cluster.dump(&[]);
    travel(&cluster, journey());
}
