use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use time::macros::datetime;

use super::*;
use crate::clock::ManualClock;
use crate::logical::all_stores::AllStores;
use crate::logical::prune::{Consent, PruneRequest};
use crate::logical::shelf::DumpState;
use crate::logical::store_output::hexadecimal;
use crate::logical::verify::Depth;
use crate::logical::verify_all::verify_all;
use crate::pg::version::ServerVersion;
use crate::progress::Silent;
use crate::retention::Retention;
use crate::store::faulty::{Calls, Effect, Fault, FaultPlan, FaultyStore, Operation};
use crate::store::local::LocalBackupStore;
use crate::store::memory::MemoryBackupStore;
use crate::store::{BackupStore, ObjectKey};

mod sealed;

const NOW: OffsetDateTime = datetime!(2026-02-08 12:00 UTC);
const VERSION: ServerVersion = ServerVersion { major: 15, minor: 18 };

fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

async fn put(store: &dyn BackupStore, name: &str, bytes: impl Into<Bytes>) {
    store.put(&key(name), bytes.into()).await.unwrap();
}

fn gzip(text: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().into()
}

/// What pg_dump writes of a table with these lines; the last line is the one by which a whole dump is known.
fn script(rows: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\nCREATE TABLE public.orders (id integer);\nCOPY public.orders (id) FROM stdin;\n{rows}\\.\n\n\
         --\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

/// A dump of this day that `verify` finds whole, with its side file and its roles.
async fn dump(store: &dyn BackupStore, day: &str, rows: &str) {
    let text = script(rows);
    let bytes = gzip(&text);
    let name = format!("backup_{day}_000000.sql.gz");
    let side = serde_json::json!({
        "format": 1, "database": "shop", "cluster": "main", "system_identifier": "7", "server_version": "15.18",
        "pg_dump_version": "15.18", "started_at": "2026-02-08T09:33:16Z", "finished_at": "2026-02-08T09:33:17Z",
        "size_bytes": bytes.len(), "sha256": hexadecimal(&Sha256::digest(&bytes)), "uncompressed_bytes": text.len(),
        "tables": {"public.orders": rows.lines().count()},
    });
    put(store, &name, bytes).await;
    put(store, &format!("{name}.json"), side.to_string()).await;
    put(store, &format!("globals_{day}_000000.sql.gz"), gzip(&format!("CREATE ROLE app;\n{}", script("")))).await;
}

fn shelf(store: Arc<dyn BackupStore>) -> Shelf {
    Shelf::new(store, "main", vec!["shop".into()]).with_clock(Arc::new(ManualClock::new(NOW)))
}

fn request(primary: &Arc<dyn BackupStore>, copies: &[Arc<dyn BackupStore>]) -> SyncRequest {
    let copies = copies.iter().map(|store| CopyShelf { shelf: shelf(store.clone()), retention: Retention::default() });
    let mut request = SyncRequest::new(shelf(primary.clone()).with_copies(copies.collect()));
    // A holder whose process lives is waited for: tests have only one.
    request.lease.lost_after = Duration::from_millis(200);
    request.lease.beat = Duration::from_millis(20);
    request
}

async fn sync(primary: &Arc<dyn BackupStore>, copies: &[Arc<dyn BackupStore>]) -> SyncReport {
    request(primary, copies).carry_out(&Silent).await.unwrap()
}

/// Two dumps of a cluster that has a card, and one of the cluster that had its name before.
async fn primary() -> Arc<dyn BackupStore> {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    ClusterCard::new("main", 6, VERSION, NOW).claim(store.as_ref()).await.unwrap();
    ClusterCard::new("main", 7, VERSION, NOW).renew(store.as_ref()).await.unwrap();
    for (day, rows) in [("20260201", "1\n"), ("20260202", "1\n2\n"), ("20260203", "1\n2\n3\n")] {
        dump(store.as_ref(), day, rows).await;
    }
    store
}

async fn objects(store: &dyn BackupStore) -> BTreeMap<String, Bytes> {
    let listed: Vec<_> = store.list("").try_collect().await.unwrap();
    let mut all = BTreeMap::new();
    for meta in listed.into_iter().filter(|meta| !meta.key.as_str().contains("/leases/")) {
        all.insert(meta.key.to_string(), store.get(&meta.key).await.unwrap());
    }
    all
}

/// Whether the copy, as it is, can be restored from: whatever dump is listed there is whole, and its roles are there.
async fn assert_restorable(copy: &Arc<dyn BackupStore>, what: &str) {
    let shelf = shelf(copy.clone());
    let report = verify_all(&shelf, None, None, Depth::Full, &Silent).await.unwrap();
    assert!(report.damaged.is_empty() && report.unreadable.is_empty(), "{what}: {report:?}");
    let roles = shelf.globals().await.unwrap();
    for entry in shelf.list().await.unwrap() {
        assert!(entry.is_good(), "{what}: {entry:?}");
        let beside = entry.name.as_str().replace("backup_", "globals_");
        assert!(roles.iter().any(|name| name.as_str() == beside), "{what}: {} is without its roles", entry.name);
        assert!(ClusterCard::read(copy.as_ref(), "main").await.unwrap().is_some(), "{what}: a dump before the card");
    }
}

#[tokio::test]
async fn a_copy_is_filled_and_kept_up_to_date_and_is_the_same_in_every_byte() {
    let here = primary().await;
    let folder = tempfile::tempdir().unwrap();
    let there: Arc<dyn BackupStore> = Arc::new(LocalBackupStore::open(folder.path().join("copy")).unwrap());
    let report = sync(&here, std::slice::from_ref(&there)).await;
    assert_eq!(report.trouble(), None);
    let of_copy = &report.stores[0];
    assert_eq!((of_copy.place, of_copy.copied, of_copy.behind, of_copy.behind_s), (2, 6, Some(0), Some(0.0)));
    assert_eq!(objects(there.as_ref()).await, objects(here.as_ref()).await);
    let again = sync(&here, std::slice::from_ref(&there)).await;
    assert_eq!((again.stores[0].copied, again.stores[0].bytes), (0, 0));
    dump(here.as_ref(), "20260204", "").await;
    assert_eq!(sync(&here, std::slice::from_ref(&there)).await.stores[0].copied, 2);
    assert_eq!(objects(there.as_ref()).await, objects(here.as_ref()).await);
    assert_restorable(&there, "after all").await;
}

#[tokio::test]
async fn a_large_object_goes_in_parts() {
    let here: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let bytes: Bytes = (0..9 << 20).map(|place: u32| place.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    put(here.as_ref(), "backup_20260201_000000.sql.gz", bytes.clone()).await;
    assert_eq!(sync(&here, std::slice::from_ref(&there)).await.trouble(), None);
    assert!(there.get(&key("backup_20260201_000000.sql.gz")).await.unwrap() == bytes);
}

const OPERATIONS: [Operation; 9] = [
    Operation::Put,
    Operation::PutIfAbsent,
    Operation::Get,
    Operation::GetRange,
    Operation::Head,
    Operation::List,
    Operation::Upload,
    Operation::Write,
    Operation::Finish,
];

/// Every call of every kind, of either store, fails once, or loses its answer, or tears: the copy can be restored from after
/// each, and the next run completes it.
#[tokio::test]
async fn interrupted_at_any_call_the_copy_is_good_and_the_next_run_completes_it() {
    let here = primary().await;
    let whole = objects(here.as_ref()).await;
    let mut failed = 0;
    for operation in OPERATIONS {
        for at_the_copy in [true, false] {
            for nth in 1.. {
                for effect in [Effect::Fail(ErrorKind::Unavailable), Effect::LoseAnswer(ErrorKind::Unavailable), Effect::Tear(10)] {
                    if effect == Effect::Tear(10) && operation != Operation::Upload {
                        continue;
                    }
                    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
                    let plan = FaultPlan::one(operation, Calls::Nth(nth), effect);
                    let faulty = FaultyStore::new(if at_the_copy { there.clone() } else { here.clone() }, plan);
                    let store: Arc<dyn BackupStore> = Arc::new(faulty.clone());
                    let what = format!("{operation:?} {nth} {effect:?}, at the copy: {at_the_copy}");
                    let first = if at_the_copy {
                        request(&here, std::slice::from_ref(&store)).carry_out(&Silent).await
                    } else {
                        request(&store, std::slice::from_ref(&there)).carry_out(&Silent).await
                    };
                    let is_hit = faulty.calls(operation) >= nth;
                    failed += usize::from(first.as_ref().is_ok_and(|report| report.trouble().is_some()) || first.is_err());
                    assert_restorable(&there, &what).await;
                    let second = sync(&here, std::slice::from_ref(&there)).await;
                    assert_eq!(second.trouble(), None, "{what}: {second:?}");
                    assert_eq!(objects(there.as_ref()).await, whole, "{what}");
                    if !is_hit {
                        break;
                    }
                }
                let counted = FaultyStore::new(here.clone(), FaultPlan::default());
                let fresh: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
                let calls = if at_the_copy {
                    let counted = FaultyStore::new(fresh, FaultPlan::default());
                    sync(&here, &[Arc::new(counted.clone()) as Arc<dyn BackupStore>]).await;
                    counted.calls(operation)
                } else {
                    let store: Arc<dyn BackupStore> = Arc::new(counted.clone());
                    sync(&store, &[fresh]).await;
                    counted.calls(operation)
                };
                if nth >= calls {
                    break;
                }
            }
        }
    }
    assert!(failed > 60, "only {failed} runs were hit: the sweep sweeps nothing");
}

/// A sink that ends the run at the nth event, as a kill does: by dropping what is going on.
#[derive(Debug)]
struct Countdown(AtomicUsize, tokio::sync::Notify);

impl ProgressSink for Countdown {
    fn event(&self, _event: Event) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.1.notify_one();
        }
    }
}

