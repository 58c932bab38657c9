//! A store that goes wrong at every single operation in turn: no backup is published that is not whole, nothing is restored that is not right,
//! and the next run works.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use pgpersist_core::backup::physical::BackupOptions;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::fs::durable;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::restore::physical::{RestoreOptions, newest, restore};
use pgpersist_core::store::faulty::{Calls, Effect, FaultPlan, FaultyStore, Operation};
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectMeta};

use crate::physical::{backup, repository, restored, server_with};
use crate::support::server::TestServer;
use crate::support::tree::Tree;

/// With this set each call is hit in turn, else one of so many.
const EVERY_CALL: &str = "PGPERSIST_TEST_EVERY_CALL";
const SAMPLE: u64 = 12;

const UNAVAILABLE: Effect = Effect::Fail(ErrorKind::Unavailable);
const LOST: Effect = Effect::LoseAnswer(ErrorKind::Unavailable);
const SLOW: Effect = Effect::Delay(Duration::from_millis(40));
/// Less than the first piece of a pack.
const TORN: Effect = Effect::Tear(1000);

/// What goes wrong with which operation.
const FAULTS: [(Operation, &[Effect]); 10] = [
    (Operation::Put, &[UNAVAILABLE, LOST, SLOW]),
    (Operation::PutIfAbsent, &[UNAVAILABLE, LOST, SLOW]),
    (Operation::Get, &[UNAVAILABLE, Effect::Corrupt, SLOW]),
    (Operation::GetRange, &[UNAVAILABLE, Effect::Corrupt, SLOW]),
    (Operation::Head, &[UNAVAILABLE, SLOW]),
    (Operation::List, &[UNAVAILABLE, SLOW]),
    (Operation::Delete, &[UNAVAILABLE, LOST, SLOW]),
    (Operation::Upload, &[UNAVAILABLE, TORN, SLOW]),
    (Operation::Write, &[UNAVAILABLE, LOST, SLOW]),
    (Operation::Finish, &[UNAVAILABLE, LOST, SLOW]),
];

fn one_worker() -> BackupOptions {
    BackupOptions { workers: 1, ..BackupOptions::default() }
}

async fn copy(store: &dyn BackupStore) -> Arc<dyn BackupStore> {
    let copy = MemoryBackupStore::new();
    for meta in store.list("").try_collect::<Vec<ObjectMeta>>().await.unwrap() {
        copy.put(&meta.key, store.get(&meta.key).await.unwrap()).await.unwrap();
    }
    Arc::new(copy)
}

/// The backups there are, each of which is whole.
async fn whole(store: &Arc<dyn BackupStore>, depth: Depth) -> BTreeSet<RunName> {
    let folder = ".pgpersist/main/repository".parse().unwrap();
    let repository = Repository::open(Arc::clone(store), folder).await.unwrap().unwrap();
    let report = verify(&repository, None, depth, &Silent).await.unwrap();
    // Packs that a run left unfinished are nobody's, and its intent says so.
    assert!(report.damaged.is_empty(), "{report:?}");
    repository.backups().await.unwrap().into_iter().collect()
}

/// Every call of each operation once, or a sample of them: `tried` is told what is wrong, and tells whether the call was made at all.
async fn at_each_call(mut tried: impl AsyncFnMut(FaultPlan) -> bool) -> u64 {
    let step = if std::env::var_os(EVERY_CALL).is_some() { 1 } else { SAMPLE };
    let mut hit = 0;
    for (nth, (operation, effects)) in FAULTS.into_iter().enumerate() {
        for (effect, first) in effects.iter().zip(1..) {
            // Not always the same ones, and the first call of each operation by one effect at least.
            let first = if step == 1 { 1 } else { 1 + (first - 1 + nth as u64) % step.min(effects.len() as u64) };
            for call in (first..).step_by(usize::try_from(step).unwrap()) {
                if !tried(FaultPlan::one(operation, Calls::Nth(call), *effect)).await {
                    break;
                }
                hit += 1;
            }
        }
    }
    hit
}

/// A changed byte may be the one that tells the version of the format.
fn is_expected(kind: ErrorKind, effect: Effect) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Damaged) || kind == ErrorKind::Invalid && effect == Effect::Corrupt
}

