use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use time::Duration as Span;

use super::*;
use crate::repo::backup_plan::{BackupPlan, Patience};
use crate::repo::collect::collect;
use crate::repo::contents::Contents;
use crate::repo::example::Example;
use crate::repo::inventory::Inventory;
use crate::repo::live_intent;
use crate::repo::names::PackName;
use crate::repo::pack_writer::PackNumbers;
use crate::repo::tombstone::{Doomed, Tombstone};
use crate::retention::Retention;
use crate::store::lease::{Lease, LeaseOptions};

/// A backup in the making.
struct Running {
    live: LiveIntent,
    name: RunName,
    numbers: PackNumbers,
    packs: Vec<PackRecord>,
}

/// Begins one, which takes from its parent the packs whose bits are set.
async fn begin(example: &mut Example, own: u32, shared: u8) -> Running {
    let name = example.name();
    let (live, parent) = announce(&example.repository, name, 1, example.now()).await.unwrap();
    let numbers = PackNumbers::new(name);
    let mut packs = example.packs(&numbers, own).await;
    let known: BTreeMap<PackName, PackRecord> = parent.iter().flat_map(|parent| parent.packs.clone()).collect();
    packs.extend(known.into_values().enumerate().filter(|(nth, _)| (shared >> (nth % 8)) & 1 == 1).map(|(_, record)| record));
    Running { live, name, numbers, packs }
}

/// Ends and publishes it.
async fn end(example: &mut Example, mut running: Running) -> Result<RunName> {
    let manifest = example.manifest(running.name, &running.numbers, &mut running.packs).await;
    publish(&example.repository, &running.live, &manifest, &running.packs).await?;
    running.live.end().await.unwrap();
    Ok(running.name)
}

async fn prune(example: &Example, keep_last: u32, is_alone: bool) {
    let (repository, patience, now) = (&example.repository, Patience::default(), example.now());
    let rules = Retention { keep_last: Some(keep_last), ..Retention::default() };
    let plan = BackupPlan::look(repository, &rules, now, &patience).await.unwrap();
    let lease = if is_alone {
        let folder = ".pgpersist/main/leases/maintenance".parse().unwrap();
        Some(Lease::take(Arc::clone(&example.store), &folder, &LeaseOptions::new("prune")).await.unwrap())
    } else {
        None
    };
    collect(repository, &plan.names(), &patience, lease.as_ref(), now).await.unwrap();
    if let Some(lease) = lease {
        lease.release().await;
    }
}

/// All packs that a backup needs; each of them must be there.
async fn needed(example: &Example, backup: RunName, inventory: &Inventory) -> Vec<PackName> {
    let manifest = example.repository.manifest(backup).await.unwrap();
    let records = Contents::new(&example.repository).packs(&manifest).await.unwrap();
    let packs: Vec<PackName> = records.iter().map(|record| record.pack).chain(manifest.packs.iter().map(|place| place.pack)).collect();
    let missing: Vec<_> = packs.iter().filter(|pack| !inventory.packs.contains_key(pack)).collect();
    assert!(missing.is_empty(), "{backup} needs {missing:?}");
    packs
}

#[tokio::test]
async fn a_backup_builds_on_nothing_that_is_to_be_removed() {
    let mut example = Example::new().await;
    let (old, _) = example.backup(2, &[]).await;
    let (new, new_packs) = example.backup(2, &[]).await;
    let running = begin(&mut example, 1, 0xff).await;
    assert_eq!(running.live.intent().parent, Some(new));
    end(&mut example, running).await.unwrap();
    let all = example.repository.backups().await.unwrap();
    let doomed = Doomed { backups: all.into_iter().filter(|backup| *backup != old).collect(), ..Doomed::default() };
    Tombstone::put(doomed, &example.repository, example.now()).await.unwrap();
    let running = begin(&mut example, 1, 0xff).await;
    assert_eq!(running.live.intent().parent, Some(old));
    assert!(running.packs.iter().all(|record| !new_packs.contains(record)));
    // Of what it took from there, one is doomed before it publishes.
    let doomed = Doomed { packs: [running.packs[1].pack].into(), ..Doomed::default() };
    Tombstone::put(doomed, &example.repository, example.now()).await.unwrap();
    let name = running.name;
    assert_eq!(end(&mut example, running).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!example.repository.backups().await.unwrap().contains(&name));
}

#[tokio::test]
async fn who_was_taken_for_dead_takes_his_backup_back() {
    let mut example = Example::new().await;
    example.backup(2, &[]).await;
    let running = begin(&mut example, 3, 0xff).await;
    let name = running.name;
    // Its machine sleeps for two days.
    for _ in 0..2 {
        example.clock.advance(Span::DAY);
        prune(&example, 1, true).await;
    }
    assert_eq!(end(&mut example, running).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!example.repository.backups().await.unwrap().contains(&name));
}

