//! [`Contents`]: what a backup names, item by item: lists, leaves, chunks. Packs that were opened and frames that were read last are kept for
//! the next question, since what stands together is asked for together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::error::{Error, Result};
use crate::repo::entry::{self, Entry};
use crate::repo::fault::Fault;
use crate::repo::gathered::{FrameKey, Gathered, Opened, Run};
use crate::repo::layout;
use crate::repo::leaf::Leaf;
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, Place};
use crate::repo::pack_builder::PackRecord;
use crate::repo::pack_reader::{Frame, OpenPack};
use crate::repo::repository::Repository;

/// How many frames are kept: 4 MiB.
const FRAMES: usize = 32;
/// How many packs are kept open: their trailers have about 20 bytes for each page.
const PACKS: usize = 64;

/// How many reads are on their way when much is asked for at once.
const READS: usize = 4;

/// Reads items of packs.
#[derive(Debug)]
pub struct Contents<'a> {
    repository: &'a Repository,
    packs: Kept<PackName, Arc<OpenPack>>,
    frames: Kept<FrameKey, Arc<Frame>>,
}

impl<'a> Contents<'a> {
    /// Of this repository.
    pub fn new(repository: &'a Repository) -> Self {
        Self { repository, packs: Kept::new(PACKS), frames: Kept::new(FRAMES) }
    }

    /// An item's bytes, held against the hash of the frame that it lies in.
    ///
    /// # Errors
    /// `NotFound` when the pack is gone; `Damaged`, also when the pack has no such item; what the store says.
    pub async fn item(&mut self, place: Place) -> Result<Bytes> {
        let pack = self.pack(place.pack).await?;
        let nowhere = || self.repository.wrong(&layout::pack(place.pack), Fault::Reference { what: "an item" });
        let of_frame = pack.frame_of(place.item).ok_or_else(nowhere)?;
        let key = (place.pack, of_frame.frame);
        let frame = match self.frames.get(&key) {
            Some(frame) => frame,
            None => {
                let frame = Arc::new(pack.read_frame(self.repository, of_frame).await?);
                self.frames.keep(key, Arc::clone(&frame));
                frame
            }
        };
        frame.item(place.item).ok_or_else(nowhere)
    }

    /// Reads what runs of chunks need, in as few reads as it lies there in. What cannot be had is told when they are
    /// [made](Gathered::make).
    pub async fn gather(&mut self, runs: &[Run]) -> Gathered {
        let mut gathered = Gathered::new(self.repository.clone());
        for (nth, run) in runs.iter().enumerate() {
            match self.openable(run.first.pack).await {
                Ok(pack) => gathered.plan(nth, run, &pack, |key| self.frames.get(key)),
                Err(error) => gathered.lack(nth, run, 0, error),
            }
        }
        let (repository, reads) = (self.repository, gathered.reads());
        for some in reads.chunks(READS) {
            let answers = some.iter().map(|read| async move {
                let key = repository.key(&layout::pack(read.pack))?;
                repository.store().get_range(&key, read.range.clone()).await
            });
            for (read, answer) in some.iter().zip(join_all(answers).await) {
                gathered.take(read, answer);
            }
        }
        gathered
    }

    /// Keeps frames of which others may need the rest.
    pub fn keep(&mut self, opened: Vec<Opened>) {
        opened.into_iter().for_each(|(key, frame)| self.frames.keep(key, frame));
    }

    async fn openable(&mut self, name: PackName) -> Result<Arc<OpenPack>> {
        let pack = self.pack(name).await?;
        if pack.opens() { Ok(pack) } else { Err(self.repository.no_key(name.run).await) }
    }

    /// A pack's trailer.
    ///
    /// # Errors
    /// As [`item`](Self::item).
    pub async fn pack(&mut self, name: PackName) -> Result<Arc<OpenPack>> {
        if let Some(pack) = self.packs.get(&name) {
            return Ok(pack);
        }
        let pack = Arc::new(OpenPack::read(self.repository, name).await?);
        self.packs.keep(name, Arc::clone(&pack));
        Ok(pack)
    }

    /// A leaf.
    ///
    /// # Errors
    /// As [`item`](Self::item).
    pub async fn leaf(&mut self, place: Place) -> Result<Leaf> {
        let bytes = self.item(place).await?;
        Leaf::parse(&bytes).map_err(|fault| self.repository.wrong(&layout::pack(place.pack), fault))
    }

    /// One of the lists of entries that a manifest names.
    ///
    /// # Errors
    /// As [`item`](Self::item).
    pub async fn entries(&mut self, place: Place) -> Result<Vec<Entry>> {
        let bytes = self.item(place).await?;
        entry::parse(&bytes).map_err(|fault| self.repository.wrong(&layout::pack(place.pack), fault))
    }

    /// All packs that a manifest names.
    ///
    /// # Errors
    /// As [`item`](Self::item).
    pub async fn packs(&mut self, manifest: &Manifest) -> Result<Vec<PackRecord>> {
        let mut records = Vec::new();
        for place in &manifest.packs {
            records.extend(self.pack_list(*place).await?);
        }
        Ok(records)
    }

    /// One of the lists of packs that a manifest names.
    ///
    /// # Errors
    /// As [`item`](Self::item).
    pub async fn pack_list(&mut self, place: Place) -> Result<Vec<PackRecord>> {
        let bytes = self.item(place).await?;
        let wrong = |_| self.repository.wrong(&layout::pack(place.pack), Fault::NotCanonical);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(wrong)).collect()
    }

    /// All entries that a manifest names, in the order of their paths.
    ///
    /// # Errors
    /// As [`item`](Self::item); `Damaged` when the lists do not continue each other.
    pub async fn all_entries(&mut self, manifest: &Manifest) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        for place in &manifest.entries {
            let list = self.entries(*place).await?;
            let continues = entries.last().is_none_or(|last| list.first().is_some_and(|first| last.path < first.path));
            if !continues {
                let what = format!("the lists of entries of {} do not continue each other", manifest.backup);
                return Err(Error::damaged(what, "choose another backup: see `pgpersist list`"));
            }
            entries.extend(list);
        }
        Ok(entries)
    }
}

/// The values that were kept last.
#[derive(Debug)]
struct Kept<K, V> {
    most: usize,
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + std::hash::Hash, V: Clone> Kept<K, V> {
    fn new(most: usize) -> Self {
        Self { most, values: HashMap::new(), order: VecDeque::new() }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.values.get(key).cloned()
    }

    fn keep(&mut self, key: K, value: V) {
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.values.insert(key, value);
    }
}
