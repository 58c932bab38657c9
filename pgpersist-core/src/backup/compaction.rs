//! [`Compaction`]: what a backup stores anew although its parent has it, so that packs go of which little is needed.
//!
//! A pack stays whole as long as one item in it is needed, and a restore reads whole frames. Where pages change here and there, what did not
//! change is spread thinly over ever more packs: they are never removed, and a restore reads far more than it writes. So each backup moves
//! the rest of the worst among its own new items, from the file itself, up to a budget. Two things tell which: how much of a pack the backups
//! that stay still use, which their lists of packs say; and, when a stretch of a file has been read, how thinly what is left of an older pack
//! lies in it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backup::parent::{Parent, is_gone};
use crate::error::{Error, Result};
use crate::repo::contents::Contents;
use crate::repo::leaf::Leaf;
use crate::repo::names::{PackName, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::repository::Repository;
use crate::repo::tombstone::Tombstones;

/// Shorter rows of items are no matter: a frame or two.
const LEAST_SPAN: u32 = 32;
/// How much more than it needs a restore of the parent may read before packs are emptied that other backups still use.
const MOST_READ: f64 = 1.5;

/// What is moved.
#[derive(Debug, Default)]
pub struct Compaction {
    packs: HashSet<PackName>,
    budget: u64,
    moved: AtomicU64,
}

impl Compaction {
    /// Of a backup that builds on `parent`; it moves `percent` of the parent's length at most, and a stretch of a file more.
    ///
    /// # Errors
    /// What the store says, but for backups that are gone or damaged.
    pub async fn plan(repository: &Repository, parent: &Parent, percent: u32) -> Result<Self> {
        let budget = (parent.manifest.sizes.bytes / 100).saturating_mul(percent.into());
        if budget == 0 {
            return Ok(Self::default());
        }
        let mut candidates = candidates(parent.packs.values());
        if !candidates.is_empty() && amplification(parent.packs.values()) <= MOST_READ {
            let buried = Tombstones::read(repository).await?.buried();
            for backup in repository.backups().await? {
                if backup != parent.manifest.backup && !buried.backups.contains(&backup) {
                    spare_used(repository, backup, &mut candidates).await?;
                }
            }
        }
        Ok(Self { packs: worst(candidates, budget), budget, moved: AtomicU64::new(0) })
    }

    /// How many bytes were moved, as they are in the files.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether a leaf that lies there is written anew.
    pub fn empties(&self, pack: PackName) -> bool {
        self.packs.contains(&pack)
    }

    /// The packs whose items in this leaf are moved; those that are new in the backup in the making are left alone. What they come to is
    /// taken off the budget; where that is spent, there are none.
    pub fn take(&self, leaf: &Leaf, is_new: impl Fn(PackName) -> bool, item_bytes: u64) -> HashSet<PackName> {
        let chosen = self.wanted(leaf, is_new);
        let bytes: u64 = chosen.values().map(|items| u64::from(*items) * item_bytes).sum();
        if bytes == 0 || self.moved() >= self.budget {
            return HashSet::new();
        }
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        chosen.into_keys().collect()
    }

    /// Whether there is anything in a leaf of the parent that would be moved.
    pub fn wants(&self, leaf: &Leaf) -> bool {
        self.moved() < self.budget && !self.wanted(leaf, |_| false).is_empty()
    }

    /// Each with the number of its items.
    fn wanted(&self, leaf: &Leaf, is_new: impl Fn(PackName) -> bool) -> HashMap<PackName, u32> {
        let mut spans: HashMap<PackName, Span> = HashMap::new();
        if self.budget > 0 {
            for (place, chunks) in leaf.stretches().iter().filter_map(|stretch| Some((stretch.place?, stretch.chunks))) {
                spans.entry(place.pack).or_default().add(place.item, chunks);
            }
        }
        spans.retain(|pack, span| !is_new(*pack) && (self.packs.contains(pack) || span.is_thin()));
        spans.into_iter().map(|(pack, span)| (pack, span.items)).collect()
    }
}

/// From the first to behind the last item of a pack that is used.
#[derive(Debug, Default, Clone, Copy)]
struct Span {
    items: u32,
    from: u32,
    to: u32,
}

impl Span {
    fn add(&mut self, item: u32, items: u32) {
        let to = item.saturating_add(items);
        *self = match self.items {
            0 => Self { items, from: item, to },
            before => Self { items: before + items, from: self.from.min(item), to: self.to.max(to) },
        };
    }

    fn is_thin(self) -> bool {
        let span = self.to - self.from;
        span >= LEAST_SPAN && self.items < span.div_ceil(2)
    }
}

/// How much a restore reads for each byte that it needs.
fn amplification<'a>(packs: impl Iterator<Item = &'a PackRecord>) -> f64 {
    let (mut read, mut needed) = (0.0, 0.0);
    for record in packs {
        read += record.size as f64;
        needed += record.size as f64 * record.share();
    }
    if needed > 0.0 { read / needed } else { 1.0 }
}

/// The packs of which less than half is used.
fn candidates<'a>(packs: impl Iterator<Item = &'a PackRecord>) -> HashMap<PackName, PackRecord> {
    packs.filter(|record| record.share() < 0.5).map(|record| (record.pack, record.clone())).collect()
}

