//! Which runs have left something, and [`Live`]: those that live, and what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use time::OffsetDateTime;

use crate::error::{ErrorKind, Result};
use crate::repo::intent::Intent;
use crate::repo::layout;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::store::ObjectMeta;

/// What a run has left beside packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Whether its intent stands. One without is over, whatever it may believe.
    pub has_intent: bool,
    /// Whether the keys stand that open what it wrote.
    pub has_key: bool,
    /// When it was last seen to live, by the store's clock.
    pub seen: OffsetDateTime,
    /// The numbers of its beats.
    pub beats: Vec<u32>,
}

impl Run {
    /// Whether it has left something to say that it lives, and no longer does.
    pub fn is_dead(&self, now: OffsetDateTime, dead_after: Duration) -> bool {
        (self.has_intent || !self.beats.is_empty()) && !self.is_alive(now, dead_after)
    }

    /// Whether it is taken to live, when the store's clock says `now`.
    pub fn is_alive(&self, now: OffsetDateTime, dead_after: Duration) -> bool {
        self.has_intent && age(now, self.seen) < dead_after
    }
}

/// How old something is; nothing for what lies in the future.
pub fn age(now: OffsetDateTime, then: OffsetDateTime) -> Duration {
    Duration::try_from(now - then).unwrap_or_default()
}

/// The runs that live, and what they need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// The runs: all that they wrote stays.
    pub runs: BTreeSet<RunName>,
    /// The backups that they build on or read, each with what is done with it.
    pub needs: BTreeMap<RunName, String>,
    /// Why it cannot be told what one of them needs.
    pub unknown: Option<String>,
}

impl Live {
    /// Asks those runs that live when the store's clock says `now`.
    ///
    /// # Errors
    /// What the store says, but for damage.
    pub async fn look(repository: &Repository, runs: &BTreeMap<RunName, Run>, now: OffsetDateTime, dead_after: Duration) -> Result<Self> {
        let mut live = Self::default();
        let alive: Vec<RunName> = runs.iter().filter(|(_, run)| run.is_alive(now, dead_after)).map(|(name, _)| *name).collect();
        for name in alive {
            let below = layout::intent(name);
            let object = match repository.store().get(&repository.key(&below)?).await {
                Ok(object) => object,
                // It ended: what it published is listed by whoever lists backups after this.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            live.runs.insert(name);
            match Intent::parse(name, &object) {
                Ok(intent) => live.needs.extend(intent.needs().map(|backup| (backup, intent.operation.clone()))),
                Err(fault) => live.unknown = Some(repository.wrong(&below, fault).to_string()),
            }
        }
        Ok(live)
    }
}

/// The runs that have left something, and when they were last seen to live.
///
/// # Errors
/// What the store says.
pub async fn runs(repository: &Repository) -> Result<BTreeMap<RunName, Run>> {
    let mut runs: BTreeMap<RunName, Run> = BTreeMap::new();
    each(repository, layout::RUNS, |key, meta| {
        let (intent, beat, keys) = (layout::parse_intent(key), layout::parse_beat(key), layout::parse_run_key(key));
        let Some(name) = intent.or(beat.map(|(run, _)| run)).or(keys) else { return };
        let run = runs.entry(name).or_insert(Run { has_intent: false, has_key: false, seen: meta.modified, beats: Vec::new() });
        run.seen = run.seen.max(meta.modified);
        run.has_intent |= intent.is_some();
        run.has_key |= keys.is_some();
        run.beats.extend(beat.map(|(_, number)| number));
    })
    .await?;
    Ok(runs)
}

/// Tells each object in a folder of the repository, with its key below that.
pub(super) async fn each(repository: &Repository, folder: &str, mut tell: impl FnMut(&str, &ObjectMeta) + Send) -> Result<()> {
    let prefix = format!("{}/", repository.key(folder.trim_end_matches('/'))?);
    let skipped = prefix.len() - folder.len();
    let mut listed = repository.store().list(&prefix);
    while let Some(meta) = listed.try_next().await? {
        if let Some(key) = meta.key.as_str().get(skipped..) {
            tell(key, &meta);
        }
    }
    Ok(())
}