#[tokio::test]
async fn dropped_at_any_object_nothing_half_is_seen() {
    let here = primary().await;
    let folder = tempfile::tempdir().unwrap();
    for nth in 1..=14 {
        let place = folder.path().join(nth.to_string());
        let there: Arc<dyn BackupStore> = Arc::new(LocalBackupStore::open(&place).unwrap());
        let countdown = Countdown(AtomicUsize::new(nth), tokio::sync::Notify::new());
        let going_on = request(&here, std::slice::from_ref(&there));
        tokio::select! {
            biased;
            () = countdown.1.notified() => {}
            done = going_on.carry_out(&countdown) => drop(done.unwrap()),
        }
        assert_restorable(&there, &format!("event {nth}")).await;
        // A blocking step of what was dropped may still hold its file.
        let mut trouble = sync(&here, std::slice::from_ref(&there)).await.trouble();
        for _ in 0..300 {
            if trouble != Some(ErrorKind::Conflict) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            trouble = sync(&here, std::slice::from_ref(&there)).await.trouble();
        }
        assert_eq!(trouble, None);
        assert_eq!(objects(there.as_ref()).await, objects(here.as_ref()).await);
    }
}

#[tokio::test]
async fn damage_on_the_way_is_found_and_not_published() {
    let here = primary().await;
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    // The first ranges are side files, whose damage shows in the listing; from there on every second one is a dump.
    let mut damaged = 0;
    for nth in 1..=12 {
        let plan = FaultPlan {
            seed: nth,
            faults: vec![Fault { operation: Operation::GetRange, calls: Calls::Nth(nth), effect: Effect::Corrupt }],
        };
        let faulty: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(here.clone(), plan));
        let report = sync(&faulty, std::slice::from_ref(&there)).await;
        damaged += report.stores[0].damaged.len();
        for entry in shelf(there.clone()).list().await.unwrap() {
            assert!(entry.is_good(), "{nth}: {entry:?}");
        }
        let bad = verify_all(&shelf(there.clone()), None, None, Depth::Full, &Silent).await.unwrap();
        assert!(bad.damaged.iter().all(|damaged| damaged.name.as_str().starts_with("globals_")), "{nth}: {bad:?}");
    }
    assert!(damaged > 0, "nothing was damaged on its way");
}

