use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use time::Duration as Span;

use super::*;
use crate::error::ErrorKind;
use crate::progress::Silent;
use crate::repo::backup_plan::BackupPlan;
use crate::repo::example::{self, Example};
use crate::repo::pack_builder::PackRecord;
use crate::repo::verify::{Depth, verify};
use crate::retention::Retention;
use crate::store::faulty::{Calls, Effect, FaultPlan, FaultyStore, Operation};
use crate::store::memory::MemoryBackupStore;
use crate::store::{BackupStore, ObjectMeta};

/// Who waits for nothing: everybody is dead and every grace over.
const NONE: Patience = Patience { grace: Duration::ZERO, dead_after: Duration::ZERO };

fn last(number: u32) -> Retention {
    Retention { keep_last: Some(number), ..Retention::default() }
}

async fn prune(repository: &Repository, keep_last: u32, patience: &Patience, now: OffsetDateTime) -> Result<(BackupPlan, Collected)> {
    let plan = BackupPlan::look(repository, &last(keep_last), now, patience).await?;
    let collected = collect(repository, &plan.names(), patience, None, now).await?;
    Ok((plan, collected))
}

async fn keys(store: &dyn BackupStore) -> Vec<String> {
    let listed: Vec<ObjectMeta> = store.list("").try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.key.to_string()).collect()
}

/// Of these packs those that are there.
async fn standing(example: &Example, packs: &[PackRecord]) -> usize {
    let inventory = Inventory::take(&example.repository, example.now(), Duration::ZERO).await.unwrap();
    packs.iter().filter(|record| inventory.packs.contains_key(&record.pack)).count()
}

