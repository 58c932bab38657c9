//! The objects that are needed beside manifests and packs: what a restore by hand needs, wrapped keys, what comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;

use crate::error::{ErrorKind, Result};
use crate::repo::dropped::Dropped;
use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::intent::Intent;
use crate::repo::layout;
use crate::repo::names::{PackName, RunName};
use crate::repo::repository::Repository;
use crate::repo::rescue::RESCUE_FILES;
use crate::repo::tombstone::Tombstone;
use crate::repo::verify::{Damage, Needed, note, reworded};

/// Looks at what a restore by hand needs. Returns how many objects there are.
pub(super) async fn rescue_files(repository: &Repository, damage: &mut Damage) -> Result<u64> {
    for file in RESCUE_FILES {
        let key = repository.key(file.name)?;
        let reason = match file.look(repository.store().as_ref(), &key).await {
            Ok(Ok(())) => continue,
            Ok(Err(fault)) => format!("{fault}; remove it, and the next backup puts it again"),
            Err(error) if error.kind() == ErrorKind::NotFound => "it is not there; the next backup puts it again".to_owned(),
            Err(error) => return Err(error),
        };
        damage.insert(key, (reason, BTreeSet::new()));
    }
    Ok(RESCUE_FILES.len() as u64)
}

/// Looks at what comes and goes: intents and beats of runs that have not ended, or were interrupted, tombstones, and the marks of runs that
/// were given up. Returns how many there are.
pub(super) async fn passing(repository: &Repository, damage: &mut Damage) -> Result<u64> {
    let mut count = 0;
    for folder in [layout::RUNS, layout::TOMBSTONES, layout::DROPPED] {
        let place = repository.key(folder.trim_end_matches('/'))?;
        let (prefix, below) = (format!("{place}/"), place.as_str().len() - folder.len() + 1);
        let mut listed = repository.store().list(&prefix);
        while let Some(meta) = listed.try_next().await? {
            let Some(object) = meta.key.as_str().get(below..).and_then(Passing::of) else { continue };
            count += 1;
            match repository.store().get(&meta.key).await {
                Ok(bytes) => {
                    if let Err(fault) = object.look(&bytes) {
                        damage.insert(meta.key, (fault.to_string(), BTreeSet::new()));
                    }
                }
                // Its run ended meanwhile, or what it named is removed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(count)
}

/// What comes and goes, by its name.
enum Passing<'a> {
    Intent(RunName),
    Beat(&'a str),
    Tombstone(RunName),
    Dropped(RunName),
}

impl<'a> Passing<'a> {
    fn of(below: &'a str) -> Option<Self> {
        let intent = layout::parse_intent(below).map(Self::Intent);
        let beat = || layout::parse_beat(below).map(|_| Self::Beat(below));
        let tombstone = || layout::parse_tombstone(below).map(Self::Tombstone);
        intent.or_else(beat).or_else(tombstone).or_else(|| layout::parse_dropped(below).map(Self::Dropped))
    }

    fn look(&self, bytes: &[u8]) -> std::result::Result<(), Fault> {
        match self {
            Self::Intent(run) => Intent::parse(*run, bytes).map(drop),
            Self::Beat(below) => envelope::open(ObjectKind::Beat, below, bytes).map(drop),
            Self::Tombstone(name) => Tombstone::parse(*name, bytes).map(drop),
            Self::Dropped(run) => Dropped::parse(*run, bytes).map(drop),
        }
    }
}

/// Looks at the wrapped keys of all runs whose packs are needed, and tells how many there are.
pub(super) async fn look_at_keys(
    repository: &Repository,
    needed: &BTreeMap<PackName, Needed>,
    unopened: &BTreeSet<RunName>,
    damage: &mut Damage,
) -> Result<u64> {
    let mut runs: BTreeMap<RunName, BTreeSet<RunName>> = unopened.iter().map(|backup| (*backup, BTreeSet::from([*backup]))).collect();
    for (pack, needed) in needed {
        runs.entry(pack.run).or_default().extend(&needed.backups);
    }
    for (run, backups) in &runs {
        if let Err(error) = repository.wrapped_keys(*run).await {
            for backup in backups {
                note(damage, repository.key(&layout::run_key(*run))?, reworded(&error), *backup)?;
            }
        }
    }
    Ok(runs.len() as u64)
}