#[tokio::test]
async fn what_is_damaged_here_is_told_and_all_else_is_copied() {
    let here = primary().await;
    let name = key("backup_20260202_000000.sql.gz");
    let mut bytes = here.get(&name).await.unwrap().to_vec();
    bytes[20] ^= 1;
    here.put(&name, bytes.into()).await.unwrap();
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let report = sync(&here, std::slice::from_ref(&there)).await;
    assert_eq!((report.trouble(), report.stores[0].damaged[0].name.clone()), (Some(ErrorKind::Damaged), name.clone()));
    assert!(there.head(&name).await.is_err());
    assert_eq!(shelf(there.clone()).list().await.unwrap().len(), 2);
    assert!(report.troubles()[0].contains("damaged in the primary store"), "{:?}", report.troubles());
}

#[tokio::test]
async fn something_else_under_the_same_name_is_left_alone() {
    let here = primary().await;
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    put(there.as_ref(), "backup_20260203_000000.sql.gz", gzip("somebody's own")).await;
    // Of the same size, and not the same: only reading tells.
    let mut bytes = here.get(&key("backup_20260202_000000.sql.gz")).await.unwrap().to_vec();
    bytes[20] ^= 1;
    put(there.as_ref(), "backup_20260202_000000.sql.gz", bytes.clone()).await;
    let report = sync(&here, std::slice::from_ref(&there)).await;
    assert_eq!(report.trouble(), Some(ErrorKind::Conflict));
    let names: Vec<&str> = report.stores[0].conflicts.iter().map(|left| left.name.as_str()).collect();
    assert_eq!(names, ["backup_20260203_000000.sql.gz", "backup_20260202_000000.sql.gz"]);
    assert_eq!(there.get(&key("backup_20260203_000000.sql.gz")).await.unwrap(), gzip("somebody's own"));
    assert_eq!(there.get(&key("backup_20260202_000000.sql.gz")).await.unwrap(), bytes);
    assert!(there.head(&key("backup_20260202_000000.sql.gz.json")).await.is_err());
    assert!(there.head(&key("backup_20260201_000000.sql.gz.json")).await.is_ok(), "the rest was copied");
}

