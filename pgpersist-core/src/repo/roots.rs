//! [`Roots`]: what must stay, since a backup or a run that lives needs it. What cannot be told counts as all.

use std::collections::{BTreeSet, HashSet};

use crate::error::{ErrorKind, Result};
use crate::repo::contents::Contents;
use crate::repo::live_runs::Live;
use crate::repo::names::{PackName, RunName};
use crate::repo::repository::Repository;

/// What must stay. Some 30 bytes for each pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    packs: HashSet<PackName>,
    runs: BTreeSet<RunName>,
    unknown: Option<String>,
}

impl Roots {
    /// All packs that these backups name, and all that runs that live have written.
    ///
    /// # Errors
    /// What the store says, but for damage: of a backup that cannot be read nobody knows what it needs, so all stays.
    pub async fn of(repository: &Repository, backups: &[RunName], live: &Live) -> Result<Self> {
        let mut roots = Self { packs: HashSet::new(), runs: live.runs.clone(), unknown: live.unknown.clone() };
        for backup in backups {
            match roots.add(repository, *backup).await {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid | ErrorKind::NotFound) => {
                    roots.unknown.get_or_insert_with(|| format!("it is not known what {backup} needs: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(roots)
    }

    async fn add(&mut self, repository: &Repository, backup: RunName) -> Result<()> {
        let manifest = match repository.manifest(backup).await {
            Ok(manifest) => manifest,
            // It was removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        self.packs.extend(manifest.packs.iter().chain(&manifest.entries).map(|place| place.pack));
        let mut contents = Contents::new(repository);
        for place in &manifest.packs {
            self.packs.extend(contents.pack_list(*place).await?.into_iter().map(|record| record.pack));
        }
        Ok(())
    }

    /// Whether this pack must stay.
    pub fn keep(&self, pack: PackName) -> bool {
        self.unknown.is_some() || self.runs.contains(&pack.run) || self.packs.contains(&pack)
    }

    /// Why everything must stay, where it must.
    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }
}
