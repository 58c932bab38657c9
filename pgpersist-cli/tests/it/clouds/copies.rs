//! Buckets as copies of a folder: what a dump brings to each of them, what a killed `sync` leaves, and what there is of it when the
//! folder is lost, or a bucket cannot be reached.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::clouds::keeps_secrets;
use crate::run::eventually;
use crate::support::cluster::{CONFIGURATION, TestCluster};
use crate::support::scratch::Run;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::proxy::{Proxy, Request};
use crate::support::stores::rclone::{Client, Rclone};
use crate::support::stores::{StoreServer, azurite, gcs, moto};
use crate::support::volume::must;

/// A bucket behind a proxy, its number among the stores, and a client that goes past the proxy.
struct Bucket {
    place: usize,
    server: StoreServer,
    proxy: Proxy,
    rclone: Client,
}

impl Bucket {
    /// One in each cloud, as many as are installed.
    fn of_each() -> Vec<Self> {
        let Some(rclone) = Rclone::find() else { return Vec::new() };
        let servers = [moto::start(), gcs::start(), azurite::start()].into_iter().flatten();
        let copy = |(index, server): (usize, StoreServer)| {
            let (proxy, rclone) = (Proxy::before(server.port(), 0), rclone.of(&server));
            Self { place: index + 2, server, proxy, rclone }
        };
        servers.enumerate().map(copy).collect()
    }

    /// With its credentials' file, so that nothing need be in the environment.
    fn url(&self) -> String {
        self.server.url_at(&self.proxy.endpoint(), "prefix")
    }

    /// The dumps in it, each of which is held against what has its name in the folder.
    #[track_caller]
    fn dumps(&self, cluster: &TestCluster) -> Vec<String> {
        let names: Vec<String> = self.rclone.list("prefix").into_iter().filter(|name| name.ends_with(".sql.gz")).collect();
        for name in &names {
            let there = self.rclone.cat(&format!("prefix/{name}"));
            assert!(there == fs::read(cluster.store().join(name)).unwrap(), "{name} in store {} is something else", self.place);
        }
        names
    }
}

/// Whether a request writes an object with this in its name. On their way to Google all signs of a name but letters and digits are
/// escaped: `health%2Dprobe`.
fn writes(request: &Request, name: &str) -> bool {
    let escape = |sign: u8| if sign.is_ascii_alphanumeric() { char::from(sign).to_string() } else { format!("%{sign:02X}") };
    let escaped: String = name.bytes().map(escape).collect();
    request.is_put() && (request.target.contains(name) || request.target.contains(&escaped))
}

/// A cluster with eight orders, whose first store is a folder, and the others these.
fn copied_to(copies: &[Bucket]) -> TestCluster {
    let stores: String = copies.iter().map(|copy| format!("[[store]]\nurl = \"{}\"\n", copy.url())).collect();
    let cluster = TestCluster::running(&format!("databases = [\"shop\"]\n{stores}"));
    cluster.fill("shop");
    cluster
}

fn run(cluster: &TestCluster, arguments: &[&str]) -> Run {
    let run = cluster.run(arguments);
    keeps_secrets(&run);
    run
}

/// The folder's dumps, of databases and of roles.
fn dumps(cluster: &TestCluster) -> Vec<String> {
    let found = must(Command::new("find").arg(cluster.store()).args(["-name", "*.sql.gz", "-printf", "%P\n"]));
    let mut names: Vec<String> = found.lines().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// What health finds about a store.
fn finding(cluster: &TestCluster, place: usize) -> Value {
    let report = run(cluster, &["health", "--json"]).json();
    let name = format!("store:{place}");
    let found = report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == name.as_str()).cloned();
    found.unwrap_or_else(|| panic!("no finding about {name}: {report}"))
}

/// A busy machine may keep health from an answer within its time once, and not for long.
#[track_caller]
fn is_well(cluster: &TestCluster, place: usize) -> Value {
    let mut seen = Value::Null;
    eventually("the store is well", || {
        seen = finding(cluster, place);
        seen["status"] == "pass"
    });
    assert!(seen["observed"]["writable"] == true && seen["observed"]["newest_age_s"].is_u64(), "{seen}");
    seen
}

/// That nobody answers is told, and is no verdict about what lies there.
#[track_caller]
fn is_missed(cluster: &TestCluster, place: usize) {
    let seen = finding(cluster, place);
    assert!(seen["status"] == "unknown" && !seen["summary"].as_str().unwrap().is_empty(), "{seen}");
}

/// Loads into a new database of this name, and counts.
#[track_caller]
fn loads(cluster: &TestCluster, database: &str, more: &[&str]) -> Run {
    let loaded = run(cluster, &[&["load", "latest", "-d", database, "--json"], more].concat());
    assert!(matches!(loaded.code, Some(0 | 3)) && loaded.json()["verified"] == true, "{loaded:?}");
    assert_eq!(cluster.sql(database, "SELECT count(*), sum(amount) FROM orders"), "8|36");
    loaded
}

/// A sync that ends in the middle of a dump, in all buckets at once.
fn killed_sync(cluster: &TestCluster, copies: &[Bucket], newest: &str) {
    for copy in copies {
        let newest = newest.to_owned();
        let writes_newest = move |request: &Request| writes(request, &newest);
        copy.proxy.rule(vec![Rule::new(writes_newest, Choice::All, Fault::Silence)]);
    }
    let mut sync = cluster.scratch.command();
    let mut sync = sync.arg("sync").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_silent = |copy: &Bucket| copy.proxy.seen().iter().any(|seen| seen.fault == Some(Fault::Silence));
    eventually("each bucket is being written to", || copies.iter().all(is_silent) || sync.try_wait().unwrap().is_some());
    let spared: Vec<usize> = copies.iter().filter(|copy| !is_silent(copy)).map(|copy| copy.place).collect();
    assert!(sync.try_wait().unwrap().is_none(), "sync did not wait for what is never answered; not written to: {spared:?}");
    sync.kill().unwrap();
    sync.wait().unwrap();
    copies.iter().for_each(|copy| copy.proxy.rule(Vec::new()));
}