#[tokio::test]
async fn a_store_that_is_down_or_hangs_delays_only_itself() {
    let here = primary().await;
    let fine: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let broken = |operation, effect| -> Arc<dyn BackupStore> {
        Arc::new(FaultyStore::new(Arc::new(MemoryBackupStore::new()), FaultPlan::one(operation, Calls::From(1), effect)))
    };
    let down = broken(Operation::List, Effect::Fail(ErrorKind::Unavailable));
    let hanging = broken(Operation::Upload, Effect::Delay(Duration::from_secs(1_000_000)));
    let mute = broken(Operation::List, Effect::Delay(Duration::from_secs(1_000_000)));
    let closed = broken(Operation::PutIfAbsent, Effect::Fail(ErrorKind::Denied));
    let mut request = request(&here, &[down, hanging, mute, closed, fine.clone()]);
    (request.look, request.stall) = (Duration::from_secs(3), Duration::from_secs(3));
    let report = request.carry_out(&Silent).await.unwrap();
    let kinds: Vec<_> = report.stores.iter().map(|store| store.error.kind).collect();
    let unavailable = Some(ErrorKind::Unavailable);
    assert_eq!(kinds, [unavailable, unavailable, unavailable, Some(ErrorKind::Denied), None]);
    assert_eq!(report.stores.iter().map(|store| store.behind).collect::<Vec<_>>(), [None, Some(3), None, Some(3), Some(0)]);
    assert_eq!(objects(fine.as_ref()).await, objects(here.as_ref()).await);
    assert_eq!((report.trouble(), report.troubles().len()), (unavailable, 4));
}

