//! [`BackupPlan`]: which backups of a repository go and which stay, with reasons, and what that frees; made first, shown or carried out
//! after.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::error::{ErrorKind, Result};
use crate::repo::contents::Contents;
use crate::repo::expiry::{self, Known};
use crate::repo::inventory::Inventory;
use crate::repo::live_intent::DEAD_AFTER;
use crate::repo::live_runs::{Live, age};
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, RunName};
use crate::repo::repository::Repository;
use crate::repo::roots::Roots;
use crate::retention::{Decision, Retention};

/// How patient garbage collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For how long a tombstone must have stood before what it names is removed. So long a reader that nobody knows of may go on, and a
    /// writer may be stopped between its last look at the tombstones and publishing; a day unless set.
    pub grace: Duration,
    /// For how long a run must have shown no sign of life to be taken for dead.
    pub dead_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { grace: Duration::from_secs(24 * 60 * 60), dead_after: DEAD_AFTER }
    }
}

/// A backup that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptBackup {
    /// Its name.
    pub name: RunName,
    /// Why.
    pub reason: String,
}

/// A backup that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedBackup {
    /// Its name.
    pub name: RunName,
    /// Why.
    pub reason: String,
    /// What it added to the store when it was made.
    pub size_bytes: u64,
    /// Until when it can be restored at least; nothing when it is removed at once.
    #[serde(with = "time::serde::rfc3339::option")]
    pub removed_after: Option<OffsetDateTime>,
}

/// What retention and garbage collection would do with a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BackupPlan {
    /// What stays, the newest first.
    pub kept: Vec<KeptBackup>,
    /// What goes, the oldest first, with what went before and is not removed yet.
    pub dropped: Vec<DroppedBackup>,
    /// How many bytes of packs are removed at once, since nobody needs them and their grace is over.
    pub freed_bytes: u64,
    /// How many are removed once their grace is over.
    pub pending_bytes: u64,
    /// Why nothing is removed, where something cannot be read that may need it.
    pub blocked: Option<String>,
    /// How many backups no tombstone names.
    #[serde(skip)]
    standing: usize,
    /// How many of these go.
    #[serde(skip)]
    newly_dropped: usize,
    /// Whether there is anything to do.
    #[serde(skip)]
    has_work: bool,
}

impl BackupPlan {
    /// Decides what goes at this moment. Reads the repository and changes nothing.
    ///
    /// # Errors
    /// What the store says; `Invalid` when a newer pgpersist wrote a tombstone. What is damaged is no error: it is told.
    pub async fn look(repository: &Repository, retention: &Retention, now: OffsetDateTime, patience: &Patience) -> Result<Self> {
        let inventory = Inventory::take(repository, now, patience.dead_after).await?;
        let live = &inventory.live;
        let (mut known, mut added) = (Vec::new(), BTreeMap::new());
        for backup in &inventory.backups {
            let one = match repository.manifest(*backup).await {
                Ok(manifest) => {
                    added.insert(*backup, manifest.sizes.new_bytes);
                    let has_all = has_all(repository, &inventory, &manifest).await?;
                    readable(&manifest, has_all, live)
                }
                // It was removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid) => {
                    let is_newer = error.kind() == ErrorKind::Invalid;
                    unreadable(*backup, is_newer.then_some("a newer pgpersist made it"), live)
                }
                Err(error) => return Err(error),
            };
            known.push(one);
        }
        if retention.max_bytes.is_some() {
            sizes(repository, &inventory, retention, &mut known, now).await?;
        }
        let mut plan = Self::of(&known, &expiry::decide(retention, &known, now), &inventory, &added, now, patience);
        plan.count(repository, &inventory, now, patience).await?;
        Ok(plan)
    }

    fn of(
        known: &[Known],
        decisions: &[Decision],
        inventory: &Inventory,
        added: &BTreeMap<RunName, u64>,
        now: OffsetDateTime,
        patience: &Patience,
    ) -> Self {
        let buried_at = buried_at(inventory);
        let mut plan = Self::default();
        for at in expiry::newest_first(known, now) {
            let (name, decision) = (known[at].name, &decisions[at]);
            let since = buried_at.get(&name).copied();
            plan.standing += usize::from(since.is_none());
            if decision.keep {
                plan.kept.push(KeptBackup { name, reason: decision.reason.clone() });
                continue;
            }
            plan.newly_dropped += usize::from(since.is_none());
            let removed_after = since.unwrap_or(now).saturating_add(patience.grace.try_into().unwrap_or(time::Duration::MAX));
            plan.dropped.push(DroppedBackup {
                name,
                reason: decision.reason.clone(),
                size_bytes: added.get(&name).copied().unwrap_or_default(),
                removed_after: Some(removed_after).filter(|after| *after > now),
            });
        }
        plan.dropped.reverse();
        plan
    }

    /// What that frees, and whether there is anything to do.
    async fn count(&mut self, repository: &Repository, inventory: &Inventory, now: OffsetDateTime, patience: &Patience) -> Result<()> {
        let kept: Vec<RunName> = self.kept.iter().map(|kept| kept.name).collect();
        let roots = Roots::of(repository, &kept, &inventory.live).await?;
        self.blocked = roots.unknown().map(ToOwned::to_owned);
        let due: HashSet<PackName> = inventory
            .tombstones
            .standing
            .iter()
            .filter(|standing| age(now, standing.put_at) >= patience.grace)
            .flat_map(|standing| standing.tombstone.doomed.packs.iter().copied())
            .collect();
        for (pack, size) in inventory.packs.iter().filter(|(pack, _)| !roots.keep(**pack)) {
            if due.contains(pack) || patience.grace.is_zero() {
                self.freed_bytes += size;
            } else {
                self.pending_bytes += size;
            }
        }
        let has_dead = inventory.runs.values().any(|run| run.is_dead(now, patience.dead_after));
        let has_tombstones = inventory.tombstones != Default::default();
        self.has_work = !self.dropped.is_empty() || self.freed_bytes + self.pending_bytes > 0 || has_dead || has_tombstones;
        Ok(())
    }

    /// Whether more than half of the backups would go at once: something for a person to confirm.
    pub fn drops_more_than_half(&self) -> bool {
        self.newly_dropped * 2 > self.standing
    }

    /// Whether there is anything to do: to drop, to remove, or to clear away.
    pub fn has_work(&self) -> bool {
        self.has_work
    }

    /// The names of those that go.
    pub fn names(&self) -> BTreeSet<RunName> {
        self.dropped.iter().map(|dropped| dropped.name).collect()
    }
}

