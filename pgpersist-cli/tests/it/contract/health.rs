//! Promises of `health` and `report`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

/// The findings about a cluster with one database, in the contract's order.
const ORDER: [(&str, &str); 11] = [
    ("/findings/0/name", "data_directory"),
    ("/findings/1/name", "placement"),
    ("/findings/2/name", "server"),
    ("/findings/3/name", "connection"),
    ("/findings/4/name", "database:customerInvoice"),
    ("/findings/5/name", "dumps"),
    ("/findings/6/name", "backups"),
    ("/findings/7/name", "last_drill"),
    ("/findings/8/name", "disk"),
    ("/findings/9/name", "settings"),
    ("/findings/10/name", "transaction_ids"),
];

fn in_order(case: Case) -> Case {
    ORDER.iter().fold(case, |case, (pointer, name)| case.value(pointer, *name))
}

/// Lines without a cluster.
pub(super) fn table() -> Vec<Case> {
    vec![
        promise("health of an absent directory fails and still has a line for each finding", &["health", "-D", "{dir}/absent"])
            .code(1)
            .stdout("PostgreSQL Health Check\n==================================\n✗ Data directory: there is no data directory at {dir}/absent\n")
            .stdout("✗ Server: not running")
            .stdout("? Connections: not known")
            .stdout("! Backups: no store is named")
            .stdout("\n\u{2713} Physical backups: no store is named, so there are none\n")
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
        promise("health for Nagios with a mistaken option is unknown to it", &["health", "--format", "nagios", "--bogus"])
            .code(3)
            .stdout("PGPERSIST UNKNOWN - unexpected argument '--bogus' found\n"),
        promise("health for Nagios with a mistaken configuration is unknown to it", &["health", "--format=nagios"])
            .file("[cluster]\nprot = 1\n")
            .code(3)
            .stdout("PGPERSIST UNKNOWN - {dir}/pgpersist.toml, line 2, `cluster.prot`: unknown key\n"),
        promise("health for Nagios with two formats is unknown to it", &["health", "--format", "nagios", "--json"])
            .code(3)
            .stdout("PGPERSIST UNKNOWN - "),
        promise("a plan is no answer for Nagios", &["health", "--format", "nagios", "--dry-run", "-D", "{dir}/absent"])
            .code(3)
            .stdout("PGPERSIST UNKNOWN - "),
        promise("a report of an absent directory says what is not known", &["report", "--json", "-D", "{dir}/absent"])
            .code(3)
            .fields(&["/time", "/program_version", "/host", "/cluster/name", "/cluster/data_directory", "/cluster/own_folder", "/status"])
            .fields(&["/health/status", "/health/findings/0/name", "/recommendations/0/about", "/recommendations/0/advice"])
            .fields(&["/recommendations/0/status", "/gaps/0/part", "/gaps/0/reason", "/warnings/0"])
            .missing(&["/cluster/system_identifier", "/survival", "/retention/next"])
            .value("/dumps", serde_json::json!([]))
            .value("/drills", serde_json::json!([]))
            .value("/retention/meaning", serde_json::json!([])),
        promise("a report is Markdown unless told otherwise", &["report", "-D", "{dir}/absent"])
            .code(3)
            .stdout("<!-- pgpersist report -->\n\n# PostgreSQL cluster main\n")
            .stderr("warning: databases not known: "),
        promise("a report in HTML is one page", &["report", "--format", "html", "-D", "{dir}/absent"])
            .code(3)
            .stdout("<!DOCTYPE html>\n<!-- pgpersist report -->\n<html lang=\"en\">")
            .stderr("warning: databases not known: "),
        promise("a report's file needs a name that says its format", &["report", "--output", "report.txt", "-D", "{dir}/absent"])
            .code(2)
            .stderr("error: the name of the report report.txt says no format"),
        promise("a format of a page is no format of a list", &["list", "--format", "html", "--store", "{dir}"])
            .code(2)
            .stderr("error: this command does not know that format"),
        promise("health without a directory is invalid", &["health"]).code(2).stderr("error: no data directory is named"),
    ]
}

