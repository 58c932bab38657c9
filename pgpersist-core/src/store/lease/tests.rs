use super::*;
use crate::store::faulty::{Calls, Effect, Fault, FaultPlan, FaultyStore, Operation};
use crate::store::memory::MemoryBackupStore;

fn folder() -> ObjectKey {
    ".pgpersist/main/leases/maintenance".parse().unwrap()
}

/// Holders who beat often. How long they may be silent decides what a test is about.
fn options(what: &str, lost_after: u64, patience: u64) -> LeaseOptions {
    LeaseOptions {
        what: what.to_owned(),
        beat: Duration::from_millis(20),
        lost_after: Duration::from_millis(lost_after),
        patience: Duration::from_millis(patience),
    }
}

async fn take(store: &Arc<dyn BackupStore>, options: &LeaseOptions) -> Result<Lease> {
    Lease::take(store.clone(), &folder(), options).await
}

fn key(folder: &ObjectKey, token: u64) -> Result<ObjectKey> {
    Named::first(token).key(folder)
}

/// Those of all holders that have left something.
async fn tokens(store: &dyn BackupStore) -> Vec<u64> {
    objects(store, &folder()).await.unwrap().into_iter().map(|named| named.token).collect()
}

/// A store where nothing may be replaced, nor deleted.
fn append_only(inner: &Arc<dyn BackupStore>) -> Arc<dyn BackupStore> {
    let fault = |operation, effect| Fault { operation, calls: Calls::From(1), effect };
    let faults =
        vec![fault(Operation::Put, Effect::FailIfThere(ErrorKind::Denied)), fault(Operation::Delete, Effect::Fail(ErrorKind::Denied))];
    Arc::new(FaultyStore::new(inner.clone(), FaultPlan { seed: 0, faults }))
}

/// Puts what a holder of another machine would have left.
async fn left_by_another_machine(store: &Arc<dyn BackupStore>, token: u64, lost_after_s: f64) {
    left_under(store, Named::first(token), lost_after_s).await;
}

async fn left_under(store: &Arc<dyn BackupStore>, named: Named, lost_after_s: f64) {
    let record = Record {
        format: FORMAT,
        token: named.token,
        holder: "prune (process 1 on elsewhere)".into(),
        mark: 7,
        beat: 3,
        lost_after_s,
        released: false,
        process: None,
    };
    store.put(&named.key(&folder()).unwrap(), serde_json::to_vec(&record).unwrap().into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_one_holds_it_at_a_time_and_tokens_grow() {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let inside = Arc::new(AtomicU64::new(0));
    let tasks = (0..16).map(|_| {
        let (store, inside) = (store.clone(), inside.clone());
        tokio::spawn(async move {
            let lease = take(&store, &options("prune", 600_000, 120_000)).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are in at once");
            lease.check().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            let token = lease.token();
            lease.release().await;
            token
        })
    });
    let mut tokens = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        tokens.push(task.await.unwrap());
    }
    tokens.sort_unstable();
    assert_eq!(tokens, (1..=16).collect::<Vec<_>>());
}

/// Who looks, and is then held up for so long that others come, go and are forgotten, gets the number of one of them.
#[tokio::test]
async fn a_number_that_others_are_done_with_is_not_taken() {
    let inner: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let held_up = FaultPlan::one(Operation::PutIfAbsent, Calls::Nth(1), Effect::Delay(Duration::from_secs(2)));
    let faulty = FaultyStore::new(inner.clone(), held_up);
    let store: Arc<dyn BackupStore> = Arc::new(faulty.clone());
    let taking = tokio::spawn(async move { take(&store, &options("prune", 600_000, 120_000)).await });
    while faulty.calls(Operation::PutIfAbsent) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    left_by_another_machine(&inner, 3, 0.2).await;
    let lease = taking.await.unwrap().unwrap();
    lease.check().await.unwrap();
    assert_eq!((lease.token(), tokens(inner.as_ref()).await), (4, vec![4]));
}

#[tokio::test]
async fn who_lives_is_not_robbed_and_is_named() {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let held = take(&store, &options("sync", 3000, 0)).await.unwrap();
    let error = take(&store, &options("prune", 3000, 0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().starts_with(&format!("sync (process {} on ", std::process::id())), "{error}");
    held.check().await.unwrap();
    held.release().await;
    take(&store, &options("prune", 3000, 0)).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_was_killed_elsewhere_is_known_by_its_silence() {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    left_by_another_machine(&store, 41, 0.3).await;
    let began = Instant::now();
    let lease = take(&store, &options("prune", 600_000, 0)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300), "it was not given the time that it had promised");
    assert_eq!(lease.token(), 42);
}

#[tokio::test]
async fn a_holder_of_this_machine_whose_process_has_ended_is_not_waited_for() {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let own = serde_json::to_value(ProcessMark::own().unwrap()).unwrap();
    let mut mark = own.clone();
    mark["pid"] = child.id().into();
    left_by_another_machine(&store, 1, 600.0).await;
    let object = key(&folder(), 1).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&store.get(&object).await.unwrap()).unwrap();
    record["process"] = mark;
    store.put(&object, record.to_string().into()).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let taken = tokio::time::timeout(Duration::from_secs(300), take(&store, &options("prune", 600_000, 0))).await;
    assert_eq!(taken.unwrap().unwrap().token(), 2);
}

#[tokio::test]
async fn a_holder_that_cannot_beat_stops_before_another_may_begin() {
    let inner: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let mute = FaultPlan::one(Operation::Put, Calls::From(1), Effect::Fail(ErrorKind::Unavailable));
    let faulty: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(inner.clone(), mute));
    let mute = take(&faulty, &options("sync", 300, 0)).await.unwrap();
    left_alone(&mute).await;
    assert!(mute.check().await.unwrap_err().to_string().contains("took no sign of life"));
    // Its process lives, so it is waited for.
    let other = take(&inner, &options("prune", 300, 0)).await.unwrap();
    assert_eq!(other.token(), 2);
}

