//! Promises of `init`, `start`, `stop`, `restart` and `status`.

use std::os::unix::fs::PermissionsExt;

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

/// What `status`, `start`, `stop` and `restart` tell of a server that runs,
const RUNNING: &[&str] =
    &["/state", "/pid", "/port", "/socket_directory", "/version", "/system_identifier", "/log_file", "/data_directory"];
/// of a cluster without one,
const STOPPED: &[&str] = &["/state", "/version", "/system_identifier", "/log_file", "/data_directory"];
const NO_SERVER: &[&str] = &["/pid", "/port", "/socket_directory"];
/// and of a directory without a cluster.
const NO_CLUSTER: &[&str] = &["/pid", "/port", "/socket_directory", "/version", "/system_identifier"];
/// What stands in all of them.
const ALWAYS: &[&str] = &["/state", "/log_file", "/data_directory"];

/// Lines without a cluster.
pub(super) fn table() -> Vec<Case> {
    const PLACE: &str = "[cluster]\ndata_directory = \"{dir}/volume/data\"\n";
    vec![
        promise("what needs a data directory and has none is invalid", &["status"]).code(2).stderr("remedy: "),
        promise("init needs a data directory", &["init", "--json"]).code(2).error("invalid"),
        promise("nothing to start is not found", &["start", "--json"]).file(PLACE).code(4).error("not_found"),
        promise("nothing to stop is not found", &["stop", "--json"]).file(PLACE).code(4).error("not_found"),
        promise("nothing to restart is not found", &["restart", "--json"]).file(PLACE).code(4).error("not_found"),
        promise("run needs a data directory", &["run", "--json"]).code(2).error("invalid"),
        promise("the server's arguments are settings", &["run", "--allow-ephemeral", "--json", "--", "--single"])
            .file(PLACE)
            .code(2)
            .error("invalid"),
        promise("a dry run of run tells the plan", &["run", "--allow-ephemeral", "--dry-run", "--json"])
            .file(PLACE)
            .value("/plan/0", "create a cluster in {dir}/volume/data")
            .fields(&["/plan/1"])
            .missing_place("/plan/2"),
        promise("what is scheduled needs a store", &["run", "--allow-ephemeral", "--dry-run", "--json"])
            .file("[cluster]\ndata_directory = \"{dir}/volume/data\"\n[dump]\nschedule = \"0 2 * * *\"\n")
            .code(2)
            .error("invalid"),
        promise("a dry run of run tells what is done when", &["run", "--allow-ephemeral", "--dry-run", "--json", "--store", "{dir}/store"])
            .file("[cluster]\ndata_directory = \"{dir}/volume/data\"\n[dump]\nschedule = \"0 2 * * *\"\n[retention]\nkeep_days = 7\n")
            .value("/plan/2", "dump at 0 2 * * * UTC")
            .value("/plan/3", "prune after each dump that succeeds"),
        promise("a dry run of run tells when backups are made", &["run", "--allow-ephemeral", "--dry-run", "--json", "--store", "{dir}/store"])
            .file("[cluster]\ndata_directory = \"{dir}/volume/data\"\n[backup]\nschedule = \"30 2 * * *\"\n[retention]\nkeep_days = 7\n")
            .value("/plan/2", "backup at 30 2 * * * UTC")
            .value("/plan/3", "prune after each backup that succeeds"),
        promise("a schedule of four fields is invalid", &["config", "check", "--json"])
            .file("[dump]\nschedule = \"0 2 * *\"\n")
            .code(2)
            .error("invalid"),
        promise("a zone that nobody knows is invalid", &["config", "check", "--json"])
            .file("[schedule]\ntime_zone = \"Mars/Olympus\"\n")
            .code(2)
            .error("invalid"),
        promise("nothing to fence is not found", &["fence", "--json"]).file(PLACE).code(4).error("not_found"),
        promise("nothing to unfence is not found", &["unfence", "--json"]).file(PLACE).code(4).error("not_found"),
        promise("a dry run of run tells where it would answer HTTP", &["run", "--allow-ephemeral", "--dry-run"])
            .file("[cluster]\ndata_directory = \"{dir}/volume/data\"\n[health]\nlisten = \"127.0.0.1:9432\"\n")
            .stdout("3. answer HTTP on 127.0.0.1:9432 meanwhile\n"),
        promise("a token that is not there is not found", &["run", "--allow-ephemeral", "--dry-run", "--json"])
            .file("[cluster]\ndata_directory = \"{dir}/d\"\n[health]\nlisten = \"127.0.0.1:9432\"\ntoken_file = \"absent\"\n")
            .code(4)
            .error("not_found"),
        promise("a dry run of run tells whom it would tell", &["run", "--allow-ephemeral", "--dry-run"])
            .file("[cluster]\ndata_directory = \"{dir}/volume/data\"\n[hooks]\nwebhook = \"https://example.com/canary\"\ncommand = [\"/bin/alert\"]\n")
            .stdout("3. tell the command of failures and recoveries\n4. tell the webhook of failures and recoveries\n"),
        promise("a webhook's address that is not there is not found", &["run", "--allow-ephemeral", "--dry-run", "--json"])
            .file("[cluster]\ndata_directory = \"{dir}/d\"\n[hooks]\nwebhook_file = \"absent\"\n")
            .code(4)
            .error("not_found"),
        promise("an address that nobody can call is invalid and not repeated", &["config", "check"])
            .file("[hooks]\nwebhook = \"example.com/canary\"\n")
            .code(2)
            .stderr("line 2, `hooks.webhook`: expected an address such as `https://hooks.example.com/…`, found what is no address"),
        promise("a hook's deadline without a hook has no effect", &["config", "check"])
            .file("[hooks]\ndeadline = \"5s\"\n")
            .code(3)
            .stderr("has no effect without a hook"),
        promise("a deadline is at least a second", &["start", "--timeout", "0"])
            .file(PLACE)
            .code(2)
            .stderr("remedy: see `pgpersist start --help`"),
        promise("contradicting wishes are invalid", &["init", "--new", "--restore-latest"])
            .file(PLACE)
            .code(2)
            .stderr("cannot be used with"),
        promise("there is nothing to restore without a store", &["init", "--restore-latest", "--allow-ephemeral", "--json"])
            .file(PLACE)
            .code(4)
            .error("not_found"),
    ]
}

