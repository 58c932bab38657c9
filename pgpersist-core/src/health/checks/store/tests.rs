use futures_util::TryStreamExt;
use time::macros::{datetime, time};

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::logical::name::{DumpKind, DumpName};
use crate::pg::version::ServerVersion;
use crate::store::faulty::{Calls, Effect, Fault, FaultPlan, FaultyStore, Operation};
use crate::store::memory::MemoryBackupStore;

const NOW: OffsetDateTime = datetime!(2026-02-08 12:00 UTC);
const MAX_AGE: Duration = Duration::from_secs(26 * 3600);

/// A store with dumps that began so many hours ago.
async fn store(hours: &[i64]) -> Arc<dyn BackupStore> {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    for hours in hours {
        let name = DumpName::new(DumpKind::Database, NOW - time::Duration::hours(*hours));
        store.put(&name.to_string().parse().unwrap(), vec![b'x'; 99].into()).await.unwrap();
    }
    store
}

async fn found(copy: &Arc<dyn BackupStore>, primary: Option<&Arc<dyn BackupStore>>) -> Finding {
    found_at(copy, primary, NOW).await
}

async fn found_at(copy: &Arc<dyn BackupStore>, primary: Option<&Arc<dyn BackupStore>>, now: OffsetDateTime) -> Finding {
    let clock = Arc::new(ManualClock::new(now));
    let primary = primary.cloned().map(StoreSource::Open);
    let place = if primary.is_some() { 2 } else { 1 };
    let source = StoreSource::Open(copy.clone());
    StoreCheck::new(place, source, primary, "main", vec!["shop".into()], MAX_AGE, clock, Duration::from_secs(60)).check().await
}

#[tokio::test]
async fn a_copy_that_has_everything_is_well_and_tells_the_age_of_what_is_there() {
    let (primary, copy) = (store(&[30, 6]).await, store(&[30, 6]).await);
    let finding = found(&copy, Some(&primary)).await;
    assert_eq!((finding.status, finding.name.as_str()), (Status::Pass, "store:2"));
    assert!(finding.summary.contains("newest backup_20260208_060000.sql.gz (6 h ago)"), "{}", finding.summary);
    assert_eq!(
        (&finding.observed["behind"], &finding.observed["behind_s"], &finding.observed["newest_age_s"]),
        (&0.into(), &0.into(), &21_600.into())
    );
}

#[tokio::test]
async fn how_far_a_copy_is_behind_is_told_in_dumps_and_time() {
    let primary = store(&[60, 54, 30, 6, 1]).await;
    for (there, status, behind, late) in [
        // On their way: a dump and its copy take their time.
        (&[60, 54, 30, 6][..], Status::Pass, 1, 5 * 3600),
        (&[60, 54, 30][..], Status::Fail, 2, 29 * 3600),
        (&[60, 54][..], Status::Fail, 3, 53 * 3600),
    ] {
        let finding = found(&store(there).await, Some(&primary)).await;
        assert_eq!(finding.status, status, "{finding:?}");
        assert_eq!((&finding.observed["behind"], &finding.observed["behind_s"]), (&behind.into(), &late.into()));
        assert_eq!(finding.remedy.is_some(), status != Status::Pass);
    }
    let late = found(&store(&[20]).await, Some(&store(&[20, 8]).await)).await;
    assert!(late.status == Status::Warn && late.summary.contains("1 dump is missing there"), "{late:?}");
    let empty = found(&store(&[]).await, Some(&primary)).await;
    assert!(empty.status == Status::Fail && empty.observed.get("behind_s").is_none(), "{empty:?}");
    assert_eq!(found(&store(&[]).await, Some(&store(&[1]).await)).await.status, Status::Warn);
}

#[tokio::test]
async fn a_damaged_dump_is_not_missed_in_a_copy() {
    let primary = store(&[30]).await;
    primary.put(&"backup_20260208_060000.sql.gz".parse().unwrap(), "x".into()).await.unwrap();
    let finding = found(&store(&[30]).await, Some(&primary)).await;
    assert_eq!((finding.status, &finding.observed["behind"]), (Status::Pass, &0.into()), "{finding:?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_unknown_and_one_whose_primary_does_not_is_told_as_it_is() {
    let plan = FaultPlan::one(Operation::List, Calls::From(1), Effect::Fail(crate::error::ErrorKind::Unavailable));
    let down: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(store(&[1]).await, plan));
    assert_eq!(found(&down, Some(&store(&[1]).await)).await.status, Status::Unknown);
    let finding = found(&store(&[1]).await, Some(&down)).await;
    assert_eq!((finding.status, &finding.observed["behind"]), (Status::Pass, &0.into()));
    assert_eq!(found(&store(&[1]).await, None).await.name, "store:1");
}

#[tokio::test]
async fn a_store_that_hangs_is_unknown_in_its_time() {
    let plan = FaultPlan::one(Operation::Get, Calls::From(1), Effect::Delay(Duration::from_secs(1_000_000)));
    let hanging: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(store(&[1]).await, plan));
    let clock = Arc::new(ManualClock::new(NOW));
    let source = |store: &Arc<dyn BackupStore>| StoreSource::Open(store.clone());
    let deadline = Duration::from_millis(300);
    let check = |place, store, primary| {
        let check = StoreCheck::new(place, store, primary, "main", Vec::new(), MAX_AGE, clock.clone(), deadline);
        Arc::new(check) as Arc<dyn HealthCheck>
    };
    let checks = [check(1, source(&hanging), None), check(2, source(&hanging), Some(source(&hanging)))];
    let report = crate::health::report::run(&checks, clock.as_ref()).await;
    for finding in &report.findings {
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Unknown, "no answer within 0.3 s"));
    }
}

