//! [`MemoryBackupStore`]: a map. It forgets everything with its last clone; for tests and examples.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use time::OffsetDateTime;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::store::{BackupStore, ObjectKey, ObjectMeta, Upload};

/// Objects in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryBackupStore {
    objects: Arc<Mutex<BTreeMap<ObjectKey, Stored>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Bytes,
    modified: OffsetDateTime,
}

impl MemoryBackupStore {
    /// An empty store that dates its objects by the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store that dates its objects by `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Arc::default(), clock }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Stored>> {
        self.objects.lock().expect("no code panics while it holds the map")
    }

    fn stored(&self, key: &ObjectKey) -> Result<Stored> {
        self.objects().get(key).cloned().ok_or_else(|| Error::not_found(format!("{key} is not in {self}"), ""))
    }

    fn insert_new(&self, key: &ObjectKey, bytes: Bytes) -> Result<ObjectMeta> {
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Err(Error::conflict(format!("{key} exists already in {self}"), ""));
        }
        let stored = Stored { bytes, modified: self.clock.now() };
        let meta = meta(key, &stored);
        objects.insert(key.clone(), stored);
        Ok(meta)
    }
}

impl Default for MemoryBackupStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for MemoryBackupStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("memory")
    }
}

fn meta(key: &ObjectKey, stored: &Stored) -> ObjectMeta {
    ObjectMeta { key: key.clone(), size_bytes: stored.bytes.len() as u64, modified: stored.modified }
}

#[async_trait]
impl BackupStore for MemoryBackupStore {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let modified = self.clock.now();
        self.objects().insert(key.clone(), Stored { bytes, modified });
        Ok(())
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        self.insert_new(key, bytes).map(|_| ())
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        Ok(self.stored(key)?.bytes)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end {
            return Err(Error::invalid(format!("the range {}..{} of {key} ends before it starts", range.start, range.end), ""));
        }
        let bytes = self.stored(key)?.bytes;
        let clip = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.slice(clip(range.start)..clip(range.end)))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        Ok(meta(key, &self.stored(key)?))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        let objects = self.objects();
        let found: Vec<_> = objects
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .map(|(key, stored)| Ok(meta(key, stored)))
            .collect();
        stream::iter(found).boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        Ok(Box::new(MemoryUpload { store: self.clone(), key: key.clone(), bytes: BytesMut::new() }))
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryBackupStore,
    key: ObjectKey,
    bytes: BytesMut,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        self.store.insert_new(&self.key, self.bytes.freeze())
    }
}
