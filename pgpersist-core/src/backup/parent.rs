//! [`Parent`]: the backup that a new one compares with. What stands there already is not stored again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{ErrorKind, Result};
use crate::pg::lsn::Lsn;
use crate::repo::contents::Contents;
use crate::repo::entry::{EntryKind, EntryPath, FileEntry};
use crate::repo::identity::ItemId;
use crate::repo::leaf::Leaf;
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, Place};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::OpenPack;
use crate::repo::repository::Repository;
use crate::repo::tombstone::Buried;

/// A backup of the same cluster, and what it holds.
#[derive(Debug)]
pub struct Parent {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its packs.
    pub packs: HashMap<PackName, PackRecord>,
    files: HashMap<EntryPath, FileEntry>,
}

impl Parent {
    /// The newest backup on this timeline that can be read and stays. One that is damaged, or is to be removed, is no parent: the new
    /// backup is then one of its own, and whole.
    ///
    /// # Errors
    /// What the store says.
    pub async fn find(repository: &Repository, timeline: u32, buried: &Buried) -> Result<Option<Arc<Self>>> {
        let mut candidates: Vec<(Lsn, Manifest)> = Vec::new();
        for backup in repository.backups().await? {
            if buried.backups.contains(&backup) || !repository.can_build_on(backup).await? {
                continue;
            }
            match repository.manifest(backup).await {
                Ok(manifest) if manifest.wal.timeline == timeline => {
                    candidates.push((manifest.wal.stop_lsn.parse().unwrap_or_default(), manifest));
                }
                Ok(_) => {}
                Err(error) if is_gone(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        candidates.sort_by_key(|(stop, manifest)| (*stop, manifest.backup));
        while let Some((_, manifest)) = candidates.pop() {
            match Self::open(repository, &manifest).await {
                Ok(parent) => return Ok(Some(Arc::new(parent))),
                Err(error) if is_gone(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn open(repository: &Repository, manifest: &Manifest) -> Result<Self> {
        let mut contents = Contents::new(repository);
        let packs = contents.packs(manifest).await?.into_iter().map(|record| (record.pack, record)).collect();
        let entries = contents.all_entries(manifest).await?;
        let files = entries.into_iter().filter_map(|entry| match entry.kind {
            EntryKind::File(file) => Some((entry.path, file)),
            EntryKind::Directory { .. } | EntryKind::Link { .. } => None,
        });
        Ok(Self { manifest: manifest.clone(), packs, files: files.collect() })
    }

    /// What it says of a file.
    pub fn file(&self, path: &EntryPath) -> Option<&FileEntry> {
        self.files.get(path)
    }
}

/// Whether what was asked for is not there, or not what was written.
pub(super) fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Damaged | ErrorKind::NotFound)
}

/// The chunks that one leaf of the parent tells of, each to be asked for its identity.
#[derive(Debug)]
pub struct KnownChunks {
    /// The leaf, and where it lies.
    pub leaf: Leaf,
    /// Where it lies.
    pub place: Place,
    places: Vec<Option<Place>>,
    /// The pack that was asked last: neighbours lie together.
    pack: Option<Arc<OpenPack>>,
}

impl KnownChunks {
    /// Reads a leaf of the parent; nothing where it cannot be read, which makes its chunks new ones.
    ///
    /// # Errors
    /// What the store says, but for what is damaged or missing there.
    pub async fn read(contents: &mut Contents<'_>, place: Place) -> Result<Option<Self>> {
        let leaf = match contents.leaf(place).await {
            Ok(leaf) => leaf,
            Err(error) if is_gone(error.kind()) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut places = Vec::with_capacity(leaf.chunks() as usize);
        for stretch in leaf.stretches() {
            let of_chunk = |nth| stretch.place.map(|first| Place { item: first.item + nth, ..first });
            places.extend((0..stretch.chunks).map(of_chunk));
        }
        Ok(Some(Self { leaf, place, places, pack: None }))
    }

    /// Where this chunk of the leaf lies, whatever it is: nowhere if it is all zero. Nothing where the leaf has no such chunk.
    pub fn place_of(&self, chunk: usize) -> Option<Option<Place>> {
        self.places.get(chunk).copied()
    }

    /// Where this chunk of the leaf lies if it has this identity; else nothing.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn same(&mut self, contents: &mut Contents<'_>, chunk: usize, id: ItemId) -> Result<Option<Place>> {
        let Some(Some(place)) = self.places.get(chunk).copied() else { return Ok(None) };
        if self.pack.as_ref().is_none_or(|pack| pack.name != place.pack) {
            self.pack = match contents.pack(place.pack).await {
                Ok(pack) => Some(pack),
                Err(error) if is_gone(error.kind()) => None,
                Err(error) => return Err(error),
            };
        }
        let known = self.pack.as_ref().filter(|pack| pack.name == place.pack).and_then(|pack| pack.trailer.ids.get(place.item as usize));
        Ok((known == Some(&id)).then_some(place))
    }
}