#[tokio::test]
async fn whether_a_store_takes_writes_is_tried_now_and_then_and_only_where_it_is_ours() {
    let inner = store(&[1]).await;
    let plan = FaultPlan::one(Operation::Put, Calls::From(2), Effect::Fail(crate::error::ErrorKind::Denied));
    let faulty = FaultyStore::new(inner.clone(), plan);
    let faulty_store: Arc<dyn BackupStore> = Arc::new(faulty.clone());
    assert_eq!(found(&faulty_store, None).await.observed.get("writable"), None);
    assert_eq!(faulty.calls(Operation::Put), 0, "nothing is written where nothing of ours is");
    ClusterCard::new("main", 7, ServerVersion { major: 15, minor: 18 }, NOW).claim(inner.as_ref()).await.unwrap();
    assert_eq!(found(&faulty_store, None).await.observed["writable"], true);
    // The object's own time is of the real clock, which is later than the one that stands still here.
    assert_eq!(found(&faulty_store, None).await.observed["writable"], true);
    assert_eq!(faulty.calls(Operation::Put), 1, "it was tried less than an hour ago");
    inner.delete(&".pgpersist/main/health-probe".parse().unwrap()).await.unwrap();
    let finding = found(&faulty_store, None).await;
    assert!(finding.status == Status::Fail && finding.remedy.is_some() && finding.summary.contains("takes no writes"), "{finding:?}");
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_a_warning_and_that_is_remembered() {
    let inner = store(&[1]).await;
    ClusterCard::new("main", 7, ServerVersion { major: 15, minor: 18 }, NOW).claim(inner.as_ref()).await.unwrap();
    let faulty = FaultyStore::new(inner.clone(), FaultPlan::one(Operation::PutIfAbsent, Calls::From(1), Effect::Overwrite));
    let weak: Arc<dyn BackupStore> = Arc::new(faulty.clone());
    for _ in 0..2 {
        let finding = found(&weak, None).await;
        assert!(finding.status == Status::Warn && finding.summary.contains(conditions::WEAKER), "{finding:?}");
        assert_eq!((&finding.observed["ignores_conditions"], finding.remedy.as_deref()), (&true.into(), Some(conditions::REMEDY)));
        assert_eq!(faulty.calls(Operation::PutIfAbsent), 1, "asked each time");
    }
    // The same place behind a better server: found out at the next time.
    let finding = found_at(&inner, None, SystemClock.now() + time::Duration::hours(2)).await;
    assert!(finding.status == Status::Pass && finding.observed.get("ignores_conditions").is_none(), "{finding:?}");
    assert_eq!(found(&inner, None).await.status, Status::Pass);
}

#[tokio::test]
async fn where_nothing_may_be_replaced_a_new_object_a_day_tells() {
    let inner = store(&[1]).await;
    ClusterCard::new("main", 7, ServerVersion { major: 15, minor: 18 }, NOW).claim(inner.as_ref()).await.unwrap();
    let fault = |operation, effect| Fault { operation, calls: Calls::From(1), effect };
    let denied = |operation| fault(operation, Effect::Fail(ErrorKind::Denied));
    let faulty = |faults| Arc::new(FaultyStore::new(inner.clone(), FaultPlan { seed: 0, faults })) as Arc<dyn BackupStore>;
    let append_only = faulty(vec![fault(Operation::Put, Effect::FailIfThere(ErrorKind::Denied))]);
    // What is written now gets the time of the real clock, so the others are later.
    let day = SystemClock.now() + time::Duration::days(2);
    for (now, probes) in [
        (SystemClock.now(), 1),
        (day.replace_time(time!(10:00)), 2),
        (day.replace_time(time!(13:00)), 2),
        (day.replace_time(time!(13:00)) + time::Duration::DAY, 3),
    ] {
        assert_eq!(found_at(&append_only, None, now).await.observed["writable"], true, "{now}");
        let written: Vec<_> = inner.list(".pgpersist/main/health-probe").try_collect().await.unwrap();
        assert_eq!(written.len(), probes, "{now}");
    }
    // Who may only read can put no new one either.
    let read_only = faulty(vec![denied(Operation::Put), denied(Operation::PutIfAbsent)]);
    let finding = found_at(&read_only, None, day + time::Duration::days(3)).await;
    assert!(finding.status == Status::Fail && finding.summary.contains("takes no writes"), "{finding:?}");
}

#[tokio::test]
async fn a_folder_is_asked_by_its_permissions() {
    let folder = tempfile::tempdir().unwrap();
    let check = |url: std::path::PathBuf| {
        let clock = Arc::new(ManualClock::new(NOW));
        StoreCheck::new(1, StoreSource::Url(url.into()), None, "main", Vec::new(), MAX_AGE, clock, Duration::from_secs(60))
    };
    assert_eq!(check(folder.path().to_owned()).check().await.observed["writable"], true);
    let absent = folder.path().join("absent");
    assert_eq!(check(absent.clone()).check().await.observed.get("writable"), None);
    assert!(!absent.exists(), "a look makes nothing");
}
