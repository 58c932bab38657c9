//! `store check` says what is good about a store, finds what is not, and leaves nothing behind.

use std::sync::Arc;

use futures_util::TryStreamExt;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::init::known::prove_writable;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::progress::Silent;
use pgpersist_core::store::BackupStore;
use pgpersist_core::store::check::report::{CheckReport, Fitness};
use pgpersist_core::store::check::run::{CheckOptions, check};
use pgpersist_core::store::faulty::{Calls, Effect, Fault, FaultPlan, FaultyStore, Operation};
use pgpersist_core::store::local::LocalBackupStore;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::observation::Standing;

const OPTIONS: CheckOptions = CheckOptions { throughput_bytes: Some(10_000_000) };

async fn checked(store: &Arc<dyn BackupStore>) -> CheckReport {
    check(store, &OPTIONS, &Silent).await.unwrap()
}

fn faulty(inner: &MemoryBackupStore, operation: Operation, calls: Calls, effect: Effect) -> Arc<dyn BackupStore> {
    Arc::new(FaultyStore::new(Arc::new(inner.clone()), FaultPlan::one(operation, calls, effect)))
}

/// What is seen by who may neither delete nor replace.
fn append_only(inner: &MemoryBackupStore) -> Arc<dyn BackupStore> {
    let fault = |operation, effect| Fault { operation, calls: Calls::From(1), effect };
    let faults =
        vec![fault(Operation::Put, Effect::FailIfThere(ErrorKind::Denied)), fault(Operation::Delete, Effect::Fail(ErrorKind::Denied))];
    Arc::new(FaultyStore::new(Arc::new(inner.clone()), FaultPlan { seed: 0, faults }))
}

fn standing(report: &CheckReport, name: &str) -> Standing {
    report.findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("no {name} in {report:?}")).status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn good_stores_are_good_and_stay_as_they_were() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = LocalBackupStore::open(scratch.path().join("store")).unwrap();
    for store in [Arc::new(MemoryBackupStore::new()) as Arc<dyn BackupStore>, Arc::new(folder)] {
        let kept = "backup_20260101_000000.sql.gz".parse().unwrap();
        store.put(&kept, "mine".into()).await.unwrap();
        let report = checked(&store).await;
        assert_eq!(report.fitness, Fitness::Good, "{report:?}");
        let throughput = report.throughput.unwrap();
        assert_eq!(throughput.bytes, 10_000_000);
        let left: Vec<_> = store.list("").try_collect().await.unwrap();
        assert_eq!(left.into_iter().map(|meta| meta.key).collect::<Vec<_>>(), [kept]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_flips_bits_is_unfit() {
    let memory = MemoryBackupStore::new();
    let store = faulty(&memory, Operation::GetRange, Calls::From(1), Effect::Corrupt);
    let report = checked(&store).await;
    assert_eq!((report.fitness, standing(&report, "ranges")), (Fitness::Unfit, Standing::Fail));
    // The measuring noticed it as well, which says nothing new.
    assert_eq!(report.throughput, None);
    assert!(report.findings.iter().all(|finding| (finding.status >= Standing::Warn) == finding.remedy.is_some()), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_cannot_be_asked_is_an_error() {
    let memory = MemoryBackupStore::new();
    for (effect, kind) in
        [(Effect::Fail(ErrorKind::Unavailable), ErrorKind::Unavailable), (Effect::Fail(ErrorKind::Denied), ErrorKind::Denied)]
    {
        let store = faulty(&memory, Operation::Put, Calls::From(1), effect);
        assert_eq!(check(&store, &OPTIONS, &Silent).await.unwrap_err().kind(), kind);
    }
    let store = faulty(&memory, Operation::Get, Calls::From(1), Effect::Corrupt);
    assert_eq!(check(&store, &OPTIONS, &Silent).await.unwrap_err().kind(), ErrorKind::Damaged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_cannot_delete_can_still_write() {
    let memory = MemoryBackupStore::new();
    let store = faulty(&memory, Operation::Delete, Calls::From(1), Effect::Fail(ErrorKind::Denied));
    let report = checked(&store).await;
    assert_eq!(
        (report.fitness, standing(&report, "deletion"), standing(&report, "leftovers")),
        (Fitness::Weak, Standing::Warn, Standing::Warn)
    );
    prove_writable(&Shelf::new(store, "main", Vec::new())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_can_neither_delete_nor_replace_can_still_write() {
    let memory = MemoryBackupStore::new();
    let store = append_only(&memory);
    let report = checked(&store).await;
    assert_eq!(
        (report.fitness, standing(&report, "objects"), standing(&report, "deletion")),
        (Fitness::Weak, Standing::Pass, Standing::Warn)
    );
    assert!(report.throughput.is_some());
    let shelf = Shelf::new(store, "main", Vec::new());
    let mut probes = Vec::new();
    for _ in 0..3 {
        prove_writable(&shelf).await.unwrap();
        probes.push(memory.list(".pgpersist/main/probe").try_collect::<Vec<_>>().await.unwrap().len());
    }
    // One, and one of today; around midnight one more.
    assert!(probes[0] == 1 && probes[1] == 2 && probes[2] <= 3, "{probes:?}");
    // Who may not even write is found out where there is something to replace, and where there is nothing.
    let denied = FaultPlan {
        seed: 0,
        faults: [Operation::Put, Operation::PutIfAbsent]
            .map(|operation| Fault { operation, calls: Calls::From(1), effect: Effect::Fail(ErrorKind::Denied) })
            .to_vec(),
    };
    for cluster in ["main", "other"] {
        let reader: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(Arc::new(memory.clone()), denied.clone()));
        assert_eq!(prove_writable(&Shelf::new(reader, cluster, Vec::new())).await.unwrap_err().kind(), ErrorKind::Denied);
    }
}
