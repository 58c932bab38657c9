//! What a backup names: all packs that it needs, and what is wrong with what names them.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::repo::contents::Contents;
use crate::repo::entry::EntryKind;
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::manifest::Manifest;
use crate::repo::names::PackName;
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::OpenPack;
use crate::repo::repository::Repository;
use crate::store::ObjectKey;

/// What a backup names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// All packs, each with how many items it must have: every leaf leads into one of them.
    pub(super) packs: Vec<(PackRecord, u32)>,
    /// What is wrong with what names them. One that is wrong hides no other.
    pub(super) wrong: BTreeMap<ObjectKey, Error>,
}

impl Named {
    fn blame(&mut self, (key, error): (ObjectKey, Error)) {
        self.wrong.entry(key).or_insert(error);
    }
}

/// All packs that a backup names. Nothing that is wrong ends the look.
pub(super) async fn named(repository: &Repository, manifest: &Manifest) -> Named {
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
            Ok(pack) => {
                let bytes = pack.trailer.bytes();
                records.insert(name, PackRecord { pack: name, size: pack.size, digest: pack.digest, bytes, used: bytes });
            }
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
    let objects = packs.iter().flat_map(|pack| [layout::pack(*pack), layout::run_key(pack.run)]);
    let named = objects.filter_map(|below| repository.key(&below).ok()).find(|key| text.contains(key.as_str()));
    (named.unwrap_or_else(|| manifest_key(repository, manifest)), error)
}