#[tokio::test]
async fn a_copy_of_another_cluster_is_refused_and_one_of_the_cluster_before_is_taken_over() {
    let here = primary().await;
    for (identifier, kind) in [(8, Some(ErrorKind::Unsafe)), (6, None), (7, None)] {
        let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        ClusterCard::new("main", identifier, VERSION, NOW).claim(there.as_ref()).await.unwrap();
        let report = sync(&here, std::slice::from_ref(&there)).await;
        assert_eq!(report.stores[0].error.kind, kind, "{identifier}");
        let card = ClusterCard::read(there.as_ref(), "main").await.unwrap().unwrap();
        assert_eq!(card.system_identifier, if kind.is_some() { identifier } else { 7 });
    }
}

#[tokio::test]
async fn a_primary_store_that_lost_everything_is_filled_from_its_copy() {
    let here = primary().await;
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    sync(&here, std::slice::from_ref(&there)).await;
    let lost: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let report = sync(&lost, std::slice::from_ref(&there)).await;
    assert_eq!(report.stores[0].error.kind, Some(ErrorKind::Unsafe));
    assert!(report.stores[0].error.remedy.as_ref().unwrap().contains("--store"), "{report:?}");
    assert_eq!(objects(there.as_ref()).await, objects(here.as_ref()).await, "nothing is removed");
    assert_eq!(sync(&there, std::slice::from_ref(&lost)).await.trouble(), None);
    assert_eq!(objects(lost.as_ref()).await, objects(here.as_ref()).await);
}

#[tokio::test]
async fn without_a_second_store_there_is_nothing_to_sync() {
    let error = request(&primary().await, &[]).carry_out(&Silent).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.remedy().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_do_no_harm() {
    let here = primary().await;
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let both = (0..4).map(|_| {
        let mut request = request(&here, std::slice::from_ref(&there));
        request.lease = LeaseOptions { lost_after: Duration::from_secs(600), patience: Duration::from_secs(600), ..request.lease };
        tokio::spawn(async move { request.carry_out(&Silent).await.unwrap() })
    });
    let mut copied = 0;
    for one in both.collect::<Vec<_>>() {
        let report = one.await.unwrap();
        assert_eq!(report.trouble(), None, "{report:?}");
        copied += report.stores[0].copied;
    }
    assert_eq!(copied, 6, "each object goes once");
    assert_eq!(objects(there.as_ref()).await, objects(here.as_ref()).await);
}

#[tokio::test]
async fn a_dump_is_looked_for_in_the_next_store_where_the_first_has_it_not_or_not_whole() {
    let here = primary().await;
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    sync(&here, std::slice::from_ref(&there)).await;
    let both = request(&here, std::slice::from_ref(&there)).shelf;
    here.delete(&key("backup_20260203_000000.sql.gz")).await.unwrap();
    put(here.as_ref(), "backup_20260202_000000.sql.gz", "cut off").await;
    let all = AllStores::look(&both, &Silent).await.unwrap();
    let newest = all.find("latest", None).unwrap();
    assert_eq!((newest.name.as_str(), &newest.state), ("backup_20260203_000000.sql.gz", &DumpState::Complete));
    let of = |name: &str| all.places(&key(name)).iter().map(|placed| placed.place).collect::<Vec<_>>();
    assert_eq!((of("backup_20260203_000000.sql.gz"), of("backup_20260202_000000.sql.gz")), (vec![2], vec![2, 1]));
    assert_eq!(of("backup_20260201_000000.sql.gz"), [1, 2]);
    let told = |name: &str| all.instead(&all.places(&key(name))[0]);
    assert!(told("backup_20260203_000000.sql.gz").unwrap().contains("does not have it"));
    assert!(told("backup_20260202_000000.sql.gz").unwrap().contains("is damaged in"));
    assert_eq!(told("backup_20260201_000000.sql.gz"), None);
    let places: Vec<_> = all.list_with_places().into_iter().map(|(entry, places)| (entry.name.as_str(), places)).collect();
    assert!(places.contains(&("backup_20260201_000000.sql.gz", vec![1, 2])), "{places:?}");
    // The damage in one store is told with the one where it is whole.
    let report = verify_all(&both, None, None, Depth::Full, &Silent).await.unwrap();
    assert_eq!((report.damaged.len(), report.damaged[0].whole_in.len()), (1, 1), "{report:?}");
    let down = FaultPlan::one(Operation::List, Calls::From(1), Effect::Fail(ErrorKind::Unavailable));
    let down: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(here.clone(), down));
    let all = AllStores::look(&request(&down, std::slice::from_ref(&there)).shelf, &Silent).await.unwrap();
    assert_eq!(all.list().len(), 3);
    assert!(all.stores().next().unwrap().2.is_some());
    assert_eq!(all.find("backup_19990101_000000.sql.gz", None).unwrap_err().kind(), ErrorKind::Unavailable, "it may be there");
}