#[test]
fn buckets_are_copies_that_outlive_the_folder() {
    let copies = Bucket::of_each();
    if copies.is_empty() {
        return;
    }
    let cluster = copied_to(&copies);
    let first = run(&cluster, &["dump", "--json"]).done().json();
    for (index, copy) in copies.iter().enumerate() {
        let told = &first["copies"][index];
        assert_eq!((&told["place"], &told["copied"], &told["behind"]), (&json!(copy.place), &json!(2), &json!(0)), "{first}");
        assert_eq!(copy.dumps(&cluster), dumps(&cluster));
    }

    // None of them can be written to: the dump is made all the same, and each copy says why it has none.
    for copy in &copies {
        copy.proxy.rule(vec![Rule::new(|_| true, Choice::All, Fault::Refuse { status: 403, code: "AccessDenied" })]);
    }
    let second = run(&cluster, &["dump", "--json"]);
    assert_eq!(second.code, Some(3), "{second:?}");
    let second = second.json();
    for index in 0..copies.len() {
        assert_eq!(second["copies"][index]["kind"], "denied", "{second}");
    }

    // A sync is killed while it writes: what stands is whole, the rest comes with the next one, which need not wait for a dead one.
    let newest = second["name"].as_str().unwrap();
    killed_sync(&cluster, &copies, newest);
    for copy in &copies {
        let standing = copy.dumps(&cluster);
        assert!(!standing.is_empty() && standing.iter().all(|name| name != newest), "{standing:?}");
    }
    let synced = run(&cluster, &["sync", "--json"]).done().json();
    for (index, copy) in copies.iter().enumerate() {
        assert_eq!(synced["stores"][index]["behind"], 0, "{synced}");
        assert_eq!(copy.dumps(&cluster), dumps(&cluster));
        assert_eq!(is_well(&cluster, copy.place)["observed"]["behind"], 0);
    }

    // One of them cannot be reached for a while, and the others can.
    copies[0].proxy.rule(vec![Rule::new(|_| true, Choice::All, Fault::Reset)]);
    is_missed(&cluster, copies[0].place);
    for copy in &copies[1..] {
        is_well(&cluster, copy.place);
    }
    copies[0].proxy.rule(Vec::new());

    // The folder is gone: a dump comes from whichever bucket has it, and from each of them.
    cluster.sql("postgres", "DROP DATABASE shop");
    pgpersist_core::fs::durable::remove_tree(&cluster.store()).unwrap();
    assert_eq!(loads(&cluster, "shop", &[]).code, Some(3), "that it came from another store is worth a word");
    for copy in &copies {
        loads(&cluster, &format!("from_{}", copy.place), &["--store", &copy.place.to_string()]);
    }
}

/// Where a bucket is all there is, health writes into it to see whether that is possible, and tells when nobody is there any more.
#[test]
fn a_bucket_alone_is_looked_at() {
    let Some(server) = gcs::start() else { return };
    let proxy = Proxy::before(server.port(), 0);
    let cluster = TestCluster::planned("");
    let configuration = CONFIGURATION.replacen("{dir}/volume/backups", &server.url_at(&proxy.endpoint(), "prefix"), 1);
    cluster.scratch.write("pgpersist.toml", &format!("{configuration}databases = [\"shop\"]\n"));
    let made = run(&cluster, &["init", "--allow-ephemeral"]);
    assert!(matches!(made.code, Some(0 | 3)), "{made:?}");
    cluster.start();
    cluster.fill("shop");
    run(&cluster, &["dump"]).done();
    let probes = || {
        let seen = proxy.seen().into_iter().filter(|seen| writes(&seen.request, "health-probe"));
        seen.map(|seen| seen.status).collect::<Vec<u16>>()
    };
    is_well(&cluster, 1);
    let tried = probes();
    assert!(tried.contains(&200), "{tried:?}");
    // Once an hour is enough.
    is_well(&cluster, 1);
    assert_eq!(probes(), tried);
    drop(proxy);
    is_missed(&cluster, 1);
}

#[test]
fn a_drill_restores_from_a_bucket() {
    let Some(server) = azurite::start() else { return };
    let cluster = TestCluster::running("databases = [\"shop\"]\n");
    cluster.fill("shop");
    let url = server.url("prefix");
    run(&cluster, &["dump", "--store", &url]).done();
    for folder in ["volume/tmp", "volume/cache"] {
        cluster.scratch.folder(folder);
    }
    let apart = [("TMPDIR", "{dir}/volume/tmp"), ("PGPERSIST_CACHE", "{dir}/volume/cache")];
    // As another machine does, which has the address and nothing else.
    let drill = cluster.scratch.run(&["drill", "restore", "--config", "/dev/null", "--store", &url, "--json"], &apart).done();
    keeps_secrets(&drill);
    let report = drill.json();
    assert_eq!((&report["verdict"], &report["rows"], &report["lost"]), (&json!("pass"), &json!(8), &json!(0)), "{report}");
    // The proof lies in the bucket.
    let listed = run(&cluster, &["drill", "list", "--config", "/dev/null", "--store", &url, "--json"]).done().json();
    assert_eq!((listed["drills"].as_array().unwrap().len(), &listed["drills"][0]["id"]), (1, &report["id"]), "{listed}");
}
