//! [`Tombstone`]: names what is to be removed, a grace time before it is. Nothing is removed that no tombstone names, and no backup builds
//! on what one does.

use std::collections::{BTreeSet, HashSet};

use futures_util::TryStreamExt;
use rand::random;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{ErrorKind, Result};
use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::names::{PackName, RunName};
use crate::repo::repository::Repository;
use crate::store::ObjectMeta;

/// How many names one has at most: about 400 KB.
pub const MOST_NAMES: usize = 10_000;

/// Names of what is to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// Backups, which exist as long as their manifests do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub backups: BTreeSet<RunName>,
    /// Runs that ended without a word: their intents.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub runs: BTreeSet<RunName>,
    /// Packs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub packs: BTreeSet<PackName>,
}

impl Doomed {
    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.backups.is_empty() && self.runs.is_empty() && self.packs.is_empty()
    }

    /// The same in parts, none of which is too large for a tombstone. A backup stands in the first ones, which are put first.
    fn parts(self) -> Vec<Self> {
        enum Name {
            Backup(RunName),
            Run(RunName),
            Pack(PackName),
        }
        let backups = self.backups.into_iter().map(Name::Backup);
        let names = backups.chain(self.runs.into_iter().map(Name::Run)).chain(self.packs.into_iter().map(Name::Pack));
        let mut parts: Vec<Self> = Vec::new();
        for (nth, name) in names.enumerate() {
            if nth % MOST_NAMES == 0 {
                parts.push(Self::default());
            }
            let part = parts.last_mut().expect("the first name begins one");
            match name {
                Name::Backup(backup) => part.backups.insert(backup),
                Name::Run(run) => part.runs.insert(run),
                Name::Pack(pack) => part.packs.insert(pack),
            };
        }
        parts
    }
}

/// An object that names what is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// What it is called.
    pub name: RunName,
    /// When it was made, by the clock of whoever did; its age is told by the store's.
    #[serde(with = "time::serde::rfc3339")]
    pub made_at: OffsetDateTime,
    /// What it names.
    #[serde(flatten)]
    pub doomed: Doomed,
}

impl Tombstone {
    /// The object's bytes.
    ///
    /// # Errors
    /// `NotCanonical`.
    pub fn encode(&self) -> std::result::Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(self).map_err(|_| Fault::NotCanonical)?;
        Ok(envelope::seal(ObjectKind::Tombstone, &layout::tombstone(self.name), &json))
    }

    /// Reads the object of this name.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(name: RunName, object: &[u8]) -> std::result::Result<Self, Fault> {
        let json = envelope::open(ObjectKind::Tombstone, &layout::tombstone(name), object)?;
        let tombstone: Self = serde_json::from_slice(json).map_err(|_| Fault::NotCanonical)?;
        if tombstone.name == name { Ok(tombstone) } else { Err(Fault::NotCanonical) }
    }

    /// Puts tombstones of all this, as many as it takes.
    ///
    /// # Errors
    /// What the store says: what was put so far stands.
    pub async fn put(doomed: Doomed, repository: &Repository, now: OffsetDateTime) -> Result<()> {
        for doomed in doomed.parts() {
            let tombstone = Self { name: RunName::new(now, random()), made_at: now, doomed };
            let below = layout::tombstone(tombstone.name);
            let bytes = tombstone.encode().map_err(|fault| repository.wrong(&below, fault))?;
            repository.store().put_if_absent(&repository.key(&below)?, bytes.into()).await?;
        }
        Ok(())
    }

    /// Takes it away.
    ///
    /// # Errors
    /// What the store says.
    pub async fn remove(name: RunName, repository: &Repository) -> Result<()> {
        repository.store().delete(&repository.key(&layout::tombstone(name))?).await
    }
}

/// A tombstone that stands, and since when by the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it says.
    pub tombstone: Tombstone,
    /// When it was put.
    pub put_at: OffsetDateTime,
}

/// All tombstones of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// Those that can be read.
    pub standing: Vec<Standing>,
    /// Those that are damaged. They remove nothing, for nobody can tell what.
    pub damaged: Vec<RunName>,
}

/// Everything that any tombstone names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buried {
    /// Backups.
    pub backups: BTreeSet<RunName>,
    /// Runs.
    pub runs: BTreeSet<RunName>,
    /// Packs.
    pub packs: HashSet<PackName>,
}

impl Tombstones {
    /// Reads all of them.
    ///
    /// # Errors
    /// `Invalid` when a newer pgpersist wrote one; what the store says.
    pub async fn read(repository: &Repository) -> Result<Self> {
        let prefix = format!("{}/", repository.key(layout::TOMBSTONES.trim_end_matches('/'))?);
        let skipped = prefix.len() - layout::TOMBSTONES.len();
        let listed: Vec<ObjectMeta> = repository.store().list(&prefix).try_collect().await?;
        let mut all = Self::default();
        for meta in listed {
            let Some(name) = meta.key.as_str().get(skipped..).and_then(layout::parse_tombstone) else { continue };
            let object = match repository.store().get(&meta.key).await {
                Ok(object) => object,
                // Somebody was done with it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match Tombstone::parse(name, &object) {
                Ok(tombstone) => all.standing.push(Standing { tombstone, put_at: meta.modified }),
                Err(fault @ Fault::Version(_)) => return Err(repository.wrong(&layout::tombstone(name), fault)),
                Err(_) => all.damaged.push(name),
            }
        }
        Ok(all)
    }

    /// What they name, all together.
    pub fn buried(&self) -> Buried {
        let mut buried = Buried::default();
        for doomed in self.standing.iter().map(|standing| &standing.tombstone.doomed) {
            buried.backups.extend(&doomed.backups);
            buried.runs.extend(&doomed.runs);
            buried.packs.extend(&doomed.packs);
        }
        buried
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-02-08 09:33:16 UTC);

    fn run(number: u8) -> RunName {
        RunName::new(NOW, [number; 4])
    }

    #[test]
    fn a_tombstone_survives_a_round_trip_under_its_own_name() {
        let packs = BTreeSet::from([PackName { run: run(1), number: 0 }, PackName { run: run(1), number: 7 }]);
        let doomed = Doomed { backups: BTreeSet::from([run(1)]), runs: BTreeSet::new(), packs };
        let tombstone = Tombstone { name: run(9), made_at: NOW, doomed };
        let bytes = tombstone.encode().unwrap();
        assert_eq!(Tombstone::parse(run(9), &bytes), Ok(tombstone));
        assert_eq!(Tombstone::parse(run(8), &bytes), Err(Fault::Digest));
    }

    #[test]
    fn what_is_too_much_for_one_stands_in_several_and_backups_come_first() {
        let packs = (0..25_000).map(|number| PackName { run: run(1), number }).collect();
        let whole = Doomed { backups: BTreeSet::from([run(1), run(2)]), runs: BTreeSet::from([run(3)]), packs };
        let parts = whole.clone().parts();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0].backups, whole.backups);
        let mut together = Doomed::default();
        for part in parts {
            assert!(part.backups.len() + part.runs.len() + part.packs.len() <= MOST_NAMES && !part.is_empty());
            together.backups.extend(part.backups);
            together.runs.extend(part.runs);
            together.packs.extend(part.packs);
        }
        assert_eq!(together, whole);
        assert!(Doomed::default().parts().is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Tombstone::parse(run(1), &bytes);
            let _ = Tombstone::parse(run(1), &envelope::seal(ObjectKind::Tombstone, &layout::tombstone(run(1)), &bytes));
        }
    }
}
