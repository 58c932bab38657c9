//! Retention and garbage collection of backups of a real server: what stays restores, and what is interrupted is finished by the next.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use pgpersist_core::backup::physical::{BackupOptions, BackupReport, back_up};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::export::physical::{Destination, export};
use pgpersist_core::export::request::ExportRequest;
use pgpersist_core::logical::prune::{Consent, PruneRequest};
use pgpersist_core::logical::prune_plan::PrunePlan;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::backup_plan::Patience;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::restore::physical::{RestoreOptions, restore};
use pgpersist_core::retention::Retention;
use pgpersist_core::store::faulty::{Calls, Effect, FaultPlan, FaultyStore, Operation};
use pgpersist_core::store::local::LocalBackupStore;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectMeta};
use time::OffsetDateTime;

use crate::support::server::TestServer;

/// Nothing is waited for; who is alive is left alone.
const NO_GRACE: Patience = Patience { grace: Duration::ZERO, dead_after: Duration::from_secs(3600) };
/// And everybody is dead.
const ALL_DEAD: Patience = Patience { grace: Duration::ZERO, dead_after: Duration::ZERO };

async fn server() -> TestServer {
    let server = TestServer::start("", "").await;
    server.session("postgres").await.create_database("shop").await.unwrap();
    let fill = "CREATE TABLE public.orders (id bigint PRIMARY KEY, note text NOT NULL);
                INSERT INTO public.orders SELECT g, pg_catalog.md5(g::text) FROM pg_catalog.generate_series(1, 20000) g";
    server.run("shop", fill).await;
    server
}

async fn repository(store: &Arc<dyn BackupStore>, server: &TestServer) -> Repository {
    let system_identifier = server.session("postgres").await.system_identifier().await.unwrap();
    let folder = ".pgpersist/main/repository".parse().unwrap();
    Repository::open_or_make(Arc::clone(store), folder, system_identifier, OffsetDateTime::UNIX_EPOCH).await.unwrap()
}

async fn backup(server: &TestServer, repository: &Repository) -> Result<BackupReport> {
    let options = BackupOptions { workers: 2, ..BackupOptions::default() };
    back_up(&server.connection("postgres"), &server.path("data"), repository, &options, &SystemClock, &Silent).await
}

/// So many backups, each of other pages than the one before.
async fn backups(server: &TestServer, repository: &Repository, number: u32) -> Vec<String> {
    let mut names = Vec::new();
    for nth in 0..number {
        let change = format!("UPDATE public.orders SET note = 'changed {nth}' WHERE id % 40 = {nth}; CHECKPOINT");
        server.run("shop", &change).await;
        names.push(backup(server, repository).await.unwrap().name);
    }
    names
}

fn request(store: &Arc<dyn BackupStore>, keep_last: u32, patience: Patience) -> PruneRequest {
    let shelf = Shelf::new(Arc::clone(store), "main".to_owned(), vec!["shop".to_owned()]);
    let retention = Retention { keep_last: Some(keep_last), ..Retention::default() };
    PruneRequest { patience, ..PruneRequest::new(shelf, retention) }
}

async fn prune(store: &Arc<dyn BackupStore>, keep_last: u32, patience: Patience) -> Result<PrunePlan> {
    request(store, keep_last, patience).carry_out(Consent::Missing, SystemClock.now()).await
}

async fn objects(store: &dyn BackupStore) -> Vec<ObjectMeta> {
    store.list(".pgpersist/main/repository/").try_collect().await.unwrap()
}

async fn bytes_of_packs(store: &dyn BackupStore) -> u64 {
    objects(store).await.iter().filter(|meta| meta.key.as_str().ends_with(".pack")).map(|meta| meta.size_bytes).sum()
}

async fn assert_whole(repository: &Repository, depth: Depth) {
    let report = verify(repository, None, depth, &Silent).await.unwrap();
    assert!(report.damaged.is_empty(), "{report:?}");
}

async fn names(repository: &Repository) -> Vec<String> {
    repository.backups().await.unwrap().iter().map(ToString::to_string).collect()
}