/// Lines that share one cluster.
pub(super) fn journey() -> Vec<Case> {
    vec![
        in_order(promise("health of a running cluster passes or warns, in the contract's order", &["health", "--json"]))
            .fields(&["/status", "/time", "/duration_s", "/findings/0/status", "/findings/0/summary", "/findings/0/observed"])
            .value("/findings/0/status", "pass")
            .missing(&["/findings/0/remedy"])
            .value("/findings/6/status", "pass")
            .value("/findings/6/summary", "none, and none are planned")
            .value("/findings/6/observed/count", 0),
        promise("a store beside the data is a warning, which counts when strict", &["health", "--strict", "--json"])
            .code(1)
            .value("/status", "warn")
            .value("/findings/1/status", "warn")
            .fields(&["/findings/1/remedy"]),
        promise("what cannot be found out is no pass", &["health", "--json", "--store", "{dir}/volume/closed"])
            .before(|cluster| closed(cluster, 0o000))
            .code(1)
            .value("/status", "unknown")
            .value("/findings/5/status", "unknown")
            .value("/findings/6/status", "unknown")
            .then(|cluster| closed(cluster, 0o755)),
        promise("health tells the rows of a table", &["health", "--table", "orders"])
            .stdout("\u{2713} Database customerInvoice: accessible (orders: 8 rows)\n"),
        promise("health for Prometheus has a line for each finding", &["health", "--format", "prometheus"])
            .stdout("{name=\"server\"} 0\n")
            .stdout("{name=\"connection\"} 0\n")
            .stdout("{name=\"database:customerInvoice\"} 0\n")
            .stdout("{name=\"settings\"} 0\n")
            .stdout("{name=\"dumps\"} 0\n")
            .stdout("{name=\"backups\"} 0\n")
            .stdout("{name=\"last_drill\"} 0\n")
            .stdout("{name=\"transaction_ids\"} 0\n"),
        promise("a report has its promised fields", &["report", "--json"])
            .fields(&["/cluster/system_identifier", "/cluster/version", "/databases/0/name", "/databases/0/size_bytes"])
            .fields(&["/databases/0/present", "/databases/0/last_dump_at", "/storage/0/place", "/storage/0/path", "/storage/0/free_bytes"])
            .fields(&["/storage/0/total_bytes", "/dumps/0/name", "/dumps/0/database", "/dumps/0/taken_at", "/dumps/0/size_bytes"])
            .fields(&["/dumps/0/state", "/dumps/0/rows"])
            .missing(&["/dumps/0/reason", "/databases/0/proven_at", "/storage/0/growth_bytes_per_day", "/storage/0/full_in_s"])
            .value("/cluster/state", "running")
            .value("/databases/0/dumps", 1)
            .value("/retention/next/dropped", serde_json::json!([]))
            .value("/settings/fsync", "on")
            .value("/schedules", serde_json::json!([]))
            .value("/gaps", serde_json::json!([])),
        promise("a report goes into a file, whose name says its format", &["report", "--json", "--output", "volume/report.html"])
            .fields(&["/file"]),
        promise("a report replaces a report", &["report", "--output", "volume/report.html"]).stdout("Wrote {dir}/volume/report.html.\n"),
        promise("a report replaces nothing else", &["report", "--output", "volume/notes.md", "--json"])
            .before(|cluster| drop(cluster.scratch.write("volume/notes.md", "# My notes\n")))
            .code(5)
            .error("unsafe"),
        promise("unless it is told to", &["report", "--output", "volume/notes.md", "--yes"]).stdout("Wrote "),
        in_order(promise("health of a stopped server fails, in the same order", &["health", "--json"]))
            .before(|cluster| drop(cluster.run(&["stop"]).done()))
            .code(1)
            .value("/status", "fail"),
        promise("a stopped server is critical to Nagios", &["health", "--format", "nagios"]).code(2).stdout("PGPERSIST CRITICAL - "),
    ]
}

/// A folder for a store that only its permissions keep from being read.
fn closed(cluster: &TestCluster, mode: u32) {
    let path = cluster.scratch.folder("volume/closed");
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn health_reports_as_promised() {
    let cluster = TestCluster::running("databases = [\"customerInvoice\"]\n");
    cluster.fill("customerInvoice");
    cluster.dump(&[]);
    travel(&cluster, journey());
}
