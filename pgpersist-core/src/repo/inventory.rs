//! [`Inventory`]: what stands in a repository, as listings tell it.
//!
//! The order of the listings is what makes it safe. Packs come before intents, and those before manifests: a pack that was seen was
//! announced before it, so its run is seen, too, or was over by then, and its manifest is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use time::OffsetDateTime;

use crate::error::Result;
use crate::repo::dropped::Dropped;
use crate::repo::layout;
use crate::repo::live_runs::{self, Live, Run, each};
use crate::repo::names::{PackName, RunName};
use crate::repo::repository::Repository;
use crate::repo::tombstone::Tombstones;

/// What stands in a repository. Some 40 bytes for each pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The tombstones.
    pub tombstones: Tombstones,
    /// The packs, each with its length.
    pub packs: BTreeMap<PackName, u64>,
    /// The runs that have left an intent, a beat, or keys.
    pub runs: BTreeMap<RunName, Run>,
    /// Those of them that live.
    pub live: Live,
    /// The backups.
    pub backups: BTreeSet<RunName>,
    /// The runs that were given up and have left packs.
    pub dropped: BTreeSet<RunName>,
}

impl Inventory {
    /// Looks, when the store's clock says `now`. Changes nothing.
    ///
    /// # Errors
    /// As [`Tombstones::read`].
    pub async fn take(repository: &Repository, now: OffsetDateTime, dead_after: Duration) -> Result<Self> {
        let tombstones = Tombstones::read(repository).await?;
        let mut packs = BTreeMap::new();
        each(repository, layout::PACKS, |key, meta| {
            packs.extend(layout::parse_pack(key).map(|pack| (pack, meta.size_bytes)));
        })
        .await?;
        let runs = live_runs::runs(repository).await?;
        let live = Live::look(repository, &runs, now, dead_after).await?;
        let backups = repository.backups().await?.into_iter().collect();
        // Last: such a mark is put before a manifest or an intent goes.
        let dropped = Dropped::all(repository).await?;
        Ok(Self { tombstones, packs, runs, live, backups, dropped })
    }
}