/// Takes out what another backup uses for the greater part: it stays because of that one.
async fn spare_used(repository: &Repository, backup: RunName, candidates: &mut HashMap<PackName, PackRecord>) -> Result<()> {
    let mut contents = Contents::new(repository);
    let looked = async {
        for place in repository.manifest(backup).await?.packs {
            for record in contents.pack_list(place).await? {
                if record.share() >= 0.5 {
                    candidates.remove(&record.pack);
                }
            }
        }
        Ok::<(), Error>(())
    };
    match looked.await {
        // What it uses is not known, and it cannot be restored.
        Err(error) if is_gone(error.kind()) || repository.is_closed(&error) => Ok(()),
        looked => looked,
    }
}

/// Those of which the least is used, as many as the budget has room for, and one.
fn worst(candidates: HashMap<PackName, PackRecord>, budget: u64) -> HashSet<PackName> {
    let mut candidates: Vec<PackRecord> = candidates.into_values().collect();
    candidates.sort_by(|a, b| a.share().total_cmp(&b.share()).then(a.pack.cmp(&b.pack)));
    let mut planned = 0_u64;
    let within = candidates.into_iter().take_while(|record| {
        let fits = planned < budget;
        planned = planned.saturating_add(record.used);
        fits
    });
    within.map(|record| record.pack).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::repo::leaf::Stretch;
    use crate::repo::names::Place;

    fn pack(number: u32) -> PackName {
        PackName { run: RunName::new(datetime!(2026-02-08 09:33:16 UTC), [1, 2, 3, 4]), number }
    }

    fn record(number: u32, bytes: u64, used: u64) -> PackRecord {
        PackRecord { pack: pack(number), size: bytes / 2, digest: [0; 32], bytes, used }
    }

    /// Each `every`th item of one pack, and between them those of another.
    fn scattered(every: u32) -> Leaf {
        let mut leaf = Leaf::default();
        let mut new = 0;
        for chunk in 0..1000 {
            let place = if chunk % every == 0 {
                Place { pack: pack(0), item: 500 + chunk }
            } else {
                new += 1;
                Place { pack: pack(1), item: new - 1 }
            };
            leaf.push(Stretch { chunks: 1, place: Some(place) });
        }
        leaf
    }

    fn with_budget(budget: u64) -> Compaction {
        Compaction { budget, ..Compaction::default() }
    }

    #[test]
    fn what_lies_thinly_is_moved_and_what_lies_close_stays() {
        let is_new = |name: PackName| name == pack(1);
        assert_eq!(with_budget(1 << 30).take(&scattered(20), is_new, 8192), HashSet::from([pack(0)]));
        assert_eq!(with_budget(1 << 30).take(&scattered(2), is_new, 8192), HashSet::new());
        // Nine in ten of the new one's are there, and all that there are of it lie together.
        assert_eq!(with_budget(1 << 30).take(&scattered(20), |_| false, 8192), HashSet::from([pack(0)]));
        let mut few = Leaf::default();
        for chunk in [0, 10, 20] {
            few.push(Stretch { chunks: 1, place: Some(Place { pack: pack(0), item: chunk }) });
        }
        assert_eq!(with_budget(1 << 30).take(&few, |_| false, 8192), HashSet::new());
    }

    #[test]
    fn the_budget_ends_with_the_stretch_that_goes_over_it() {
        let compaction = with_budget(8192 * 60);
        let leaf = scattered(20);
        assert_eq!(compaction.take(&leaf, |_| false, 8192).len(), 1);
        assert!(compaction.wants(&leaf));
        assert_eq!(compaction.take(&leaf, |_| false, 8192).len(), 1);
        assert_eq!(compaction.moved(), 8192 * 100);
        assert!(!compaction.wants(&leaf));
        assert_eq!(compaction.take(&leaf, |_| false, 8192).len(), 0);
        assert_eq!((with_budget(0).take(&leaf, |_| false, 8192).len(), with_budget(0).wants(&leaf)), (0, false));
    }

    #[test]
    fn the_worst_packs_are_emptied_first_and_no_more_than_there_is_a_budget_for() {
        let packs = [record(0, 1000, 400), record(1, 1000, 100), record(2, 1000, 600), record(3, 1000, 300), record(4, 0, 0)];
        let found = candidates(packs.iter());
        assert_eq!(found.keys().copied().collect::<HashSet<_>>(), HashSet::from([pack(0), pack(1), pack(3)]));
        assert_eq!(worst(found.clone(), 50), HashSet::from([pack(1)]));
        assert_eq!(worst(found.clone(), 300), HashSet::from([pack(1), pack(3)]));
        assert_eq!(worst(found, 1000), HashSet::from([pack(0), pack(1), pack(3)]));
        let compaction = Compaction { packs: HashSet::from([pack(7)]), budget: 1 << 20, moved: AtomicU64::new(0) };
        let mut whole = Leaf::default();
        whole.push(Stretch { chunks: 5, place: Some(Place { pack: pack(7), item: 3 }) });
        assert_eq!(compaction.take(&whole, |_| false, 8192), HashSet::from([pack(7)]));
        assert_eq!(compaction.moved(), 5 * 8192);
    }

    #[test]
    fn a_restore_reads_as_much_more_as_packs_are_longer_than_what_is_used_of_them() {
        assert!((amplification([record(0, 1000, 1000), record(1, 1000, 0)].iter()) - 2.0).abs() < 1e-9);
        assert!((amplification([record(0, 1000, 1000)].iter()) - 1.0).abs() < 1e-9);
        assert!((amplification([].iter()) - 1.0).abs() < 1e-9);
    }
}
