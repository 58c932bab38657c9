//! [`collect`]: garbage collection. What nobody needs gets a tombstone; what had one for long enough, and is still not needed, is removed.
//!
//! # Why nothing that is needed is removed
//! - A run puts an intent before anything else and shows that it lives. What it wrote, and the backups that it names, are needed while
//!   it does.
//! - A pack is removed only if it had a tombstone for the grace time, and after that no manifest in the store names it and no intent in
//!   the store is of the run that wrote it, or names a backup that needs it. So all packs of every backup are there at every moment.
//! - A backup builds on nothing that a tombstone names: it looks after its intent stands, when whoever removes anything later sees the
//!   intent, and once more before it publishes.
//! - A run that was silent and is taken for dead loses its intent, after a grace time of its own, before intents and manifests are listed
//!   for the last time. So either its manifest is seen there, or it sees that its intent is gone, and takes its manifest back.
//! - Before a backup or a run gets a tombstone it gets a mark, which goes behind its last pack: packs of a run without manifest, intent and mark
//!   are not what this leaves behind, and `verify` tells of them.
//!
//! Interrupted anywhere, it leaves what the next one finishes. Two at once remove the same.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::repo::backup_plan::Patience;
use crate::repo::dropped::Dropped;
use crate::repo::intent::Intent;
use crate::repo::inventory::Inventory;
use crate::repo::layout;
use crate::repo::live_runs::{self, Live, age};
use crate::repo::names::{PackName, RunName};
use crate::repo::repository::Repository;
use crate::repo::roots::Roots;
use crate::repo::tombstone::{Doomed, Standing, Tombstone, Tombstones};
use crate::store::lease::Lease;

/// How many objects are removed between two looks at the lease.
const BATCH: usize = 64;
/// How many are removed at once.
const AT_ONCE: usize = 8;

/// What a collection came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The bytes of packs that were removed.
    pub freed_bytes: u64,
    /// The bytes of those that have a tombstone and are removed later.
    pub pending_bytes: u64,
    /// Why nothing was removed, where something cannot be read that may need it.
    pub blocked: Option<String>,
}

/// Buries these backups and all that nobody needs, and removes what was buried for the grace time. By who holds the lease, where it could
/// be taken: whether he still does is asked again and again. May be repeated.
///
/// # Errors
/// `Conflict` when the lease was lost; as [`Tombstones::read`]: what was removed so far stays removed.
pub async fn collect(
    repository: &Repository,
    dropped: &BTreeSet<RunName>,
    patience: &Patience,
    lease: Option<&Lease>,
    now: OffsetDateTime,
) -> Result<Collected> {
    let own = Intent::of_reading(RunName::new(now, rand::random()), "prune", Vec::new(), now);
    // Something that was put just now tells the store's time. On a full disk there is none, and its clock is the machine's.
    let store_now = match own.put(repository).await {
        Ok(()) => repository.store().head(&repository.key(&layout::intent(own.run))?).await?.modified,
        Err(_) => now,
    };
    let mut collector = Collector { repository, dropped, patience, lease, own: own.run, now, store_now, first: Inventory::default() };
    let collected = collector.run().await;
    // What stays of it, the next one removes.
    let _ = own.remove(repository).await;
    collected
}

struct Collector<'a> {
    repository: &'a Repository,
    /// The backups that go.
    dropped: &'a BTreeSet<RunName>,
    patience: &'a Patience,
    lease: Option<&'a Lease>,
    own: RunName,
    /// By our own clock: for names.
    now: OffsetDateTime,
    /// By the store's: for ages.
    store_now: OffsetDateTime,
    /// What stood there at first.
    first: Inventory,
}

