//! An object as a stream of its ranges, several of which are being read at the same time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::store::{BackupStore, ObjectKey};

/// The size of a range: small enough that several fit into memory, large enough that the way to the store and back hardly counts.
pub const RANGE_BYTES: u64 = 6 << 20;

/// The ranges of an object whose size [`BackupStore::head`] told, in order, [`reads_at_once`](BackupStore::reads_at_once) of them ahead.
/// Each is read by a task of its own, so what is on its way arrives however slowly the stream is taken; a stream that is dropped ends
/// them. Must be called within a runtime.
pub fn read_ahead(store: Arc<dyn BackupStore>, key: ObjectKey, size_bytes: u64) -> BoxStream<'static, Result<Bytes>> {
    let ahead = store.reads_at_once().max(1);
    let starts = (0..size_bytes).step_by(RANGE_BYTES as usize);
    let ranges = stream::iter(starts).map(move |from| {
        let (store, key) = (Arc::clone(&store), key.clone());
        let range = from..(from + RANGE_BYTES).min(size_bytes);
        Reading(tokio::spawn(async move { store.get_range(&key, range).await }))
    });
    ranges.buffered(ahead).boxed()
}

/// A range that is being read, and not any more once nobody wants it.
struct Reading(JoinHandle<Result<Bytes>>);

impl Future for Reading {
    type Output = Result<Bytes>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|read| match read {
            Ok(read) => read,
            Err(error) => Err(Error::Bug(format!("a range of an object was lost: {error}"))),
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::TryStreamExt;

    use super::*;
    use crate::store::faulty::{Calls, Effect, Fault, FaultPlan, FaultyStore, Operation};
    use crate::store::memory::MemoryBackupStore;

    async fn object(ranges: u64) -> (Arc<dyn BackupStore>, ObjectKey, Bytes) {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let key: ObjectKey = "a".parse().unwrap();
        let bytes: Bytes = (0..ranges * RANGE_BYTES - 3).map(|i| (i % 251) as u8).collect();
        store.put(&key, bytes.clone()).await.unwrap();
        (store, key, bytes)
    }

    #[tokio::test]
    async fn the_ranges_come_in_order_however_long_each_takes() {
        let (store, key, bytes) = object(3).await;
        let slow = |nth, millis| Fault {
            operation: Operation::GetRange,
            calls: Calls::Nth(nth),
            effect: Effect::Delay(Duration::from_millis(millis)),
        };
        let plan = FaultPlan { seed: 0, faults: vec![slow(1, 60), slow(2, 20)] };
        let store: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(store, plan));
        let read: Vec<Bytes> = read_ahead(store, key, bytes.len() as u64).try_collect().await.unwrap();
        assert!(read.concat() == bytes);
        assert_eq!(read.len(), 3);
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_taken_and_what_is_ahead() {
        let (store, key, bytes) = object(5).await;
        let ahead = store.reads_at_once() as u64;
        let counted = FaultyStore::new(store, FaultPlan::default());
        let mut ranges = read_ahead(Arc::new(counted.clone()), key, bytes.len() as u64);
        ranges.try_next().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = counted.calls(Operation::GetRange);
        assert!(begun <= ahead + 1, "{begun}");
        let rest: Vec<Bytes> = ranges.try_collect().await.unwrap();
        assert_eq!(rest.len(), 4);
    }

    #[tokio::test]
    async fn a_range_that_cannot_be_read_is_told_in_its_place() {
        let (store, key, bytes) = object(3).await;
        let plan = FaultPlan::one(Operation::GetRange, Calls::Nth(2), Effect::Fail(crate::error::ErrorKind::Unavailable));
        let mut ranges = read_ahead(Arc::new(FaultyStore::new(store, plan)), key, bytes.len() as u64);
        assert_eq!(ranges.try_next().await.unwrap().unwrap().len() as u64, RANGE_BYTES);
        assert_eq!(ranges.try_next().await.unwrap_err().kind(), crate::error::ErrorKind::Unavailable);
    }
}
