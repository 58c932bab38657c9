//! Verifying a repository: is all there that its backups name, and is it what was written? Nothing is trusted that was not read.

mod beside;
mod named;
mod others;
mod packs;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, ProgressSink};
use crate::repo::layout;
use crate::repo::live_intent::LiveIntent;
use crate::repo::names::{PackName, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::repository::Repository;
use crate::repo::verify::beside::{look_at_keys, passing, rescue_files};
use crate::repo::verify::named::named;
use crate::repo::verify::others::others;
use crate::repo::verify::packs::{Looked, look_at_packs};
use crate::store::ObjectKey;

/// How far a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Manifests, lists, leaves, and each pack's length and trailer.
    Quick,
    /// And each frame of each pack, and each item in it.
    Full,
}

/// What a look at a repository found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepositoryReport {
    /// How many backups and packs were looked at.
    pub objects: u64,
    /// The bytes that were looked at.
    pub bytes: u64,
    /// What is not what was written.
    pub damaged: Vec<DamagedObject>,
    /// The backups that no key at hand opens, or not their files: bytes were compared with digests as far as that goes, and nobody looked
    /// into them.
    pub unopened: Vec<RunName>,
}

impl RepositoryReport {
    /// Adds what was found to the document of a look at dumps.
    pub fn add_to(&self, document: &mut Value) {
        for (field, more) in [("objects", self.objects), ("bytes", self.bytes)] {
            document[field] = (document[field].as_u64().unwrap_or_default() + more).into();
        }
        for (field, more) in [("damaged", json!(self.damaged)), ("unopened", json!(self.unopened))] {
            if let (Value::Array(all), Value::Array(more)) = (&mut document[field], more) {
                all.extend(more);
            }
        }
    }
}

/// An object that is missing or is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// Its path in the store.
    pub name: ObjectKey,
    /// What is wrong.
    pub reason: String,
    /// The backups that need it and cannot be restored whole, as far as that is known.
    pub backups: Vec<RunName>,
}

/// A pack, and who needs it up to which item.
struct Needed {
    record: PackRecord,
    items: u32,
    backups: BTreeSet<RunName>,
}

/// What is wrong with an object, and who needs it.
type Damage = BTreeMap<ObjectKey, (String, BTreeSet<RunName>)>;

/// Looks at all backups of a repository, or at one of them.
///
/// # Errors
/// `NotFound` when there is no such backup; what the store says where it could not be asked: damage is no error, it is told.
pub fn verify<'a>(
    repository: &'a Repository,
    only: Option<RunName>,
    depth: Depth,
    progress: &'a dyn ProgressSink,
) -> BoxFuture<'a, Result<RepositoryReport>> {
    Box::pin(async move {
        let backups = match only {
            Some(backup) => vec![backup],
            None => repository.backups().await?,
        };
        // Garbage collection leaves alone what a run that lives reads. Who may only read is none the worse for it: what goes meanwhile is
        // no damage.
        let live = if backups.is_empty() { None } else { LiveIntent::reading(repository, "verify", backups.clone()).await.ok() };
        let looked = look_at_all(repository, backups, only.is_some(), depth, progress).await;
        if let Some(live) = live {
            live.end_or_leave().await;
        }
        looked
    })
}

async fn look_at_all(
    repository: &Repository,
    backups: Vec<RunName>,
    is_named: bool,
    depth: Depth,
    progress: &dyn ProgressSink,
) -> Result<RepositoryReport> {
    let mut report = RepositoryReport::default();
    let mut damage = Damage::new();
    let mut needed: BTreeMap<PackName, Needed> = BTreeMap::new();
    let mut unopened = BTreeSet::new();
    for backup in backups {
        progress.event(Event::Step(format!("looking at {backup}")));
        report.objects += 1;
        let manifest = match repository.manifest(backup).await {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound && is_named => {
                return Err(Error::not_found(format!("there is no backup {backup}"), "see `pgpersist list` for those that there are"));
            }
            Err(error) if repository.is_closed(&error) => {
                unopened.insert(backup);
                continue;
            }
            Err(error) => {
                let keys = repository.key(&layout::run_key(backup))?;
                let key = if error.to_string().contains(keys.as_str()) { keys } else { repository.key(&layout::manifest(backup))? };
                note(&mut damage, key, error, backup)?;
                continue;
            }
        };
        let named = named(repository, &manifest).await;
        for (record, items) in named.packs {
            let pack = needed.entry(record.pack).or_insert_with(|| Needed { record, items, backups: BTreeSet::new() });
            pack.items = pack.items.max(items);
            pack.backups.insert(backup);
        }
        for (key, error) in named.wrong {
            if repository.is_closed(&error) {
                unopened.insert(backup);
            } else {
                note(&mut damage, key, error, backup)?;
            }
        }
    }
    let total = needed.values().map(|needed| needed.record.size).sum();
    let mut done = 0;
    look_at_packs(repository, needed.iter().map(|(name, needed)| (*name, Some(needed))), depth, &mut |name, outcome| {
        let needed = &needed[&name];
        done += needed.record.size;
        progress.event(Event::Bytes { done, total: Some(total) });
        match outcome {
            Ok((Looked::Whole, _)) => {}
            Ok((Looked::Closed, _)) => unopened.extend(&needed.backups),
            Err(error) => {
                let key = repository.key(&layout::pack(name))?;
                for backup in &needed.backups {
                    note(&mut damage, key.clone(), reworded(&error), *backup)?;
                }
            }
        }
        Ok(())
    })
    .await?;
    report.objects += needed.len() as u64;
    report.bytes += total;
    if repository.is_encrypted() {
        report.objects += look_at_keys(repository, &needed, &unopened, &mut damage).await?;
    }
    if !damage.is_empty() {
        // A backup that was removed meanwhile needs nothing any more.
        let standing: BTreeSet<RunName> = repository.backups().await?.into_iter().collect();
        for (_, backups) in damage.values_mut() {
            backups.retain(|backup| standing.contains(backup));
        }
        damage.retain(|_, (_, backups)| !backups.is_empty());
    }
    if !is_named {
        others(repository, &needed, depth, &mut report, &mut damage).await?;
        report.objects += rescue_files(repository, &mut damage).await? + passing(repository, &mut damage).await?;
    }
    report.unopened = unopened.into_iter().collect();
    let told = damage.into_iter().map(|(name, (reason, backups))| DamagedObject { name, reason, backups: backups.into_iter().collect() });
    report.damaged = told.collect();
    Ok(report)
}

/// Notes damage; any other error is one.
fn note(damage: &mut Damage, key: ObjectKey, error: Error, backup: RunName) -> Result<()> {
    match error.kind() {
        ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Invalid => {
            damage.entry(key).or_insert_with(|| (error.to_string(), BTreeSet::new())).1.insert(backup);
            Ok(())
        }
        _ => Err(error),
    }
}

fn reworded(error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Damaged => Error::damaged(error.to_string(), ""),
        ErrorKind::Invalid => Error::invalid(error.to_string(), ""),
        ErrorKind::NotFound => Error::not_found(error.to_string(), ""),
        _ => Error::unavailable(error.to_string(), "try again"),
    }
}