impl Collector<'_> {
    async fn run(&mut self) -> Result<Collected> {
        self.first = Inventory::take(self.repository, self.store_now, self.patience.dead_after).await?;
        let live = &self.first.live;
        let standing: Vec<RunName> = self.first.backups.iter().copied().filter(|backup| !self.goes(*backup, live)).collect();
        let roots = Roots::of(self.repository, &standing, live).await?;
        if let Some(blocked) = roots.unknown() {
            return Ok(Collected { blocked: Some(blocked.to_owned()), ..Collected::default() });
        }
        if self.lease.is_some() {
            self.cancel(&roots).await?;
        }
        self.bury(&roots).await?;
        self.remove(&roots).await
    }

    /// The runs whose intents stand now, also those that are taken for dead: as long as one has not lost its intent, it may wake up and
    /// rely on what it says.
    async fn announced(&self) -> Result<Live> {
        let runs = live_runs::runs(self.repository).await?;
        Live::look(self.repository, &runs, self.store_now, Duration::MAX).await
    }

    /// Whether a backup goes: unless a run that lives needs it.
    fn goes(&self, backup: RunName, live: &Live) -> bool {
        self.dropped.contains(&backup) && !live.needs.contains_key(&backup)
    }

    async fn check(&self) -> Result<()> {
        match self.lease {
            Some(lease) => lease.check().await,
            None => Ok(()),
        }
    }

    /// Takes back what tombstones say of what is needed again; their grace begins anew for the rest. Only by one at a time: whoever
    /// holds the others' view of a tombstone may be about to carry it out.
    async fn cancel(&self, roots: &Roots) -> Result<()> {
        let live = &self.first.live;
        for damaged in &self.first.tombstones.damaged {
            Tombstone::remove(*damaged, self.repository).await?;
        }
        for standing in &self.first.tombstones.standing {
            let mut rest = standing.tombstone.doomed.clone();
            rest.backups.retain(|backup| !self.first.backups.contains(backup) || self.goes(*backup, live));
            rest.runs.retain(|run| !live.runs.contains(run));
            rest.packs.retain(|pack| !roots.keep(*pack));
            if rest != standing.tombstone.doomed {
                self.check().await?;
                let stays = |run: &&RunName| live.runs.contains(run) || (self.first.backups.contains(run) && !self.goes(**run, live));
                let named = &standing.tombstone.doomed;
                let marks = named.backups.union(&named.runs).filter(stays).map(|run| layout::dropped(*run)).collect();
                Tombstone::put(rest, self.repository, self.now).await?;
                Tombstone::remove(standing.tombstone.name, self.repository).await?;
                self.delete(marks).await?;
            }
        }
        Ok(())
    }

    /// Puts tombstones of all that nobody needs and that has none.
    async fn bury(&self, roots: &Roots) -> Result<()> {
        let live = &self.first.live;
        let buried = self.first.tombstones.buried();
        let backups = self.first.backups.iter().copied();
        let runs = self.first.runs.iter().filter(|(_, run)| run.has_intent).map(|(name, _)| *name);
        let packs = self.first.packs.keys().copied();
        let doomed = Doomed {
            backups: backups.filter(|backup| self.goes(*backup, live) && !buried.backups.contains(backup)).collect(),
            runs: runs.filter(|run| !live.runs.contains(run) && !buried.runs.contains(run) && *run != self.own).collect(),
            packs: packs.filter(|pack| !roots.keep(*pack) && !buried.packs.contains(pack)).collect(),
        };
        if doomed.is_empty() {
            return Ok(());
        }
        self.check().await?;
        for run in doomed.backups.union(&doomed.runs) {
            Dropped::put(*run, self.repository).await?;
        }
        Tombstone::put(doomed, self.repository, self.now).await
    }

    /// Removes what had a tombstone for the grace time: intents, then manifests, then packs, then the tombstones.
    async fn remove(&self, roots: &Roots) -> Result<Collected> {
        let mut due = Tombstones::read(self.repository).await?.standing;
        due.retain(|standing| age(self.store_now, standing.put_at) >= self.patience.grace);
        let mut collected = Collected::default();
        let removed = self.remove_due(&due, roots, &mut collected).await?;
        for (pack, size) in self.first.packs.iter().filter(|(pack, _)| !roots.keep(**pack)) {
            if removed.contains(pack) {
                collected.freed_bytes += size;
            } else {
                collected.pending_bytes += size;
            }
        }
        Ok(collected)
    }

    /// The packs that were removed.
    async fn remove_due(&self, due: &[Standing], roots: &Roots, collected: &mut Collected) -> Result<BTreeSet<PackName>> {
        self.check().await?;
        self.remove_dead(due).await?;
        if due.is_empty() {
            return Ok(BTreeSet::new());
        }
        // Who began meanwhile is asked, too.
        let announced = self.announced().await?;
        if let Some(blocked) = &announced.unknown {
            collected.blocked = Some(blocked.clone());
            return Ok(BTreeSet::new());
        }
        let mut doomed = Doomed::default();
        for standing in due {
            let named = &standing.tombstone.doomed;
            doomed.backups.extend(named.backups.iter().filter(|backup| self.goes(**backup, &announced)));
            doomed.packs.extend(named.packs.iter().filter(|pack| self.first.packs.contains_key(*pack)));
        }
        let locked = self.delete(doomed.backups.iter().map(|backup| layout::manifest(*backup)).collect()).await?;
        doomed.backups.retain(|backup| !locked.contains(&layout::manifest(*backup)));
        // From here on no manifest goes. Runs are asked before the manifests: one that ended in between is seen by its own.
        let announced = self.announced().await?;
        let backups = self.repository.backups().await?;
        let needed = Roots::of(self.repository, &backups, &announced).await?;
        if let Some(blocked) = needed.unknown() {
            collected.blocked = Some(blocked.to_owned());
            return Ok(BTreeSet::new());
        }
        doomed.packs.retain(|pack| !needed.keep(*pack));
        let locked = self.delete(doomed.packs.iter().map(|pack| layout::pack(*pack)).collect()).await?;
        doomed.packs.retain(|pack| !locked.contains(&layout::pack(*pack)));
        // What opens the packs of a run goes behind the last of them.
        let left: BTreeSet<RunName> = self.first.packs.keys().filter(|pack| !doomed.packs.contains(pack)).map(|pack| pack.run).collect();
        let is_left = |run: &RunName| left.contains(run) || announced.runs.contains(run) || backups.contains(run);
        let closed = self.first.runs.iter().filter(|(name, run)| run.has_key && !is_left(name));
        self.delete(closed.map(|(name, _)| layout::run_key(*name)).collect()).await?;
        let mut marked = self.first.dropped.clone();
        // Those that were put since.
        marked.extend(due.iter().flat_map(|standing| standing.tombstone.doomed.backups.union(&standing.tombstone.doomed.runs)));
        self.delete(marked.iter().filter(|run| !is_left(run)).map(|run| layout::dropped(*run)).collect()).await?;
        // One that names something that nobody needs and that could not go yet stands on.
        let is_done = |standing: &&Standing| {
            let named = &standing.tombstone.doomed;
            let waits = named.backups.iter().any(|backup| backups.contains(backup) && self.goes(*backup, &self.first.live))
                || named.runs.iter().any(|run| announced.runs.contains(run) && !self.first.live.runs.contains(run))
                || named.packs.iter().any(|pack| self.first.packs.contains_key(pack) && !roots.keep(*pack) && !doomed.packs.contains(pack));
            !waits
        };
        let done: Vec<String> = due.iter().filter(is_done).map(|standing| layout::tombstone(standing.tombstone.name)).collect();
        self.delete(done).await?;
        Ok(doomed.packs)
    }

    /// Takes their intents from runs that are dead still, and what has been left beside intents that are gone.
    async fn remove_dead(&self, due: &[Standing]) -> Result<()> {
        let runs = live_runs::runs(self.repository).await?;
        let is_due = |name: &RunName| due.iter().any(|standing| standing.tombstone.doomed.runs.contains(name));
        let dead = runs.iter().filter(|(name, run)| {
            let is_silent = age(self.store_now, run.seen) >= self.patience.dead_after;
            is_silent && **name != self.own && (!run.has_intent || is_due(name))
        });
        // The intent first: it is what its run looks at.
        let keys = dead.flat_map(|(name, run)| {
            let intent = run.has_intent.then(|| layout::intent(*name));
            intent.into_iter().chain(run.beats.iter().map(|number| layout::beat(*name, *number)))
        });
        for key in keys.collect::<Vec<String>>() {
            self.delete(vec![key]).await?;
        }
        Ok(())
    }

    /// Removes objects, and tells which of them the store keeps locked.
    async fn delete(&self, keys: Vec<String>) -> Result<Vec<String>> {
        let mut locked = Vec::new();
        for batch in keys.chunks(BATCH) {
            self.check().await?;
            for some in batch.chunks(AT_ONCE) {
                let removed = try_join_all(some.iter().map(|key| self.delete_one(key))).await?;
                locked.extend(some.iter().zip(removed).filter(|(_, removed)| !removed).map(|(key, _)| key.clone()));
            }
        }
        Ok(locked)
    }

    /// Removes an object, unless the store keeps it locked.
    async fn delete_one(&self, key: &str) -> Result<bool> {
        match self.repository.store().delete(&self.repository.key(key)?).await {
            Ok(()) => Ok(true),
            Err(Error::Locked { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
