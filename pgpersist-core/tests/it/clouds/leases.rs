//! Leases over a network, where whoever wants one races with others on a server: one alone holds it, and hands it on by its mark.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::logical::prune::{Consent, PruneRequest};
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::retention::Retention;
use pgpersist_core::store::lease::{Lease, LeaseOptions};

use crate::clouds::{Store, everything, key, keys, one_of_each_with_moto, opened, pattern};
use crate::support::stores::StoreServer;

const FOLDER: &str = ".pgpersist/main/leases/maintenance";

/// One that shows often that it lives. Nobody is taken for dead as long as a test takes: so a lease goes on by its mark alone.
fn options() -> LeaseOptions {
    let lost_after = Duration::from_secs(600);
    LeaseOptions { beat: Duration::from_secs(1), lost_after, patience: Duration::from_secs(300), ..LeaseOptions::new("prune") }
}

/// Each opens the store for itself, as machines do.
fn stores(server: &StoreServer, count: usize) -> Vec<Store> {
    (0..count).map(|_| opened(&server.url("prefix"))).collect()
}

/// The objects of holders that are left, the newest last, which must be marked.
async fn left(store: &Store) -> Vec<String> {
    let left: Vec<String> = keys(store).await.unwrap().into_iter().filter(|key| key.starts_with(FOLDER)).collect();
    let newest = store.get(&key(left.last().expect("the newest one stays"))).await.unwrap();
    let newest: serde_json::Value = serde_json::from_slice(&newest).unwrap();
    assert_eq!(newest["released"], true, "{newest}");
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_one_holds_it_at_a_time() {
    for server in one_of_each_with_moto() {
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks = stores(&server, 5).into_iter().map(|store| {
            let inside = Arc::clone(&inside);
            tokio::spawn(async move {
                let lease = Lease::take(store, &key(FOLDER), &options()).await.unwrap_or_else(|error| panic!("{}", everything(&error)));
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are in at once");
                lease.check().await.unwrap_or_else(|error| panic!("{}", everything(&error)));
                inside.fetch_sub(1, Ordering::SeqCst);
                let token = lease.token();
                lease.release().await;
                token
            })
        });
        let mut tokens: Vec<u64> = join_all(tasks).await.into_iter().map(|ended| ended.unwrap()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 5, "{:?}: a number was given twice: {tokens:?}", server.protocol);
        let newest = format!("{FOLDER}/{:016x}.json", tokens[4]);
        assert_eq!(left(&opened(&server.url("prefix"))).await.last(), Some(&newest), "{:?}", server.protocol);
    }
}

/// Each dump goes once, and whoever comes second decides by what is left then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_prunes_at_once_drop_each_dump_once() {
    for server in one_of_each_with_moto() {
        let store = opened(&server.url("prefix"));
        for day in 1..=6 {
            store.put(&key(&format!("backup_2026010{day}_000000.sql.gz")), pattern(100)).await.unwrap();
        }
        let prunes = stores(&server, 2).into_iter().map(|store| {
            let shelf = Shelf::new(store, "main", vec!["shop".to_owned()]);
            let retention = Retention { keep_last: Some(2), ..Retention::default() };
            let request = PruneRequest { lease: options(), ..PruneRequest::new(shelf, retention) };
            async move { request.carry_out(Consent::Given, SystemClock.now()).await }
        });
        let mut dropped = Vec::new();
        for ended in join_all(prunes).await {
            let done = ended.unwrap_or_else(|error| panic!("{:?}: {}", server.protocol, everything(&error)));
            dropped.extend(done.dropped.into_iter().map(|dropped| dropped.name.to_string()));
        }
        dropped.sort_unstable();
        let names = |days: &[u32]| days.iter().map(|day| format!("backup_2026010{day}_000000.sql.gz")).collect::<Vec<_>>();
        assert_eq!(dropped, names(&[1, 2, 3, 4]), "{:?}", server.protocol);
        let kept: Vec<String> = keys(&store).await.unwrap().into_iter().filter(|name| name.ends_with(".gz")).collect();
        assert_eq!(kept, names(&[5, 6]), "{:?}", server.protocol);
        left(&store).await;
    }
}