/// Waits until a holder that cannot beat must know it.
async fn left_alone(lease: &Lease) {
    tokio::time::sleep(lease.lost_after * 2 / 3 + Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_holder_that_slept_sees_that_its_place_is_taken() {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let sleeper = take(&store, &options("sync", 600_000, 0)).await.unwrap();
    left_by_another_machine(&store, 3, 600.0).await;
    let error = sleeper.check().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("somebody else has it now"), "{error}");
    store.delete(&key(&folder(), 1).unwrap()).await.unwrap();
    store.delete(&key(&folder(), 3).unwrap()).await.unwrap();
    sleeper.beating.abort();
    assert!(sleeper.check().await.unwrap_err().to_string().contains("gone"));
}

#[tokio::test]
async fn a_beat_on_its_way_arrives_before_the_mark_of_one_who_is_done() {
    let memory: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let arrived = FaultyStore::new(memory.clone(), FaultPlan::default());
    let slow = FaultPlan::one(Operation::Put, Calls::Nth(1), Effect::Delay(Duration::from_millis(300)));
    let slow = FaultyStore::new(Arc::new(arrived.clone()), slow);
    let lease = take(&(Arc::new(slow.clone()) as Arc<dyn BackupStore>), &options("prune", 600_000, 0)).await.unwrap();
    let object = key(&folder(), lease.token()).unwrap();
    while slow.calls(Operation::Put) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    lease.release().await;
    assert_eq!(arrived.calls(Operation::Put), 2, "the beat was left to arrive whenever it does");
    assert!(parse(&read(memory.as_ref(), &object).await.unwrap().unwrap()).unwrap().released);
}

#[tokio::test]
async fn without_the_right_to_delete_it_works_and_leaves_an_object_for_each_holder() {
    let inner: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let plan = FaultPlan::one(Operation::Delete, Calls::From(1), Effect::Fail(ErrorKind::Denied));
    let store: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(inner.clone(), plan));
    for round in 1..=3 {
        let lease = take(&store, &options("prune", 600_000, 0)).await.unwrap();
        assert_eq!(lease.token(), round);
        lease.release().await;
    }
    assert_eq!(tokens(inner.as_ref()).await, [1, 2, 3]);
    // Who may delete tidies up, and the numbers go on.
    let lease = take(&inner, &options("prune", 600_000, 0)).await.unwrap();
    assert_eq!((lease.token(), tokens(inner.as_ref()).await), (4, vec![4]));
}

