use std::sync::Arc;

use time::macros::datetime;

use super::*;
use crate::clock::ManualClock;
use crate::logical::name::SIDE_FILE_SUFFIX;
use crate::logical::shelf::Shelf;
use crate::retention::Retention;
use crate::store::BackupStore;
use crate::store::memory::MemoryBackupStore;

const NOW: OffsetDateTime = datetime!(2026-02-08 12:00 UTC);
const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn side_file(size: usize, sha256: &str, cluster: &str) -> String {
    format!(
        r#"{{"format": 1, "database": "shop", "cluster": "{cluster}", "system_identifier": "7", "server_version": "15.18",
        "pg_dump_version": "15.18", "started_at": "2026-02-08T09:33:16Z", "finished_at": "2026-02-08T09:33:17Z",
        "size_bytes": {size}, "sha256": "{sha256}", "uncompressed_bytes": 1}}"#
    )
}

/// A store of dumps of these days with a side file, and dumps of roles of these.
async fn contents(dumps: &[&str], roles: &[&str]) -> (Arc<MemoryBackupStore>, Shelf) {
    let store = Arc::new(MemoryBackupStore::new());
    for day in dumps {
        put(&store, &dump(day), &"x".repeat(99)).await;
        put(&store, &format!("{}{SIDE_FILE_SUFFIX}", dump(day)), &side_file(99, HASH, "main")).await;
    }
    for day in roles {
        put(&store, &format!("globals_{day}_000000.sql.gz"), &"r".repeat(50)).await;
    }
    let shelf = Shelf::new(store.clone(), "main", vec!["shop".into()]).with_clock(Arc::new(ManualClock::new(NOW)));
    (store, shelf)
}

fn dump(day: &str) -> String {
    format!("backup_{day}_000000.sql.gz")
}

async fn put(store: &MemoryBackupStore, key: &str, text: &str) {
    store.put(&key.parse().unwrap(), text.to_owned().into()).await.unwrap();
}

async fn plan(here: &Shelf, there: &Shelf, retention: Retention) -> SyncPlan {
    let copy = CopyShelf { shelf: there.clone(), retention };
    SyncPlan::new(&here.contents().await.unwrap(), &there.contents().await.unwrap(), &copy, NOW).unwrap()
}

fn names(plan: &SyncPlan) -> Vec<&str> {
    plan.copies.iter().map(|copy| copy.name.as_str()).collect()
}

#[tokio::test]
async fn what_is_missing_comes_newest_first_each_behind_the_roles_that_it_needs() {
    let (_, here) = contents(&["20260201", "20260202", "20260203"], &["20260201", "20260203"]).await;
    let (_, there) = contents(&["20260201"], &["20260201"]).await;
    let planned = plan(&here, &there, Retention::default()).await;
    assert_eq!(names(&planned), ["globals_20260203_000000.sql.gz", "backup_20260203_000000.sql.gz", "backup_20260202_000000.sql.gz"]);
    assert_eq!((planned.dumps(), planned.behind_s), (2, Some(2.0 * 86_400.0)));
    assert_eq!(planned.copies[1].bytes, 99 + side_file(99, HASH, "main").len() as u64);
    let (_, empty) = contents(&[], &[]).await;
    let all = plan(&here, &empty, Retention::default()).await;
    assert_eq!((all.copies.len(), all.behind_s), (5, None));
    assert!(plan(&here, &here, Retention::default()).await.is_empty());
    // What only the copy has is nobody's business.
    assert!(plan(&empty, &here, Retention::default()).await.is_empty());
}

#[tokio::test]
async fn what_retention_there_would_drop_is_left_out() {
    let days = ["20260101", "20260115", "20260201", "20260207"];
    let (_, here) = contents(&days, &days).await;
    let (_, there) = contents(&["20260115"], &[]).await;
    let week = Retention { keep_days: Some(7), ..Retention::default() };
    let planned = plan(&here, &there, week).await;
    assert_eq!(names(&planned)[..2], ["globals_20260207_000000.sql.gz", "backup_20260207_000000.sql.gz"]);
    let left: Vec<&str> = planned.left_out.iter().map(|left| left.name.as_str()).collect();
    assert!(left.contains(&"backup_20260101_000000.sql.gz"), "{left:?}");
    // A copy that has what it wants gets nothing more, however often it is asked.
    let (_, full) = contents(&["20260201", "20260207"], &["20260201", "20260207"]).await;
    assert_eq!(names(&plan(&here, &full, week).await), Vec::<&str>::new());
    let monthly = Retention { keep_monthly: Some(12), ..Retention::default() };
    assert!(names(&plan(&here, &there, monthly).await).contains(&"backup_20260207_000000.sql.gz"));
}

#[tokio::test]
async fn what_is_something_else_there_is_a_conflict_and_left_alone() {
    let (_, here) = contents(&["20260201", "20260202", "20260203", "20260204"], &["20260204"]).await;
    let (store, there) = contents(&["20260201", "20260202", "20260203", "20260204"], &["20260204"]).await;
    let side = |day: &str| format!("{}{SIDE_FILE_SUFFIX}", dump(day));
    put(&store, &dump("20260201"), &"y".repeat(98)).await;
    put(&store, &side("20260201"), &side_file(98, HASH, "main")).await;
    put(&store, &side("20260202"), &side_file(99, &HASH.replace('e', "f"), "main")).await;
    put(&store, &dump("20260203"), "cut off").await;
    put(&store, &side("20260204"), &side_file(99, HASH, "other")).await;
    put(&store, "globals_20260204_000000.sql.gz", "short").await;
    let planned = plan(&here, &there, Retention::default()).await;
    assert!(planned.is_empty());
    let reasons: BTreeMap<&str, &str> = planned.conflicts.iter().map(|left| (left.name.as_str(), left.reason.as_str())).collect();
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    assert_eq!(reasons["backup_20260201_000000.sql.gz"], "it has 98 bytes there, and 99 in the primary store");
    assert!(reasons["backup_20260202_000000.sql.gz"].contains("another SHA-256"));
    assert!(reasons["backup_20260203_000000.sql.gz"].contains("damaged there"));
    assert!(reasons["backup_20260204_000000.sql.gz"].contains("another cluster's"));
}

#[tokio::test]
async fn what_is_damaged_here_is_not_copied_and_what_is_half_there_is_finished() {
    let (broken, here) = contents(&["20260201", "20260202", "20260203"], &[]).await;
    let (store, there) = contents(&["20260202", "20260203"], &[]).await;
    put(&broken, &dump("20260201"), "cut off").await;
    put(&broken, &dump("20260202"), "cut off").await;
    store.delete(&format!("{}{SIDE_FILE_SUFFIX}", dump("20260203")).parse().unwrap()).await.unwrap();
    let planned = plan(&here, &there, Retention::default()).await;
    assert_eq!(names(&planned), ["backup_20260203_000000.sql.gz"]);
    assert!(matches!(planned.copies[0].step, Step::SideFile { size_bytes: 99, .. }));
    // The one that is whole there needs no copy.
    assert_eq!(planned.damaged.iter().map(|left| left.name.as_str()).collect::<Vec<_>>(), ["backup_20260201_000000.sql.gz"]);
    assert!(planned.conflicts.is_empty());
}