/// Lines that share one cluster.
pub(super) fn journey() -> Vec<Case> {
    let mut cases = vec![
        promise("status of an absent directory is 4", &["status", "--json"])
            .code(4)
            .value("/state", "absent")
            .fields(ALWAYS)
            .missing(NO_CLUSTER),
        promise("status of an empty directory is 4", &["status", "--json"])
            .before(|cluster| drop(cluster.scratch.folder("volume/data")))
            .code(4)
            .value("/state", "empty")
            .fields(ALWAYS)
            .missing(NO_CLUSTER),
        promise("status of somebody else's files is 5", &["status", "--json"])
            .before(|cluster| drop(cluster.scratch.write("volume/data/thesis.tex", "of somebody else")))
            .code(5)
            .value("/state", "foreign")
            .fields(ALWAYS)
            .fields(&["/detail"])
            .missing(NO_CLUSTER),
        promise("somebody else's files are refused", &["init", "--allow-ephemeral", "--json"])
            .code(5)
            .error("unsafe")
            .then(|cluster| std::fs::remove_file(cluster.data().join("thesis.tex")).unwrap()),
        promise("a dry run of init tells the plan", &["init", "--allow-ephemeral", "--dry-run", "--json"])
            .value("/plan/action", "create")
            .then(|cluster| assert_eq!(std::fs::read_dir(cluster.data()).unwrap().count(), 0)),
        promise("a dry run is also told in words", &["init", "--allow-ephemeral", "--dry-run"])
            .stdout("Would create a cluster in {dir}/volume/data.\n"),
        promise("init creates a cluster and its databases", &["init", "--allow-ephemeral", "--json"])
            .value("/action", "created")
            .value("/data_directory", "{dir}/volume/data")
            .value("/databases_created/0", "customerInvoice")
            .fields(&["/system_identifier", "/version"])
            .then(|cluster| assert_eq!(std::fs::metadata(cluster.data()).unwrap().permissions().mode() & 0o7777, 0o700)),
        promise("init again adopts", &["init", "--allow-ephemeral", "--json"])
            .value("/action", "adopted")
            .fields(&["/system_identifier", "/version"]),
        promise("a dry run of adopting tells the plan", &["init", "--allow-ephemeral", "--dry-run", "--json"])
            .value("/plan/action", "adopt")
            .fields(&["/plan/system_identifier"]),
        promise("status of a stopped server is 6", &["status", "--json"])
            .code(6)
            .value("/state", "stopped")
            .fields(STOPPED)
            .missing(NO_SERVER),
        promise("stop of a stopped server says so", &["stop", "--json"])
            .value("/changed", false)
            .value("/state", "stopped")
            .fields(STOPPED)
            .missing(NO_SERVER),
        promise("stop of a stopped server says so in words", &["stop"]).stdout("It did not run.\n"),
        promise("a dry run of a fence tells the plan", &["fence", "--dry-run", "--json"]).fields(&["/plan/0", "/plan/1"]),
        promise("a fence is put up", &["fence", "--reason", "odd rows", "--json"])
            .value("/changed", false)
            .value("/state", "stopped")
            .value("/fence/reason", "odd rows")
            .fields(&["/fence/since"])
            .fields(STOPPED)
            .missing(NO_SERVER),
        promise("no server is started behind a fence", &["start", "--json"]).code(5).error("unsafe"),
        promise("a fence is told in words", &["status"]).code(6).stdout("odd rows"),
        promise("a dry run of taking it away tells the plan", &["unfence", "--dry-run", "--json"]).fields(&["/plan/0"]),
        promise("a fence is taken away", &["unfence", "--json"])
            .value("/changed", true)
            .value("/state", "stopped")
            .fields(STOPPED)
            .missing(NO_SERVER),
        promise("taking away none says so in words", &["unfence"]).stdout("There was no fence.\n"),
        promise("start starts", &["start", "--json"])
            .value("/changed", true)
            .value("/state", "running")
            .value("/socket_directory", "{dir}/volume/socket")
            .fields(RUNNING)
            .then(|cluster| {
                assert_eq!(cluster.databases(), ["customerInvoice"]);
                assert_eq!(cluster.sql("postgres", "SHOW data_checksums; SHOW server_encoding; SHOW fsync"), "on\nUTF8\non");
                assert_eq!(cluster.sql("postgres", "SHOW port"), cluster.scratch.port().to_string());
            }),
        promise("start of a running server says so", &["start", "--json"])
            .value("/changed", false)
            .value("/state", "running")
            .fields(RUNNING),
        promise("start of a running server says so in words", &["start"]).stdout("It runs already.\n{dir}/volume/data: running (process "),
        promise("status of a running server is 0", &["status", "--json"])
            .value("/state", "running")
            .value("/changed", false)
            .fields(RUNNING),
        promise("init of a running cluster adopts, and creates what is missing", &["init", "--allow-ephemeral", "--json"])
            .variable("PGPERSIST_CLUSTER_DATABASES", "customerInvoice,second")
            .value("/action", "adopted")
            .value("/databases_created/0", "second")
            .then(|cluster| assert_eq!(cluster.databases(), ["customerInvoice", "second"])),
        promise("restart stops and starts", &["restart", "--json"]).value("/changed", true).value("/state", "running").fields(RUNNING),
        promise("a dry run of stop tells the plan", &["stop", "--dry-run", "--json"])
            .fields(&["/plan/0"])
            .then(|cluster| assert!(cluster.postmaster().is_some())),
        promise("a dry run of restart tells both steps", &["restart", "--dry-run"])
            .stdout("1. stop the server in {dir}/volume/data (process ")
            .stdout("2. write pgpersist.conf, start the server in {dir}/volume/data on port {port}")
            .then(|cluster| assert!(cluster.postmaster().is_some())),
        promise("a dry run of starting what runs", &["start", "--dry-run", "--json"]).value("/plan/0", "nothing: the server runs already"),
        promise("stop stops", &["stop", "--json"])
            .value("/changed", true)
            .value("/state", "stopped")
            .fields(STOPPED)
            .missing(NO_SERVER)
            .then(|cluster| assert_eq!(cluster.postmaster(), None)),
        promise("a dry run of start starts nothing", &["start", "--dry-run", "--json"])
            .fields(&["/plan/0"])
            .then(|cluster| assert_eq!(cluster.postmaster(), None)),
        promise("a standby that takes no sessions is started, and said to recover", &["start", "--json"])
            // A standby without a primary replays for ever.
            .before(|cluster| drop(cluster.scratch.write("volume/data/standby.signal", "")))
            .variable("PGPERSIST_CLUSTER_SETTINGS_RESTORE_COMMAND", "false")
            .variable("PGPERSIST_CLUSTER_SETTINGS_HOT_STANDBY", "off")
            .value("/changed", true)
            .value("/state", "recovering")
            .fields(RUNNING),
        promise("status of a recovering server is 6", &["status", "--json"]).code(6).value("/state", "recovering").fields(RUNNING),
        promise("a recovering server stops", &["stop", "--json"])
            .value("/changed", true)
            .fields(&["/immediate"])
            .then(|cluster| std::fs::remove_file(cluster.data().join("standby.signal")).unwrap()),
        promise("status of what an interrupted init left is 6", &["status", "--json"])
            .before(|cluster| {
                let marker = r#"{"format": 1, "operation": "init", "entries": []}"#;
                cluster.scratch.write("volume/.pgpersist/data/half-made.json", marker);
            })
            .code(6)
            .value("/state", "half_made")
            .fields(&["/detail"])
            .fields(ALWAYS)
            .missing(NO_CLUSTER)
            .then(|cluster| std::fs::remove_file(cluster.scratch.join("volume/.pgpersist/data/half-made.json")).unwrap()),
        promise("status of a damaged cluster is 7", &["status", "--json"])
            .before(|cluster| drop(cluster.scratch.write("volume/data/PG_VERSION", "garbage\n")))
            .code(7)
            .value("/state", "damaged")
            .fields(&["/detail"])
            .fields(ALWAYS)
            .missing(NO_CLUSTER),
        promise("a damaged cluster does not start", &["start", "--json"]).code(7).error("damaged"),
        promise("a damaged cluster is not initialised", &["init", "--allow-ephemeral", "--json"]).code(7).error("damaged"),
    ];
    if std::path::Path::new("/dev/shm").is_dir() {
        cases.push(
            promise("an ephemeral place is refused", &["init", "-D", "/dev/shm/pgpersist-test-absent", "--json"])
                .code(5)
                .error("unsafe")
                .fields(&["/remedy"])
                .then(|_| {
                    assert!(
                        !std::path::Path::new("/dev/shm/pgpersist-test-absent").exists()
                            && !std::path::Path::new("/dev/shm/.pgpersist").exists()
                    )
                }),
        );
    }
    cases
}

#[test]
fn a_cluster_is_made_started_and_stopped_as_promised() {
    let cluster = TestCluster::planned("databases = [\"customerInvoice\"]\n");
    travel(&cluster, journey());
}