#[tokio::test]
async fn nothing_leaves_the_primary_store_that_a_copy_lacks_and_would_keep() {
    let here = primary().await;
    let there: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let last = Retention { keep_last: Some(1), ..Retention::default() };
    let pruning = |copy: &Arc<dyn BackupStore>, retention| {
        let copies = vec![CopyShelf { shelf: shelf(copy.clone()), retention }];
        PruneRequest::new(shelf(here.clone()).with_copies(copies), last)
    };
    let kept = |plan: &crate::logical::prune_plan::PrunePlan, name: &str| {
        plan.kept.iter().find(|kept| kept.name.as_str() == name).map(|kept| kept.reason.clone())
    };
    let plan = pruning(&there, Retention::default()).plan(NOW).await.unwrap();
    assert_eq!(plan.dropped, []);
    assert!(kept(&plan, "backup_20260201_000000.sql.gz").unwrap().contains("does not have it yet"));
    // A copy by the same rules would not keep them either, down or not.
    let down = FaultPlan::one(Operation::List, Calls::From(1), Effect::Fail(ErrorKind::Unavailable));
    let down: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(there.clone(), down));
    assert_eq!(pruning(&down, last).plan(NOW).await.unwrap().dropped.len(), 4);
    let held = pruning(&down, Retention::default()).plan(NOW).await.unwrap();
    assert!(held.dropped.is_empty() && kept(&held, "backup_20260202_000000.sql.gz").unwrap().contains("cannot be asked"));
    sync(&here, std::slice::from_ref(&there)).await;
    let request = pruning(&there, Retention::default());
    assert_eq!(request.carry_out(Consent::Missing, NOW).await.unwrap_err().kind(), ErrorKind::Unsafe, "more than half");
    assert_eq!(request.carry_out(Consent::Given, NOW).await.unwrap().dropped.len(), 4);
    assert_eq!((shelf(here.clone()).list().await.unwrap().len(), shelf(there.clone()).list().await.unwrap().len()), (1, 3));
    // What is gone here stays there, and syncing brings nothing back.
    assert_eq!(sync(&here, std::slice::from_ref(&there)).await.stores[0].copied, 0);
    assert_restorable(&there, "after pruning the primary store").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prunes_at_once_do_no_harm_and_a_third_one_names_who_is_at_it() {
    let here = primary().await;
    let last = Retention { keep_last: Some(1), ..Retention::default() };
    let mut request = PruneRequest::new(shelf(here.clone()), last);
    request.lease.beat = Duration::from_millis(20);
    request.lease.lost_after = Duration::from_secs(3);
    let held = maintenance::lease(&request.shelf, &request.lease).await.unwrap();
    let error = request.carry_out(Consent::Given, NOW).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("prune (process "), "{error}");
    assert_eq!(shelf(here.clone()).list().await.unwrap().len(), 3);
    held.release().await;
    request.lease.patience = Duration::from_secs(600);
    let both = [request.clone(), request.clone()].map(|request| tokio::spawn(async move { request.carry_out(Consent::Given, NOW).await }));
    let mut dropped = 0;
    for one in both {
        dropped += one.await.unwrap().unwrap().dropped.len();
    }
    assert_eq!((dropped, shelf(here.clone()).list().await.unwrap().len()), (4, 1));
    assert_restorable(&here, "after both").await;
}
