//! Verifying a repository: is all there that its backups name, and is it what was written? Nothing is trusted that was not read.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, ProgressSink};
use crate::repo::contents::Contents;
use crate::repo::entry::EntryKind;
use crate::repo::fault::Fault;
use crate::repo::intent::Intent;
use crate::repo::layout;
use crate::repo::live_intent::LiveIntent;
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, RunName};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::OpenPack;
use crate::repo::repository::Repository;
use crate::repo::rescue::RESCUE_FILES;
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
}

/// An object that is missing or is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// Its path in the store.
    pub name: ObjectKey,
    /// What is wrong.
    pub reason: String,
    /// The backups that need it and cannot be restored whole.
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
    for backup in backups {
        progress.event(Event::Step(format!("looking at {backup}")));
        report.objects += 1;
        let manifest = match repository.manifest(backup).await {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound && is_named => return Err(error),
            Err(error) => {
                note(&mut damage, repository.key(&layout::manifest(backup))?, error, backup)?;
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
            note(&mut damage, key, error, backup)?;
        }
    }
    for needed in needed.values() {
        report.objects += 1;
        report.bytes += needed.record.size;
        if let Err(error) = look(repository, needed, depth).await {
            let key = repository.key(&layout::pack(needed.record.pack))?;
            for backup in &needed.backups {
                note(&mut damage, key.clone(), reworded(&error), *backup)?;
            }
        }
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
        report.objects += rescue_files(repository, &mut damage).await? + intents(repository, &mut damage).await?;
    }
    let told = damage.into_iter().map(|(name, (reason, backups))| DamagedObject { name, reason, backups: backups.into_iter().collect() });
    report.damaged = told.collect();
    Ok(report)
}

/// Looks at what a restore by hand needs. Returns how many objects there are.
async fn rescue_files(repository: &Repository, damage: &mut Damage) -> Result<u64> {
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

/// Looks at the intents of runs that have not ended, or were interrupted. Returns how many there are.
async fn intents(repository: &Repository, damage: &mut Damage) -> Result<u64> {
    let folder = repository.key(layout::RUNS.trim_end_matches('/'))?;
    let (prefix, below) = (format!("{folder}/"), folder.as_str().len() - layout::RUNS.len() + 1);
    let (mut listed, mut count) = (repository.store().list(&prefix), 0);
    while let Some(meta) = listed.try_next().await? {
        let Some(run) = meta.key.as_str().get(below..).and_then(layout::parse_intent) else { continue };
        count += 1;
        match repository.store().get(&meta.key).await {
            Ok(bytes) => {
                if let Err(fault) = Intent::parse(run, &bytes) {
                    damage.insert(meta.key, (fault.to_string(), BTreeSet::new()));
                }
            }
            // Its run ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
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

/// What a backup names.
#[derive(Debug, Default)]
struct Named {
    /// All packs, each with how many items it must have: every leaf leads into one of them.
    packs: Vec<(PackRecord, u32)>,
    /// What is wrong with what names them. One that is wrong hides no other.
    wrong: BTreeMap<ObjectKey, Error>,
}

impl Named {
    fn blame(&mut self, (key, error): (ObjectKey, Error)) {
        self.wrong.entry(key).or_insert(error);
    }
}

async fn named(repository: &Repository, manifest: &Manifest) -> Named {
    let (mut named, mut contents) = (Named::default(), Contents::new(repository));
    let of_manifest = |what| (manifest_key(repository, manifest), nowhere(repository, manifest, what));
    let lists: Vec<PackName> = manifest.packs.iter().chain(&manifest.entries).map(|place| place.pack).collect();
    let listed = contents.packs(manifest).await.map_err(|error| named.blame(at_fault(repository, manifest, &lists, error))).ok();
    let entries = contents.all_entries(manifest).await.map_err(|error| named.blame(at_fault(repository, manifest, &lists, error)));
    let mut needed: BTreeMap<PackName, u32> = manifest.entries.iter().map(|place| (place.pack, 0)).collect();
    for entry in entries.unwrap_or_default() {
        let EntryKind::File(file) = &entry.kind else { continue };
        let mut chunks = Some(0);
        for place in &file.leaves {
            let leaf = match contents.leaf(*place).await {
                Ok(leaf) => leaf,
                Err(error) => {
                    named.blame(at_fault(repository, manifest, &[place.pack], error));
                    chunks = None;
                    continue;
                }
            };
            chunks = chunks.map(|chunks| chunks + u64::from(leaf.chunks()));
            let ends = leaf.stretches().iter().filter_map(|stretch| Some((stretch.place?, stretch.chunks)));
            for (first, chunks) in ends.chain([(*place, 1)]) {
                let items = needed.entry(first.pack).or_default();
                *items = (*items).max(first.item.saturating_add(chunks));
            }
        }
        if chunks.is_some_and(|chunks| chunks != file.chunks()) {
            named.blame(of_manifest("a file"));
        }
    }
    let mut records: BTreeMap<PackName, PackRecord> = listed.iter().flatten().map(|record| (record.pack, record.clone())).collect();
    if listed.is_some() && needed.keys().any(|pack| !records.contains_key(pack)) {
        named.blame(of_manifest("a leaf"));
    }
    // The lists of packs lie in packs that no list names; where a list is gone, all are looked at as they are.
    let unlisted: BTreeSet<PackName> = manifest.packs.iter().map(|place| place.pack).chain(needed.keys().copied()).collect();
    for name in unlisted {
        if records.contains_key(&name) {
            continue;
        }
        match OpenPack::read(repository, name).await {
            Ok(pack) => drop(records.insert(name, PackRecord { pack: name, size: pack.size, digest: pack.digest })),
            Err(error) => named.blame(at_fault(repository, manifest, &[name], error)),
        }
    }
    named.packs = records.into_iter().map(|(name, record)| (record, needed.get(&name).copied().unwrap_or_default())).collect();
    named
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
    let named = packs.iter().filter_map(|pack| repository.key(&layout::pack(*pack)).ok()).find(|key| text.contains(key.as_str()));
    (named.unwrap_or_else(|| manifest_key(repository, manifest)), error)
}

/// Whether a pack is what the manifest says.
async fn look(repository: &Repository, needed: &Needed, depth: Depth) -> Result<()> {
    let record = &needed.record;
    let pack = OpenPack::read(repository, record.pack).await?;
    let has_all = pack.trailer.ids.len() as u64 >= u64::from(needed.items);
    if pack.digest != record.digest || pack.size != record.size || !has_all {
        return Err(repository.wrong(&layout::pack(record.pack), Fault::Digest));
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
    Ok(())
}
