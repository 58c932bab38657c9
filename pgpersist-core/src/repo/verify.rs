//! Verifying a repository: is all there that its backups name, and is it what was written? Nothing is trusted that was not read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, ProgressSink};
use crate::repo::contents::Contents;
use crate::repo::entry::EntryKind;
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::{OpenPack, look_at_end};
use crate::repo::repository::Repository;
use crate::store::ObjectKey;
use crate::workers;

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
pub async fn verify(repository: &Repository, only: Option<RunName>, depth: Depth, progress: &dyn ProgressSink) -> Result<RepositoryReport> {
    let mut report = RepositoryReport::default();
    let mut damage = Damage::new();
    let mut needed: BTreeMap<PackName, Needed> = BTreeMap::new();
    let (mut unopened, mut closed) = (BTreeSet::new(), false);
    let backups = match only {
        Some(backup) => vec![backup],
        None => repository.backups().await?,
    };
    for backup in backups {
        progress.event(Event::Step(format!("looking at {backup}")));
        report.objects += 1;
        let manifest = match repository.manifest(backup).await {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound && only.is_some() => return Err(error),
            Err(error) if repository.is_closed(&error) => {
                unopened.insert(backup);
                closed = true;
                continue;
            }
            Err(error) => {
                let keys = repository.key(&layout::run_key(backup))?;
                let key = if error.to_string().contains(keys.as_str()) { keys } else { repository.key(&layout::manifest(backup))? };
                note(&mut damage, key, error, backup)?;
                continue;
            }
        };
        match named(repository, &manifest).await {
            Ok(packs) => {
                for (record, items) in packs {
                    let pack = needed.entry(record.pack).or_insert_with(|| Needed { record, items, backups: BTreeSet::new() });
                    pack.items = pack.items.max(items);
                    pack.backups.insert(backup);
                }
            }
            Err((_, error)) if repository.is_closed(&error) => {
                unopened.insert(backup);
            }
            Err((key, error)) => note(&mut damage, key, error, backup)?,
        }
    }
    for needed in needed.values() {
        report.objects += 1;
        report.bytes += needed.record.size;
        match look(repository, needed, depth).await {
            Ok(Looked::Whole) => {}
            Ok(Looked::Closed) => unopened.extend(&needed.backups),
            Err(error) if repository.is_closed(&error) => unopened.extend(&needed.backups),
            Err(error) => {
                let key = repository.key(&layout::pack(needed.record.pack))?;
                for backup in &needed.backups {
                    note(&mut damage, key.clone(), reworded(&error), *backup)?;
                }
            }
        }
    }
    if repository.is_encrypted() {
        report.objects += look_at_keys(repository, &needed, &unopened, &mut damage).await?;
    }
    if closed && only.is_none() {
        look_at_closed(repository, &needed, &mut report, &mut damage).await?;
    }
    report.unopened = unopened.into_iter().collect();
    let told = damage.into_iter().map(|(name, (reason, backups))| DamagedObject { name, reason, backups: backups.into_iter().collect() });
    report.damaged = told.collect();
    Ok(report)
}