#[tokio::test]
async fn without_the_right_to_replace_each_beat_has_an_object_and_the_last_one_counts() {
    let inner: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let lease = take(&append_only(&inner), &options("sync", 600_000, 0)).await.unwrap();
    let said = async || {
        let named = newest(inner.as_ref(), &folder()).await.unwrap().unwrap();
        let record = parse(&read(inner.as_ref(), &named.key(&folder()).unwrap()).await.unwrap().unwrap()).unwrap();
        (named, record)
    };
    let beaten = || *lease.own.beaten.lock().unwrap();
    let (begun, began) = (beaten(), Instant::now());
    while said().await.0.number < 2 || beaten() == begun {
        assert!(began.elapsed() < Duration::from_secs(120), "no beat arrives");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (named, record) = said().await;
    assert!(named.token == 1 && record.beat >= 2 && record.mark == lease.own.mark && !record.released, "{named:?} {record:?}");
    lease.check().await.unwrap();
    lease.release().await;
    let (last, record) = said().await;
    assert!(last > named && record.released, "{last:?} {record:?}");
    // So the next one need not wait; and who may delete tidies up all of it.
    let next = take(&inner, &options("prune", 600_000, 0)).await.unwrap();
    assert_eq!(objects(inner.as_ref(), &folder()).await.unwrap(), [Named::first(2)]);
    next.release().await;
    assert!(said().await.1.released, "one that may replace adds nothing");
    assert_eq!(said().await.0, Named::first(2));
}

#[tokio::test]
async fn of_a_holder_that_was_killed_its_last_object_is_believed() {
    let inner: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    left_by_another_machine(&inner, 41, 600.0).await;
    left_under(&inner, Named { token: 41, number: 1 }, 600.0).await;
    left_under(&inner, Named { token: 41, number: 2 }, 0.3).await;
    let taken = tokio::time::timeout(Duration::from_secs(300), take(&append_only(&inner), &options("prune", 600_000, 0))).await;
    assert_eq!(taken.unwrap().unwrap().token(), 42);
}

#[tokio::test]
async fn of_two_who_got_one_number_one_has_the_lease() {
    let inner: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    // It ignores conditions: who claims writes over whoever did.
    let plan = FaultPlan::one(Operation::PutIfAbsent, Calls::From(1), Effect::Overwrite);
    let weak: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(inner.clone(), plan));
    let silent = LeaseOptions { beat: Duration::from_secs(600), ..options("sync", 600_000, 0) };
    let robbed = take(&weak, &silent).await.unwrap();
    let own = Own {
        folder: folder(),
        token: 1,
        holder: "prune".into(),
        process: None,
        mark: 7,
        lost_after: silent.lost_after,
        beats: AtomicU64::new(0),
        adds: AtomicBool::new(false),
        added: AtomicU64::new(0),
        beaten: Mutex::new(Instant::now()),
    };
    assert!(own.claim(weak.as_ref()).await.unwrap(), "the name is given twice");
    let other = Lease::hold(weak.clone(), Arc::new(own), &silent).await;
    let error = robbed.check().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("the same number"), "{error}");
    // Neither a sign of life nor its end takes it from the other one.
    assert_eq!(robbed.own.put(weak.as_ref(), false).await.unwrap_err().kind(), ErrorKind::Conflict);
    robbed.release().await;
    other.check().await.unwrap();
    other.own.put(weak.as_ref(), false).await.unwrap();
    other.check().await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_costs_no_lease_and_what_is_no_object_of_a_holder_is_outlived() {
    let inner: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    for kind in [ErrorKind::Unavailable, ErrorKind::Conflict] {
        let plan = FaultPlan::one(Operation::PutIfAbsent, Calls::Nth(1), Effect::LoseAnswer(kind));
        let store: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(inner.clone(), plan));
        take(&store, &options("prune", 600_000, 0)).await.unwrap().release().await;
    }
    inner.put(&key(&folder(), 9).unwrap(), "not JSON".into()).await.unwrap();
    inner.put(&folder().join("note.txt").unwrap(), "x".into()).await.unwrap();
    assert_eq!(take(&inner, &options("prune", 200, 0)).await.unwrap().token(), 10);
    inner.put(&key(&folder(), 11).unwrap(), vec![b'x'; 10_000].into()).await.unwrap();
    assert_eq!(take(&inner, &options("prune", 200, 0)).await.unwrap().token(), 12);
}
