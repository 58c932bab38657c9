//! A stored object as a stream for blocking code: an async task reads ahead, range by range.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::error::Result;
use crate::store::{BackupStore, ObjectKey};

/// The size of a range. Up to three are in memory: one being read, one waiting, one being fetched.
const RANGE_BYTES: u64 = 4 * 1024 * 1024;

/// Reads an object from its beginning to its end.
#[derive(Debug)]
pub struct ObjectReader {
    ranges: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
}

impl ObjectReader {
    /// Begins to read an object whose size [`BackupStore::head`] told. Must be called within a runtime; the reads must not.
    pub fn open(store: Arc<dyn BackupStore>, key: ObjectKey, size_bytes: u64) -> Self {
        let (send, ranges) = mpsc::channel(1);
        // It ends with the object, with an error, or when nobody reads any more.
        tokio::spawn(async move {
            let mut from = 0;
            while from < size_bytes {
                let range = store.get_range(&key, from..(from + RANGE_BYTES).min(size_bytes)).await;
                let length = range.as_ref().map_or(0, |bytes| bytes.len() as u64);
                if send.send(range).await.is_err() || length == 0 {
                    return;
                }
                from += length;
            }
        });
        Self { ranges, current: Bytes::new() }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.ranges.blocking_recv() {
                None => return Ok(0),
                Some(range) => self.current = range.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryBackupStore;
    use crate::workers;

    #[tokio::test]
    async fn an_object_is_read_whole_and_its_absence_is_told() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let key: ObjectKey = "a".parse().unwrap();
        let bytes: Bytes = (0..3 * RANGE_BYTES / 2).map(|i| (i % 251) as u8).collect();
        store.put(&key, bytes.clone()).await.unwrap();
        let mut reader = ObjectReader::open(Arc::clone(&store), key, bytes.len() as u64);
        let read = workers::run(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            Ok(all)
        });
        assert!(read.await.unwrap() == bytes);
        let mut gone = ObjectReader::open(store, "b".parse().unwrap(), 10);
        let error = workers::run(move || Ok(gone.read(&mut [0; 10]).unwrap_err())).await.unwrap();
        assert!(error.to_string().contains('b'), "{error}");
    }
}
