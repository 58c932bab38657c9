//! `examples/scripts`: the story of `script/demo`, told by the six scripts on real servers, and judged by psql.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::cluster::TestCluster;
use crate::support::judge;
use crate::support::processes;
use crate::support::scratch::Run;

/// What must be the same before and after: orders, their worth, and a hash of all of them.
const NUMBERS: &str = "SELECT count(*), sum(amount), md5(string_agg(orders::text, E'\\n' ORDER BY id)) FROM orders";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scripts")
}

/// A place where the scripts find `pgpersist` on PATH, and whose surroundings name everything that they would find on a machine.
struct Stage {
    cluster: TestCluster,
}

impl Stage {
    fn new() -> Self {
        let cluster = TestCluster::planned("");
        cluster.scratch.folder("volume/old");
        // Where the cluster's user can run it, too: the build may lie in a home that is closed to others.
        std::fs::create_dir(cluster.scratch.join("bin")).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_pgpersist"), cluster.scratch.join("bin/pgpersist")).unwrap();
        Self { cluster }
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Run {
        let mut command = Command::new(folder().join(script));
        self.cluster.scratch.prepare(&mut command);
        let path = format!("{}:{}", self.cluster.scratch.join("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path);
        let environment = [
            ("PGDATA", "{dir}/volume/data"),
            ("OLD_PGDATA", "{dir}/volume/old/main"),
            ("PGPERSIST_STORE_URL", "{dir}/volume/backups"),
            ("PGPERSIST_CLUSTER_PORT", "{port}"),
            ("PGPERSIST_CLUSTER_SETTINGS_UNIX_SOCKET_DIRECTORIES", "{dir}/volume/socket"),
            ("PGPERSIST_CLUSTER_SETTINGS_LISTEN_ADDRESSES", "127.0.0.1"),
            ("PGPERSIST_CACHE", "{dir}/cache"),
        ];
        self.cluster.scratch.finish(command, arguments, &environment)
    }

    /// What there was before: a cluster on the disk that dies with its machine.
    fn make_old_cluster(&self) {
        let old = self.cluster.scratch.join("volume/old/main");
        let mut initdb = judge::program("initdb");
        let output = initdb.args(["--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256", "-D"]).arg(&old).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let options = self.cluster.scratch.fill("-k {dir}/volume/socket -p {port} -c listen_addresses=");
        let mut start = judge::program("pg_ctl");
        start.arg("-D").arg(&old).args(["-l", &self.cluster.scratch.fill("{dir}/volume/old/log"), "-o", &options, "-w", "-s", "start"]);
        assert!(start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    }
}

#[test]
fn the_six_scripts_tell_the_story_of_the_demo() {
    let stage = Stage::new();
    let cluster = &stage.cluster;
    stage.make_old_cluster();
    cluster.sql("postgres", "CREATE DATABASE \"customerInvoice\"");
    cluster.sql(
        "customerInvoice",
        "CREATE TABLE orders (id int PRIMARY KEY, amount numeric(12, 2)); \
         INSERT INTO orders SELECT n, n % 9000 + 0.25 FROM generate_series(1, 10000) n; CREATE TABLE marker AS SELECT 'the first machine' AS note",
    );
    let numbers = || cluster.sql("customerInvoice", NUMBERS);
    let before = numbers();
    assert!(before.starts_with("10000|"), "{before}");

    // It moves while it runs; a second time there is nothing to move.
    for _ in 0..2 {
        stage.run("setup_postgres_persistent.sh", &["--allow-ephemeral"]).done();
        assert_eq!(numbers(), before);
        assert_eq!(cluster.sql("postgres", "SHOW data_directory"), cluster.data().to_str().unwrap());
    }

    let dumped = stage.run("backup_postgres.sh", &["--json"]);
    assert_eq!(dumped.code, Some(0), "{dumped:?}");
    let health = stage.run("postgres_health.sh", &["--table", "orders"]);
    // A scratch folder of a container does not outlive it, and health is right to say so.
    assert!(health.code == Some(0) || health.stdout.contains("✗ Placement"), "{health:?}");
    assert!(health.stdout.contains("✓ Server: running") && health.stdout.contains("orders: 10000 rows"), "{health:?}");

    // A crash: of a copy, or of the cluster itself when that is what somebody wants.
    let planned = stage.run("crash_simulation_test.sh", &["--rounds", "1", "--dry-run"]).done();
    assert!(planned.stdout.contains("copy"), "{planned:?}");
    stage.run("crash_simulation_test.sh", &["--live", "--rounds", "1"]).refused(5, &["--yes"]);
    let drill = stage.run("crash_simulation_test.sh", &["--live", "--yes", "--rounds", "1", "--json"]).done().json();
    assert_eq!((&drill["verdict"], &drill["lost"], &drill["target"]), (&"pass".into(), &0.into(), &"live".into()));
    assert_eq!(numbers(), before);

    // The machine dies: every process of the server, and the disk on which the cluster began.
    for process in processes::bearing(&cluster.data()) {
        process.signal(Signal::KILL);
    }
    processes::wait_until_gone(&cluster.data(), std::time::Duration::from_secs(10));
    assert!(Command::new("rm").args(["-r", "--one-file-system"]).arg(cluster.scratch.join("volume/old")).status().unwrap().success());
    stage.run("init_postgres.sh", &["--allow-ephemeral"]).done();
    assert_eq!(numbers(), before);

    // Somebody drops a table. The plan first; then the newest dump takes the place of what is left, which is kept.
    cluster.sql("customerInvoice", "DROP TABLE orders");
    stage.run("restore_postgres.sh", &[]).refused(5, &["--yes"]);
    stage.run("restore_postgres.sh", &["latest", "--yes"]).done();
    assert_eq!(numbers(), before);
    assert_eq!(cluster.sql("customerInvoice", "SELECT note FROM marker"), "the first machine");
    let databases = cluster.databases();
    assert!(databases.len() == 2 && databases[1].starts_with("customerInvoice_before_"), "{databases:?}");

    // By its name, as `pgpersist list` tells it.
    cluster.sql("customerInvoice", "DELETE FROM orders WHERE id > 8");
    let name = std::fs::read_dir(cluster.store()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let name = name.filter(|name| name.starts_with("backup_") && name.ends_with(".sql.gz")).max().unwrap();
    stage.run("restore_postgres.sh", &[&name, "--yes"]).done();
    assert_eq!(numbers(), before);
}

#[test]
fn unasked_they_mean_the_places_and_the_days_that_people_had() {
    let scratch = crate::support::scratch::Scratch::new();
    let configuration = folder().join("pgpersist.toml");
    let show = scratch.run(&["config", "show", "--json", "--config", configuration.to_str().unwrap()], &[("PGDATA", "/app/pgdata")]).done();
    let shown = show.json();
    let value = |key: &str| {
        let found = shown["values"].as_array().unwrap().iter().find(|value| value["key"].as_str().unwrap().starts_with(key));
        found.unwrap_or_else(|| panic!("{key}: {shown}"))["value"].clone()
    };
    assert_eq!(value("cluster.data_directory"), "/app/pgdata");
    assert_eq!(value("retention.keep_days"), 7);
    assert!(value("store").to_string().contains("/app/backups/postgres"));
    assert!(value("cluster.databases").to_string().contains("customerInvoice"));
    let mut scripts = 0;
    for script in std::fs::read_dir(folder()).unwrap().flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "sh")) {
        let text = std::fs::read_to_string(script.path()).unwrap();
        assert!(text.contains("PGDATA=${PGDATA:-/app/pgdata}") && text.contains("$(dirname \"$0\")/pgpersist.toml"), "{script:?}");
        scripts += 1;
    }
    assert_eq!(scripts, 6);
}