/// A line that `script/proofs` makes a row of.
#[expect(clippy::print_stdout, reason = "it is read from there")]
fn proven(what: &str, count: &str, began: Instant) {
    println!("proof: {what}|{count}|0|-|{:.1}", began.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_to_a_store_that_goes_wrong_at_any_call_is_whole_or_is_none() {
    let began = Instant::now();
    let server = server_with(3_000).await;
    let original: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository_of = async |store: &Arc<dyn BackupStore>, server: &TestServer| repository(Arc::clone(store), server).await;
    backup(&server, &repository_of(&original, &server).await, &one_worker()).await.unwrap();
    server.run("shop", "UPDATE public.orders SET note = 'another' WHERE id % 7 = 0; CHECKPOINT").await;
    let before = whole(&original, Depth::Full).await;
    let (mut failed, mut published) = (0, 0);
    let hit = at_each_call(async |plan: FaultPlan| {
        let fault = plan.faults[0];
        let store = copy(original.as_ref()).await;
        let faulty = FaultyStore::new(Arc::clone(&store), plan);
        let disturbed: Arc<dyn BackupStore> = Arc::new(faulty.clone());
        let folder = ".pgpersist/main/repository".parse().unwrap();
        let made = match Repository::open(disturbed, folder).await {
            Ok(opened) => backup(&server, &opened.unwrap(), &one_worker()).await,
            Err(error) => Err(error),
        };
        let Calls::Nth(call) = fault.calls else { unreachable!("the plan is of one call") };
        if faulty.calls(fault.operation) < call {
            return false;
        }
        let now = whole(&store, Depth::Quick).await;
        assert!(now.is_superset(&before), "{fault:?}: {before:?} were there, and {now:?} are");
        match made {
            Ok(report) => {
                published += 1;
                assert!(now.len() == before.len() + 1 && now.iter().any(|name| name.to_string() == report.name), "{fault:?}: {now:?}");
            }
            Err(error) => {
                failed += 1;
                assert!(is_expected(error.kind(), fault.effect), "{fault:?}: {error}");
                assert!(!matches!(fault.effect, Effect::Delay(_)), "{fault:?}: {error}");
            }
        }
        let again = backup(&server, &repository_of(&store, &server).await, &one_worker()).await.unwrap();
        let after = whole(&store, Depth::Full).await;
        assert!(after.len() == now.len() + 1 && after.iter().any(|name| name.to_string() == again.name), "{fault:?}: {after:?}");
        true
    })
    .await;
    assert!(failed > 10 && published > 10, "{failed} failed, {published} did not");
    proven("backup, the store at fault", &format!("{hit} calls: {failed} failed, {published} whole backups all the same"), began);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_from_a_store_that_goes_wrong_at_any_call_is_right_or_is_none() {
    let began = Instant::now();
    let server = server_with(3_000).await;
    let original: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let undisturbed = repository(Arc::clone(&original), &server).await;
    backup(&server, &undisturbed, &one_worker()).await.unwrap();
    server.run("shop", "UPDATE public.orders SET note = 'another' WHERE id % 7 = 0; CHECKPOINT").await;
    backup(&server, &undisturbed, &one_worker()).await.unwrap();
    let wanted = newest(&undisturbed).await.unwrap();
    let (right, _) = restored(&server, &undisturbed, "right").await.unwrap();
    let right = Tree::read(&right);
    let (mut failed, mut made) = (0, 0);
    let hit = at_each_call(async |plan: FaultPlan| {
        let fault = plan.faults[0];
        let faulty = FaultyStore::new(copy(original.as_ref()).await, plan);
        let folder = ".pgpersist/main/repository".parse().unwrap();
        let told = match Repository::open(Arc::new(faulty.clone()), folder).await {
            Ok(opened) => {
                let directory = LocalDataDirectory::open(server.path("tried")).unwrap();
                // By its name: of the newest one nothing is known but that it is damaged, where its manifest is.
                restore(&opened.unwrap(), wanted, &directory, &RestoreOptions::default(), &Silent).await.map(drop)
            }
            Err(error) => Err(error),
        };
        let place = server.path("tried");
        match &told {
            Ok(()) => assert_eq!(Tree::read(&place).differences(&right), Vec::<std::ffi::OsString>::new(), "{fault:?}"),
            Err(error) => {
                assert!(is_expected(error.kind(), fault.effect), "{fault:?}: {error}");
                assert!(!matches!(fault.effect, Effect::Delay(_)), "{fault:?}: {error}");
                assert!(!place.exists(), "{fault:?}: something was left: {error}");
            }
        }
        remove(&place);
        let Calls::Nth(call) = fault.calls else { unreachable!("the plan is of one call") };
        let was_made = faulty.calls(fault.operation) >= call;
        if was_made {
            failed += u64::from(told.is_err());
            made += u64::from(told.is_ok());
        }
        was_made
    })
    .await;
    assert!(failed > 5 && made > 5, "{failed} failed, {made} did not");
    proven("restore, the store at fault", &format!("{hit} calls: {failed} failed, {made} right all the same"), began);
}

fn remove(place: &Path) {
    if place.exists() {
        durable::remove_tree(place).unwrap();
    }
}
