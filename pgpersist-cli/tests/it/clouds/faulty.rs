//! Dumps through a network that fails: at a tenth of faults nearly all succeed, and what is told to be done can be loaded; with
//! nothing but faults none succeeds. Whatever failed has left nothing under its name, and nothing outlives its deadline.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::clouds::{one_of_each, run_with};
use crate::support::cluster::TestCluster;
use crate::support::moments::{self, Moments};
use crate::support::proof::proven;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::proxy::{Proxy, Request};
use crate::support::stores::rclone::Rclone;
use crate::support::stores::{Protocol, StoreServer};

const ORDERS: &str = "SELECT count(*) || ' ' || sum(amount) FROM orders";

/// How long one request may take; a dump makes about ten. Where none succeeds there is nothing to wait for.
const DEADLINE_S: u64 = 15;
const SHORT_DEADLINE_S: u64 = 4;
/// Those that let no request come through. Of the others some do no harm to one without a body, so by chance a dump could be made.
const STOPPING: &[Fault] = &[
    Fault::Refuse { status: 500, code: "InternalError" },
    Fault::Refuse { status: 503, code: "ServiceUnavailable" },
    Fault::SlowDown { retry_after_s: 1 },
    Fault::Reset,
    Fault::ResetWhileSent,
];
/// How long a whole dump may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A server behind a proxy that does harm.
struct Faulty {
    server: StoreServer,
    proxy: Proxy,
    deadline_s: u64,
    /// What was told to be done.
    done: BTreeSet<String>,
    failed: usize,
}

impl Faulty {
    fn new(server: StoreServer, seed: u64, deadline_s: u64) -> Self {
        let proxy = Proxy::before(server.port(), seed);
        Self { server, proxy, deadline_s, done: BTreeSet::new(), failed: 0 }
    }

    fn url(&self) -> String {
        format!("{}&deadline={}s", self.server.bare_url_at(&self.proxy.endpoint(), "prefix"), self.deadline_s)
    }

    fn dump(&mut self, cluster: &TestCluster) {
        let begun = Instant::now();
        let run = run_with(&cluster.scratch, &self.server, &self.url(), &["dump", "--json"]);
        assert!(begun.elapsed() < LIMIT, "a dump took {:?}: {run:?}", begun.elapsed());
        if run.code == Some(0) {
            self.done.insert(run.json()["name"].as_str().unwrap().to_owned());
        } else {
            assert_eq!(run.code, Some(6), "{run:?}");
            assert!(run.error()["remedy"].is_string(), "{run:?}");
            self.failed += 1;
        }
    }

    /// The dumps in the bucket are those that were told to be done, and each can be loaded.
    fn judge(&self, cluster: &TestCluster) {
        let Some(rclone) = Rclone::find() else { return };
        let rclone = rclone.of(&self.server);
        let is_dump = |name: &String| name.ends_with(".sql.gz") && !name.starts_with("globals_") && !name.contains("/globals_");
        let standing: BTreeSet<String> = rclone.list("prefix").into_iter().filter(is_dump).collect();
        assert_eq!(standing, self.done, "{:?}", self.server.protocol);
        if self.server.protocol != Protocol::Azure {
            assert_eq!(rclone.unfinished_uploads(), 0);
        }
        let direct = self.server.bare_url_at(&self.server.endpoint(), "prefix");
        let expected = cluster.sql("shop", ORDERS);
        for name in &self.done {
            run_with(&cluster.scratch, &self.server, &direct, &["load", name, "-d", "loaded"]).done();
            assert_eq!(cluster.sql("loaded", ORDERS), expected, "{name}");
            cluster.sql("postgres", "DROP DATABASE loaded");
        }
    }
}

#[test]
fn a_tenth_of_faults_is_survived_and_a_failure_leaves_nothing() {
    let begun = Instant::now();
    let rounds = moments::rounds(12);
    let seed = Moments::new("dumps through faults").seed();
    let mut stores: Vec<Faulty> = one_of_each().into_iter().map(|server| Faulty::new(server, seed, DEADLINE_S)).collect();
    if stores.is_empty() {
        return;
    }
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE DATABASE shop");
    cluster.fill("shop");
    for store in &stores {
        store.proxy.rule(vec![Rule::any(Choice::Percent(10), Fault::PASSING)]);
    }
    let count = stores.len();
    for round in 0..rounds {
        stores[round % count].dump(&cluster);
    }
    let failed: usize = stores.iter().map(|store| store.failed).sum();
    let hits: usize = stores.iter().map(|store| store.proxy.hits()).sum();
    for store in &stores {
        store.judge(&cluster);
    }
    assert!(failed * 20 <= rounds, "{failed} of {rounds} dumps failed, seed {seed}");
    assert!(hits > 0);
    proven("dumps through faults, a tenth", format!("{rounds} dumps, {failed} failed, {hits} faults"), Some(seed), begun);
}

#[test]
fn with_nothing_but_faults_each_dump_ends_and_none_is_there() {
    let begun = Instant::now();
    let servers = one_of_each();
    if servers.is_empty() {
        return;
    }
    let seed = Moments::new("dumps through nothing but faults").seed();
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE DATABASE shop");
    cluster.fill("shop");
    let mut dumps = 0;
    for server in servers {
        let mut store = Faulty::new(server, seed, SHORT_DEADLINE_S);
        store.proxy.rule(vec![Rule::any(Choice::All, STOPPING)]);
        store.dump(&cluster);
        // What only reads gets through, and nothing that writes.
        let writes = |request: &Request| !matches!(request.method.as_str(), "GET" | "HEAD");
        store.proxy.rule(vec![Rule::new(writes, Choice::All, Fault::ResetWhileSent)]);
        store.dump(&cluster);
        store.proxy.rule(vec![Rule::new(writes, Choice::All, Fault::Silence)]);
        store.dump(&cluster);
        dumps += 3;
        assert_eq!((store.failed, store.done.len()), (3, 0));
        store.proxy.rule(Vec::new());
        store.judge(&cluster);
    }
    proven("dumps through faults, all", format!("{dumps} dumps, all failed"), Some(seed), begun);
}

/// What comes back is held against what was written, before anybody uses it.
#[test]
fn bytes_that_change_on_their_way_back_are_not_loaded() {
    let servers = one_of_each();
    if servers.is_empty() {
        return;
    }
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE DATABASE shop");
    cluster.fill("shop");
    for server in servers {
        let mut store = Faulty::new(server, 0, DEADLINE_S);
        store.dump(&cluster);
        assert_eq!(store.done.len(), 1);
        let is_dump = |request: &Request| request.is_read() && !request.target.contains("json") && request.target.contains("gz");
        store.proxy.rule(vec![Rule::new(is_dump, Choice::All, Fault::Flipped)]);
        let run = |arguments: &[&str]| run_with(&cluster.scratch, &store.server, &store.url(), arguments);
        assert_eq!(run(&["verify"]).code, Some(7));
        let name = store.done.first().unwrap();
        run(&["load", name, "-d", "loaded", "--quiet"]).refused(7, &[name, "  remedy: "]);
        assert_eq!(cluster.databases(), ["shop"]);
        store.proxy.rule(Vec::new());
        run(&["verify"]).done();
    }
}
