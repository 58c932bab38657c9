//! What a backup does so that garbage collection and it do not meet: it says what it builds on before it relies on it, builds on nothing
//! that is to be removed, and looks again before and after it publishes. Why that is enough is told in `repo/collect.rs`.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::backup::parent::Parent;
use crate::error::{Error, ErrorKind, Result};
use crate::repo::intent::Intent;
use crate::repo::layout;
use crate::repo::live_intent::{LiveIntent, taken_for_dead};
use crate::repo::manifest::Manifest;
use crate::repo::names::RunName;
use crate::repo::pack_builder::PackRecord;
use crate::repo::repository::Repository;
use crate::repo::tombstone::{Buried, Tombstones};

/// Chooses the backup that this run compares with, and puts the run's intent.
///
/// # Errors
/// As [`Parent::find`], [`LiveIntent::begin`] and [`Tombstones::read`].
pub async fn announce(
    repository: &Repository,
    run: RunName,
    timeline: u32,
    began_at: OffsetDateTime,
) -> Result<(LiveIntent, Option<Arc<Parent>>)> {
    let buried = Tombstones::read(repository).await?.buried();
    let parent = Parent::find(repository, timeline, &buried).await?;
    let intent = Intent::of_backup(run, parent.as_ref().map(|parent| parent.manifest.backup), began_at);
    let live = LiveIntent::begin(repository, intent).await?;
    // Every tombstone that comes after this takes the intent into account. One that came before does not.
    let buried = Tombstones::read(repository).await?.buried();
    match parent {
        Some(parent) if is_standing(repository, &parent, &buried).await? => Ok((live, Some(parent))),
        // The backup is then one of its own, and whole.
        _ => Ok((live, None)),
    }
}

/// Whether nothing of a backup is to be removed, nor was.
async fn is_standing(repository: &Repository, parent: &Parent, buried: &Buried) -> Result<bool> {
    if buried.backups.contains(&parent.manifest.backup) || parent.packs.keys().any(|pack| buried.packs.contains(pack)) {
        return Ok(false);
    }
    match repository.store().head(&repository.key(&layout::manifest(parent.manifest.backup))?).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Publishes a backup that needs these packs, all of which were seen in the store.
///
/// # Errors
/// `Conflict` when garbage collection took the run for dead, or what it needs for garbage: then there is no backup. As
/// [`Repository::publish`].
pub async fn publish(repository: &Repository, live: &LiveIntent, manifest: &Manifest, packs: &[PackRecord]) -> Result<()> {
    let buried = Tombstones::read(repository).await?.buried();
    if let Some(record) = packs.iter().find(|record| buried.packs.contains(&record.pack)) {
        return Err(Error::conflict(
            format!("{} in {}, which this backup needs, is about to be removed", layout::pack(record.pack), repository.store()),
            "run the backup again",
        ));
    }
    repository.publish(manifest).await?;
    if live.stands().await? {
        return Ok(());
    }
    // Whoever took the intent away may have listed the manifests before this one came.
    repository.store().delete(&repository.key(&layout::manifest(manifest.backup))?).await?;
    Err(taken_for_dead(repository, manifest.backup))
}

#[cfg(test)]
mod tests;