async fn assert_whole(repository: &Repository) {
    let report = verify(repository, None, Depth::Full, &Silent).await.unwrap();
    assert!(report.damaged.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_dropped_backup_stays_whole_for_its_grace_and_then_goes_with_what_nobody_needs() {
    let mut example = Example::new().await;
    let (old, old_packs) = example.backup(3, &[]).await;
    example.clock.advance(Span::DAY);
    let (new, new_packs) = example.backup(1, &old_packs[..1]).await;
    let patience = Patience::default();

    let (plan, collected) = prune(&example.repository, 1, &patience, example.now()).await.unwrap();
    assert_eq!(plan.dropped[0].name, old);
    assert_eq!(plan.dropped[0].removed_after, Some(example.now() + Span::DAY));
    assert!(!plan.drops_more_than_half());
    assert_eq!((collected.freed_bytes, collected.pending_bytes), (0, plan.pending_bytes));
    assert_eq!(plan.pending_bytes, old_packs[1..].iter().map(|record| record.size).sum::<u64>());
    assert_whole(&example.repository).await;
    assert_eq!(standing(&example, &old_packs).await, 4);

    // One more look before that changes nothing.
    example.clock.advance(Span::hours(23));
    let (again, collected) = prune(&example.repository, 1, &patience, example.now()).await.unwrap();
    assert_eq!((again.dropped[0].name, collected.freed_bytes), (old, 0));
    assert_eq!(again.dropped[0].removed_after, plan.dropped[0].removed_after);

    example.clock.advance(Span::HOUR);
    let (_, collected) = prune(&example.repository, 1, &patience, example.now()).await.unwrap();
    assert_eq!(collected.freed_bytes, plan.pending_bytes);
    assert_eq!(example.repository.backups().await.unwrap(), [new]);
    assert_eq!((standing(&example, &old_packs).await, standing(&example, &new_packs).await), (1, 3));
    assert_eq!(Dropped::all(&example.repository).await.unwrap(), BTreeSet::from([old]));
    assert_whole(&example.repository).await;
    let left = keys(example.store.as_ref()).await;
    assert!(!left.iter().any(|key| key.contains("/tombstones/") || key.contains("/runs/")), "{left:?}");
    assert!(!BackupPlan::look(&example.repository, &last(1), example.now(), &patience).await.unwrap().has_work());
}

#[tokio::test]
async fn a_lost_manifest_is_told_from_one_that_was_dropped_and_a_mark_goes_behind_the_last_pack() {
    let mut example = Example::new().await;
    let (old, old_packs) = example.backup(2, &[]).await;
    example.clock.advance(Span::DAY);
    let (middle, _) = example.backup(1, &old_packs[..1]).await;
    example.clock.advance(Span::DAY);
    let (new, _) = example.backup(1, &[]).await;
    prune(&example.repository, 2, &NONE, example.now()).await.unwrap();
    assert_eq!(Dropped::all(&example.repository).await.unwrap(), BTreeSet::from([old]));

    // Somebody takes a manifest away.
    let key = example.repository.key(&layout::manifest(middle)).unwrap();
    let manifest = example.store.get(&key).await.unwrap();
    example.store.delete(&key).await.unwrap();
    let report = verify(&example.repository, None, Depth::Quick, &Silent).await.unwrap();
    let named: Vec<_> = report.damaged.iter().map(|damaged| damaged.name.clone()).collect();
    assert_eq!(named, std::slice::from_ref(&key), "{report:?}");

    example.store.put(&key, manifest).await.unwrap();
    prune(&example.repository, 1, &NONE, example.now()).await.unwrap();
    assert_eq!(example.repository.backups().await.unwrap(), [new]);
    assert!(Dropped::all(&example.repository).await.unwrap().is_empty());
    assert_whole(&example.repository).await;
}

#[tokio::test]
async fn a_backup_that_a_run_reads_stays_until_the_run_ends_or_is_silent() {
    let mut example = Example::new().await;
    let (old, old_packs) = example.backup(2, &[]).await;
    example.clock.advance(Span::DAY);
    example.backup(1, &[]).await;
    let patience = Patience { grace: Duration::ZERO, ..Patience::default() };
    let reader = Intent::of_reading(example.name(), "restore", vec![old], example.now());
    reader.put(&example.repository).await.unwrap();
    let (plan, _) = prune(&example.repository, 1, &patience, example.now()).await.unwrap();
    assert!(plan.kept.iter().any(|kept| kept.name == old && kept.reason == "a restore that runs needs it"), "{plan:?}");
    assert_eq!(standing(&example, &old_packs).await, 3);

    // One that comes between the plan and its carrying out holds it, too.
    let planned = BTreeSet::from([old]);
    collect(&example.repository, &planned, &patience, None, example.now()).await.unwrap();
    assert_eq!(standing(&example, &old_packs).await, 3);

    example.clock.advance(Span::HOUR);
    let (_, collected) = prune(&example.repository, 1, &patience, example.now()).await.unwrap();
    assert!(collected.freed_bytes > 0);
    assert_eq!(standing(&example, &old_packs).await, 0);
    let left = keys(example.store.as_ref()).await;
    assert!(!left.iter().any(|key| key.contains("/runs/")), "{left:?}");
}

#[tokio::test]
async fn a_backup_that_cannot_be_read_holds_everything_until_it_goes_itself() {
    let mut example = Example::new().await;
    let (first, first_packs) = example.backup(2, &[]).await;
    example.clock.advance(Span::DAY);
    let (broken, broken_packs) = example.backup(2, &first_packs).await;
    example.clock.advance(Span::DAY);
    example.backup(1, &[]).await;
    let key = example.repository.key(&layout::manifest(broken)).unwrap();
    let good = example.store.get(&key).await.unwrap();
    let mut bad = good.to_vec();
    bad[12] ^= 1;
    example.store.put(&key, bad.into()).await.unwrap();

    // Without `keep_days` nothing damaged that is younger than a good one that stays goes; here it is older.
    let kept = Retention { keep_last: Some(1), keep_days: Some(1), ..Retention::default() };
    let plan = BackupPlan::look(&example.repository, &kept, example.now(), &NONE).await.unwrap();
    assert!(plan.blocked.as_ref().is_some_and(|blocked| blocked.contains(&broken.to_string())), "{plan:?}");
    let collected = collect(&example.repository, &plan.names(), &NONE, None, example.now()).await.unwrap();
    assert!(collected.blocked.is_some() && plan.names() == BTreeSet::from([first]));
    assert_eq!(standing(&example, &broken_packs).await, 6);

    let (plan, collected) = prune(&example.repository, 1, &NONE, example.now()).await.unwrap();
    assert_eq!((plan.names(), collected.blocked), (BTreeSet::from([first, broken]), None));
    assert_eq!(standing(&example, &broken_packs).await, 0);
    assert_whole(&example.repository).await;
}

#[tokio::test]
async fn a_backup_that_lacks_a_pack_pushes_no_good_one_out() {
    let mut example = Example::new().await;
    let (good, _) = example.backup(2, &[]).await;
    example.clock.advance(Span::DAY);
    let (lacking, packs) = example.backup(2, &[]).await;
    let pack = example.repository.key(&layout::pack(packs[0].pack)).unwrap();
    let whole = example.store.get(&pack).await.unwrap();
    for left in [None, Some(whole.slice(..whole.len() - 1))] {
        match left {
            Some(left) => example.store.put(&pack, left).await.unwrap(),
            None => example.store.delete(&pack).await.unwrap(),
        }
        let plan = BackupPlan::look(&example.repository, &last(1), example.now(), &NONE).await.unwrap();
        assert_eq!(plan.kept.iter().map(|kept| kept.name).collect::<BTreeSet<_>>(), BTreeSet::from([good, lacking]), "{plan:?}");
    }
}

#[tokio::test]
async fn what_opens_the_packs_of_a_run_goes_with_the_last_of_them() {
    let mut example = Example::new().await;
    let (first, first_packs) = example.backup(2, &[]).await;
    example.clock.advance(Span::DAY);
    let (second, _) = example.backup(1, &first_packs[..1]).await;
    example.clock.advance(Span::DAY);
    let (third, _) = example.backup(1, &[]).await;
    for run in [first, second, third] {
        let key = example.repository.key(&layout::run_key(run)).unwrap();
        example.store.put(&key, "a key".into()).await.unwrap();
    }
    let keys = async || {
        let inventory = Inventory::take(&example.repository, example.now(), Duration::ZERO).await.unwrap();
        inventory.runs.into_iter().filter(|(_, run)| run.has_key).map(|(name, _)| name).collect::<Vec<_>>()
    };
    prune(&example.repository, 2, &NONE, example.now()).await.unwrap();
    assert_eq!(keys().await, [first, second, third], "the second one needs a pack of the first");
    prune(&example.repository, 1, &NONE, example.now()).await.unwrap();
    assert_eq!(keys().await, [third]);
}

#[tokio::test]
async fn max_bytes_counts_a_pack_that_several_need_once() {
    let mut example = Example::new().await;
    let (_, mut packs) = example.backup(8, &[]).await;
    packs.truncate(8);
    for _ in 0..3 {
        example.clock.advance(Span::DAY);
        example.backup(1, &packs).await;
    }
    let all: u64 = Inventory::take(&example.repository, example.now(), Duration::ZERO).await.unwrap().packs.values().sum();
    let plan = async |max_bytes| {
        let rules = Retention { max_bytes: Some(max_bytes), ..Retention::default() };
        BackupPlan::look(&example.repository, &rules, example.now(), &NONE).await.unwrap()
    };
    // Each alone is nearly as large as all of them.
    assert_eq!(plan(all).await.kept.len(), 4);
    assert_eq!(plan(all - 1).await.kept.len(), 3);
    assert_eq!(plan(0).await.kept.len(), 1);
}

#[tokio::test]
async fn who_comes_between_a_tombstone_and_its_grace_takes_names_out_of_it() {
    let mut example = Example::new().await;
    let (old, old_packs) = example.backup(2, &[]).await;
    example.clock.advance(Span::DAY);
    example.backup(1, &[]).await;
    let patience = Patience::default();
    prune(&example.repository, 1, &patience, example.now()).await.unwrap();
    // The rules are others now.
    let folder = ".pgpersist/main/leases/maintenance".parse().unwrap();
    let options = crate::store::lease::LeaseOptions::new("prune");
    let lease = Lease::take(Arc::clone(&example.store), &folder, &options).await.unwrap();
    let plan = BackupPlan::look(&example.repository, &last(2), example.now(), &patience).await.unwrap();
    collect(&example.repository, &plan.names(), &patience, Some(&lease), example.now()).await.unwrap();
    lease.release().await;
    assert_eq!(Tombstones::read(&example.repository).await.unwrap(), Tombstones::default());
    example.clock.advance(Span::DAY);
    prune(&example.repository, 2, &patience, example.now()).await.unwrap();
    assert!(example.repository.backups().await.unwrap().contains(&old));
    assert_eq!(standing(&example, &old_packs).await, 3);
}

/// A copy of a store.
async fn copy(store: &dyn BackupStore) -> Arc<dyn BackupStore> {
    let copy = MemoryBackupStore::new();
    let listed: Vec<ObjectMeta> = store.list("").try_collect().await.unwrap();
    for meta in listed {
        copy.put(&meta.key, store.get(&meta.key).await.unwrap()).await.unwrap();
    }
    Arc::new(copy)
}

#[tokio::test]
async fn interrupted_at_any_moment_it_leaves_whole_backups_and_the_next_one_finishes() {
    let mut example = Example::new().await;
    let (_, first) = example.backup(3, &[]).await;
    for _ in 0..3 {
        example.clock.advance(Span::DAY);
        example.backup(2, &first[..1]).await;
    }
    // A run that wrote and died, and one that died before that.
    let dead = example.name();
    Intent::of_backup(dead, None, example.now()).put(&example.repository).await.unwrap();
    example.packs(&crate::repo::pack_writer::PackNumbers::new(dead), 2).await;
    let now = example.now();
    let undisturbed = copy(example.store.as_ref()).await;
    prune(&example::repository(Arc::clone(&undisturbed)).await, 2, &NONE, now).await.unwrap();
    let expected = keys(undisturbed.as_ref()).await;
    assert!(expected.len() < keys(example.store.as_ref()).await.len());

    let effects =
        [Effect::Fail(ErrorKind::Unavailable), Effect::LoseAnswer(ErrorKind::Unavailable), Effect::Delay(Duration::from_secs(3600))];
    let mut hit = 0;
    for operation in [Operation::Put, Operation::PutIfAbsent, Operation::Get, Operation::Head, Operation::List, Operation::Delete] {
        for effect in effects {
            // The first `Get` opens the repository, which is not what is interrupted.
            for nth in (1 + u64::from(operation == Operation::Get)).. {
                let store = copy(example.store.as_ref()).await;
                let faulty = FaultyStore::new(Arc::clone(&store), FaultPlan::one(operation, Calls::Nth(nth), effect));
                let before = example::opened(Arc::new(faulty.clone())).await;
                let is_hit = async {
                    while faulty.calls(operation) < nth {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                // A call that hangs is one that its caller is dropped in.
                tokio::select! {
                    biased;
                    _ = prune(&before, 2, &NONE, now) => {}
                    () = is_hit => {}
                }
                let was_hit = faulty.calls(operation) >= nth;
                let repository = example::repository(Arc::clone(&store)).await;
                assert_whole(&repository).await;
                prune(&repository, 2, &NONE, now).await.unwrap();
                assert_whole(&repository).await;
                assert_eq!(keys(store.as_ref()).await, expected, "{operation:?} {nth} {effect:?}");
                hit += u32::from(was_hit);
                if !was_hit {
                    break;
                }
            }
        }
    }
    assert!(hit > 60, "{hit}");
}