/// As a store lists them: of one second, in no order of time.
fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_keeps_restores_when_the_rest_is_gone() {
    let server = server().await;
    let folder = tempfile::Builder::new().prefix("pgpersist-it-").tempdir().unwrap();
    let store: Arc<dyn BackupStore> = Arc::new(LocalBackupStore::open(folder.path()).unwrap());
    let repository = repository(&store, &server).await;
    let all = backups(&server, &repository, 4).await;
    let before = bytes_of_packs(store.as_ref()).await;

    let refused = request(&store, 1, NO_GRACE).carry_out(Consent::Missing, SystemClock.now()).await.unwrap_err();
    assert_eq!(refused.to_string(), "dropping more than half of the backups at once needs a confirmation");

    // For a day nothing is lost.
    let plan = prune(&store, 2, Patience::default()).await.unwrap();
    let dropped: Vec<&str> = plan.dropped.iter().map(|dropped| dropped.name.as_str()).collect();
    assert_eq!(dropped, all[..2]);
    assert!(plan.dropped.iter().all(|dropped| dropped.removed_after.is_some()) && plan.freed_bytes == 0 && plan.pending_bytes > 0);
    assert_eq!((bytes_of_packs(store.as_ref()).await, names(&repository).await), (before, sorted(&all)));
    assert_whole(&repository, Depth::Full).await;

    let plan = prune(&store, 2, NO_GRACE).await.unwrap();
    let after = bytes_of_packs(store.as_ref()).await;
    assert_eq!((before - after, plan.pending_bytes), (plan.freed_bytes, 0));
    assert!(plan.freed_bytes > 0);
    assert_eq!(names(&repository).await, sorted(&all[2..]));
    assert_whole(&repository, Depth::Full).await;
    let left = objects(store.as_ref()).await;
    assert!(!left.iter().any(|meta| meta.key.as_str().contains("/runs/") || meta.key.as_str().contains("/tombstones/")), "{left:?}");
    for (nth, name) in all[2..].iter().enumerate() {
        let directory = LocalDataDirectory::open(server.path(&format!("restored_{nth}"))).unwrap();
        let name: RunName = name.parse().unwrap();
        restore(&repository, name, &directory, &RestoreOptions::default(), &Silent).await.unwrap();
    }
    // The next backup builds on what is left.
    let next = backup(&server, &repository).await.unwrap();
    assert!(next.new_bytes * 4 < next.stored_bytes, "{next:?}");
    assert_whole(&repository, Depth::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_again_and_again_while_backups_are_made_leaves_all_of_them_whole() {
    let server = server().await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(&store, &server).await;
    backups(&server, &repository, 2).await;
    let making = async {
        for _ in 0..4 {
            server.run("shop", "UPDATE public.orders SET note = note || '.' WHERE id % 50 = 7; CHECKPOINT").await;
            backup(&server, &repository).await.unwrap();
        }
    };
    tokio::pin!(making);
    let mut pruned = 0;
    loop {
        tokio::select! {
            () = &mut making => break,
            plan = prune(&store, 1, NO_GRACE) => {
                match plan {
                    Ok(_) => pruned += 1,
                    // Two of two, one of which is needed.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}"),
                }
            }
        }
        assert_whole(&repository, Depth::Full).await;
    }
    assert!(pruned > 0);
    forget_leases(store.as_ref()).await;
    request(&store, 1, ALL_DEAD).carry_out(Consent::Given, SystemClock.now()).await.unwrap();
    assert_eq!(names(&repository).await.len(), 1);
    assert_whole(&repository, Depth::Full).await;
}

async fn copy(store: &dyn BackupStore) -> Arc<dyn BackupStore> {
    let copy = MemoryBackupStore::new();
    for meta in store.list("").try_collect::<Vec<ObjectMeta>>().await.unwrap() {
        copy.put(&meta.key, store.get(&meta.key).await.unwrap()).await.unwrap();
    }
    Arc::new(copy)
}

/// Nobody waits here until a lease of a prune that was dropped is taken for lost.
async fn forget_leases(store: &dyn BackupStore) {
    for meta in store.list(".pgpersist/main/leases/").try_collect::<Vec<ObjectMeta>>().await.unwrap() {
        store.delete(&meta.key).await.unwrap();
    }
}

/// What a prune leaves of the repository.
async fn left(store: &dyn BackupStore) -> Vec<String> {
    objects(store).await.into_iter().map(|meta| meta.key.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_that_ends_at_any_call_of_the_store_leaves_whole_backups_and_the_next_one_finishes() {
    let server = server().await;
    let original: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(&original, &server).await;
    backups(&server, &repository, 4).await;
    let undisturbed = copy(original.as_ref()).await;
    prune(&undisturbed, 2, ALL_DEAD).await.unwrap();
    let expected = left(undisturbed.as_ref()).await;
    assert!(expected.len() < left(original.as_ref()).await.len());
    let folder = ".pgpersist/main/repository";
    let mut ended = 0;
    for operation in [Operation::Put, Operation::PutIfAbsent, Operation::Get, Operation::Head, Operation::List, Operation::Delete] {
        for nth in 1.. {
            let store = copy(original.as_ref()).await;
            // A call that hangs is one in which its caller is dropped.
            let faulty =
                FaultyStore::new(Arc::clone(&store), FaultPlan::one(operation, Calls::Nth(nth), Effect::Delay(Duration::from_secs(3600))));
            let hangs = async {
                while faulty.calls(operation) < nth {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let disturbed: Arc<dyn BackupStore> = Arc::new(faulty.clone());
            let is_done = tokio::select! {
                biased;
                done = prune(&disturbed, 2, ALL_DEAD) => done.is_ok(),
                () = hangs => false,
            };
            let repository = Repository::open(Arc::clone(&store), folder.parse().unwrap()).await.unwrap().unwrap();
            assert_whole(&repository, Depth::Quick).await;
            forget_leases(store.as_ref()).await;
            prune(&store, 2, ALL_DEAD).await.unwrap();
            assert_whole(&repository, Depth::Quick).await;
            assert_eq!(left(store.as_ref()).await, expected, "{operation:?} {nth}");
            if is_done {
                break;
            }
            ended += 1;
        }
    }
    assert!(ended > 20, "{ended}");
}

/// A reader of an export that drops its backup as soon as the first bytes come.
struct Pruning {
    store: Arc<dyn BackupStore>,
    runtime: tokio::runtime::Handle,
    pruned: Arc<Mutex<Option<PrunePlan>>>,
}

impl Write for Pruning {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut pruned = self.pruned.lock().unwrap();
        if pruned.is_none() {
            let request = request(&self.store, 1, NO_GRACE);
            *pruned = Some(self.runtime.block_on(request.carry_out(Consent::Given, SystemClock.now())).unwrap());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_exported_stays_until_that_has_ended() {
    let server = server().await;
    let original: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let first = backups(&server, &repository(&original, &server).await, 3).await.remove(0);
    for shows_that_it_reads in [true, false] {
        let store = copy(original.as_ref()).await;
        let repository = repository(&store, &server).await;
        let pruned = Arc::new(Mutex::new(None));
        let reader = Pruning { store: Arc::clone(&store), runtime: tokio::runtime::Handle::current(), pruned: Arc::clone(&pruned) };
        let destination = Destination::Stream(Box::new(reader));
        let exported = if shows_that_it_reads {
            let folder = ".pgpersist/main/repository".parse().unwrap();
            let request = ExportRequest { store: Arc::clone(&store), folder, backup: first.clone(), keys: None, destination };
            request.carry_out(&Silent).await
        } else {
            export(&repository, first.parse().unwrap(), destination, &Silent).await
        };
        let pruned = pruned.lock().unwrap().take().expect("it was pruned meanwhile");
        // What somebody reads is not dropped either.
        let dropped: Vec<&str> = pruned.dropped.iter().map(|dropped| dropped.name.as_str()).collect();
        assert_eq!((dropped.len(), dropped.contains(&first.as_str())), if shows_that_it_reads { (1, false) } else { (2, true) });
        if shows_that_it_reads {
            assert_eq!(exported.unwrap().name, first);
            // Now nobody reads it any more.
            let freed = prune(&store, 1, NO_GRACE).await.unwrap().freed_bytes;
            assert!(freed > 0);
        } else {
            // Nothing else has kept it.
            assert_eq!(exported.unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert_whole(&repository, Depth::Full).await;
    }
}