/// Since when each backup stands in a tombstone.
fn buried_at(inventory: &Inventory) -> BTreeMap<RunName, OffsetDateTime> {
    let mut buried: BTreeMap<RunName, OffsetDateTime> = BTreeMap::new();
    for standing in &inventory.tombstones.standing {
        for backup in &standing.tombstone.doomed.backups {
            let first = buried.entry(*backup).or_insert(standing.put_at);
            *first = (*first).min(standing.put_at);
        }
    }
    buried
}

/// Whether all packs are there that a backup needs, each as long as it should be. What is in them, `verify` tells.
async fn has_all(repository: &Repository, inventory: &Inventory, manifest: &Manifest) -> Result<bool> {
    let mut contents = Contents::new(repository);
    for place in &manifest.packs {
        match contents.pack_list(*place).await {
            Ok(packs) if packs.iter().all(|record| inventory.packs.get(&record.pack) == Some(&record.size)) => {}
            Ok(_) => return Ok(false),
            Err(error) if is_gone(error.kind()) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn readable(manifest: &Manifest, has_all: bool, live: &Live) -> Known {
    Known {
        name: manifest.backup,
        position: Some((manifest.wal.timeline, manifest.wal.stop_lsn.parse().unwrap_or_default())),
        taken_at: manifest.started_at,
        good: has_all && manifest.unknown_damage() == 0,
        size_bytes: 0,
        held: held(manifest.backup, live),
    }
}

fn unreadable(name: RunName, held_by_format: Option<&str>, live: &Live) -> Known {
    let held = held_by_format.map(ToOwned::to_owned).or_else(|| held(name, live));
    Known { name, position: None, taken_at: name.began_at(), good: false, size_bytes: 0, held }
}

fn held(name: RunName, live: &Live) -> Option<String> {
    live.needs.get(&name).map(|operation| format!("a {operation} that runs needs it"))
}

/// What each backup that the rules keep takes that no newer one of them does: so they add up to what all of them take.
async fn sizes(
    repository: &Repository,
    inventory: &Inventory,
    retention: &Retention,
    known: &mut [Known],
    now: OffsetDateTime,
) -> Result<()> {
    let decisions = expiry::decide(&Retention { max_bytes: None, ..*retention }, known, now);
    let mut counted: HashSet<PackName> = HashSet::new();
    for at in expiry::newest_first(known, now) {
        if !decisions[at].keep || known[at].position.is_none() {
            continue;
        }
        let manifest = match repository.manifest(known[at].name).await {
            Ok(manifest) => manifest,
            Err(error) if is_gone(error.kind()) => continue,
            Err(error) => return Err(error),
        };
        let mut contents = Contents::new(repository);
        for place in &manifest.packs {
            let listed = match contents.pack_list(*place).await {
                Ok(listed) => listed,
                Err(error) if is_gone(error.kind()) => continue,
                Err(error) => return Err(error),
            };
            // The packs of these lists stand in none.
            let packs = listed.into_iter().map(|record| record.pack).chain([place.pack]);
            let new = packs.filter(|pack| counted.insert(*pack)).filter_map(|pack| inventory.packs.get(&pack));
            known[at].size_bytes += new.sum::<u64>();
        }
    }
    Ok(())
}

fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Invalid)
}