/// What may happen to a repository.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// A backup begins, with so many packs of its own and these of its parent.
    Begin(u32, u8),
    /// The one that began first ends.
    End,
    /// The one that began last dies.
    Die,
    /// A restore of one of the backups begins.
    Read(usize),
    /// The first one ends.
    EndRead,
    /// Hours go by, with or without beats of those that live.
    Wait(i64, bool),
    /// Retention keeps so many; whether under a lease.
    Prune(u32, bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (1_u32..4, any::<u8>()).prop_map(|(own, shared)| Deed::Begin(own, shared)),
        3 => Just(Deed::End),
        1 => Just(Deed::Die),
        1 => (0_usize..8).prop_map(Deed::Read),
        1 => Just(Deed::EndRead),
        3 => (prop_oneof![Just(1_i64), Just(23), Just(24)], prop::bool::weighted(0.7)).prop_map(|(hours, beats)| Deed::Wait(hours, beats)),
        4 => (1_u32..4, any::<bool>()).prop_map(|(keep, alone)| Deed::Prune(keep, alone)),
    ]
}

/// Does all that, and looks after each deed whether all is there that anybody needs; in the end nothing else is.
async fn play(deeds: &[Deed]) {
    let mut example = Example::new().await;
    let (mut running, mut reading): (Vec<Running>, Vec<(LiveIntent, RunName)>) = (Vec::new(), Vec::new());
    // When each was last seen to live, and those that ever were silent for long.
    let mut seen: BTreeMap<RunName, time::OffsetDateTime> = BTreeMap::new();
    let mut doubtful: BTreeSet<RunName> = BTreeSet::new();
    for deed in deeds {
        match *deed {
            Deed::Begin(own, shared) => {
                let begun = begin(&mut example, own, shared).await;
                seen.insert(begun.name, example.now());
                running.push(begun);
            }
            Deed::End if !running.is_empty() => {
                let ended = running.remove(0);
                let name = ended.name;
                if let Err(error) = end(&mut example, ended).await {
                    assert!(error.kind() == ErrorKind::Conflict && doubtful.contains(&name), "{name}: {error}");
                    assert!(!example.repository.backups().await.unwrap().contains(&name));
                }
            }
            Deed::Die => drop(running.pop()),
            Deed::Read(nth) => {
                let backups = example.repository.backups().await.unwrap();
                if let Some(backup) = backups.get(nth) {
                    let intent = Intent::of_reading(example.name(), "restore", vec![*backup], example.now());
                    let live = LiveIntent::begin(&example.repository, intent).await.unwrap();
                    seen.insert(live.intent().run, example.now());
                    reading.push((live, *backup));
                }
            }
            Deed::EndRead if !reading.is_empty() => reading.remove(0).0.end().await.unwrap(),
            Deed::End | Deed::EndRead => {}
            Deed::Wait(hours, beats) => {
                for _ in 0..hours * 2 {
                    example.clock.advance(Span::minutes(30));
                    let alive: Vec<RunName> =
                        running.iter().map(|one| one.name).chain(reading.iter().map(|(live, _)| live.intent().run)).collect();
                    for run in alive {
                        if example.now() - seen[&run] >= live_intent::DEAD_AFTER {
                            doubtful.insert(run);
                        }
                        if beats {
                            live_intent::beat_once(&example.repository, run).await;
                            seen.insert(run, example.now());
                        }
                    }
                }
            }
            Deed::Prune(keep, alone) => prune(&example, keep, alone).await,
        }
        let inventory = Inventory::take(&example.repository, example.now(), live_intent::DEAD_AFTER).await.unwrap();
        for backup in &inventory.backups {
            needed(&example, *backup, &inventory).await;
        }
        for one in &running {
            let lives = inventory.live.runs.contains(&one.name);
            let missing = one.packs.iter().filter(|record| !inventory.packs.contains_key(&record.pack)).count();
            assert!(!lives || missing == 0, "{} lives and lost {missing} packs", one.name);
        }
        for (live, backup) in &reading {
            let lives = inventory.live.runs.contains(&live.intent().run);
            assert!(!lives || inventory.backups.contains(backup), "{backup} is read and gone");
        }
    }
    drop((running, reading));
    // What died here is dead after an hour, buried then, and gone a day later.
    example.clock.advance(Span::hours(2));
    prune(&example, 2, true).await;
    example.clock.advance(Span::hours(25));
    prune(&example, 2, true).await;
    let inventory = Inventory::take(&example.repository, example.now(), live_intent::DEAD_AFTER).await.unwrap();
    let mut all = BTreeSet::new();
    for backup in &inventory.backups {
        all.extend(needed(&example, *backup, &inventory).await);
    }
    assert!(inventory.packs.keys().all(|pack| all.contains(pack)), "{inventory:?}");
    assert!(inventory.runs.is_empty() && inventory.tombstones == Tombstones::default(), "{inventory:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_is_needed_ever_goes_and_all_else_does(deeds in prop::collection::vec(deed(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(play(&deeds));
    }
}
