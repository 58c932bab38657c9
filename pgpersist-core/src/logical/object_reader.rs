//! A stored object as a stream for blocking code, read ahead.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::runtime::Handle;

use crate::error::Result;
use crate::store::read_ahead::read_ahead;
use crate::store::{BackupStore, ObjectKey};

/// Reads an object from its beginning to its end. In memory are what is read ahead, and the range that is being taken.
pub struct ObjectReader {
    runtime: Handle,
    ranges: BoxStream<'static, Result<Bytes>>,
    current: Bytes,
}

impl ObjectReader {
    /// Reads an object whose size [`BackupStore::head`] told. Must be called within a runtime; the reads must not.
    pub fn open(store: Arc<dyn BackupStore>, key: ObjectKey, size_bytes: u64) -> Self {
        Self { runtime: Handle::current(), ranges: read_ahead(store, key, size_bytes), current: Bytes::new() }
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ObjectReader").field("current", &self.current.len()).finish_non_exhaustive()
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.runtime.block_on(self.ranges.next()) {
                None => return Ok(0),
                Some(Ok(range)) => self.current = range,
                Some(Err(error)) => {
                    // What comes after a hole is not to be taken for what was in it.
                    self.ranges = stream::empty().boxed();
                    return Err(io::Error::other(error));
                }
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
    use crate::store::read_ahead::RANGE_BYTES;
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