/// Looks at the wrapped keys of all runs whose packs are needed, and tells how many there are.
async fn look_at_keys(
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

/// Looks at the packs of which nobody could tell who needs them, as far as that goes without a key.
async fn look_at_closed(
    repository: &Repository,
    needed: &BTreeMap<PackName, Needed>,
    report: &mut RepositoryReport,
    damage: &mut Damage,
) -> Result<()> {
    for pack in repository.packs().await? {
        if needed.contains_key(&pack) {
            continue;
        }
        match look_at_end(repository, pack).await {
            Ok(size) => {
                report.objects += 1;
                report.bytes += size;
            }
            // It was removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Damaged => {
                report.objects += 1;
                damage.entry(repository.key(&layout::pack(pack))?).or_insert_with(|| (error.to_string(), BTreeSet::new()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
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

/// All packs that a backup names, each with how many items it must have: every leaf leads into one of them.
async fn named(repository: &Repository, manifest: &Manifest) -> std::result::Result<Vec<(PackRecord, u32)>, (ObjectKey, Error)> {
    let of_manifest = |error: Error| (manifest_key(repository, manifest), error);
    let mut contents = Contents::new(repository);
    let lists: Vec<PackName> = manifest.packs.iter().chain(&manifest.entries).map(|place| place.pack).collect();
    let mut packs = contents.packs(manifest).await.map_err(|error| at_fault(repository, manifest, &lists, error))?;
    let mut known: BTreeMap<PackName, u32> = packs.iter().map(|record| (record.pack, 0)).collect();
    let entries = contents.all_entries(manifest).await.map_err(|error| at_fault(repository, manifest, &lists, error))?;
    for entry in &entries {
        let EntryKind::File(file) = &entry.kind else { continue };
        let mut chunks = 0;
        for place in &file.leaves {
            let leaf = contents.leaf(*place).await.map_err(|error| at_fault(repository, manifest, &[place.pack], error))?;
            chunks += u64::from(leaf.chunks());
            let ends = leaf.stretches().iter().filter_map(|stretch| Some((stretch.place?, stretch.chunks)));
            for (first, chunks) in ends.chain([(*place, 1)]) {
                let Some(items) = known.get_mut(&first.pack) else { return Err(of_manifest(nowhere(repository, manifest, "a leaf"))) };
                *items = (*items).max(first.item.saturating_add(chunks));
            }
        }
        if chunks != file.chunks() {
            return Err(of_manifest(nowhere(repository, manifest, "a file")));
        }
    }
    // The lists of packs lie in packs that no list names.
    for place in &manifest.packs {
        if known.insert(place.pack, 0).is_none() {
            let pack =
                OpenPack::read(repository, place.pack).await.map_err(|error| at_fault(repository, manifest, &[place.pack], error))?;
            packs.push(PackRecord { pack: pack.name, size: pack.size, digest: pack.digest });
        }
    }
    Ok(packs.into_iter().map(|record| (record.clone(), known.get(&record.pack).copied().unwrap_or_default())).collect())
}

fn nowhere(repository: &Repository, manifest: &Manifest, what: &'static str) -> Error {
    repository.wrong(&layout::manifest(manifest.backup), Fault::Reference { what })
}

fn manifest_key(repository: &Repository, manifest: &Manifest) -> ObjectKey {
    repository.key(&layout::manifest(manifest.backup)).expect("it was read under this name")
}

/// The object that an error is about: one of these packs if it is named, else the manifest.
fn at_fault(repository: &Repository, manifest: &Manifest, packs: &[PackName], error: Error) -> (ObjectKey, Error) {
    let text = error.to_string();
    let objects = packs.iter().flat_map(|pack| [layout::pack(*pack), layout::run_key(pack.run)]);
    let named = objects.filter_map(|below| repository.key(&below).ok()).find(|key| text.contains(key.as_str()));
    (named.unwrap_or_else(|| manifest_key(repository, manifest)), error)
}

/// How far a pack was looked into.
enum Looked {
    Whole,
    /// Its bytes were compared, and no key at hand opens them.
    Closed,
}

/// Whether a pack is what the manifest says.
async fn look(repository: &Repository, needed: &Needed, depth: Depth) -> Result<Looked> {
    let record = &needed.record;
    let pack = OpenPack::read(repository, record.pack).await?;
    let has_all = pack.trailer.ids.len() as u64 >= u64::from(needed.items);
    if pack.digest != record.digest || pack.size != record.size || !has_all {
        return Err(repository.wrong(&layout::pack(record.pack), Fault::Digest));
    }
    if depth == Depth::Full && !pack.opens() {
        for place in pack.places() {
            pack.look_at_frame(repository, place).await?;
        }
        return Ok(Looked::Closed);
    }
    if depth == Depth::Full {
        for place in pack.places() {
            let frame = pack.read_frame(repository, place).await?;
            let (key, ids, items) = (repository.hash_key().clone(), pack.trailer.ids.clone(), place.items.clone());
            let same = workers::run(move || {
                Ok(items.into_iter().all(|item| {
                    let expected = ids.get(item as usize);
                    frame.item(item).is_some_and(|bytes| expected == Some(&key.identify(&bytes)))
                }))
            });
            if !same.await? {
                return Err(repository.wrong(&layout::pack(record.pack), Fault::Digest));
            }
        }
    }
    Ok(Looked::Whole)
}
