//! How long requests take, and how fast bytes move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use rand::Rng;

use crate::error::{Error, Result};
use crate::store::check::report::{Latency, Throughput};
use crate::store::{BackupStore, ObjectKey};

/// How many requests of each kind are timed.
const REQUESTS: usize = 9;
/// How much is written, and read, at a time.
const PIECE: usize = 4 << 20;
/// How much is read at a time: enough that a store reads several ranges at once.
const READ: u64 = 64 << 20;

/// Times small requests, one after the other.
pub(super) async fn latency(store: &dyn BackupStore) -> Result<Latency> {
    let bytes = Bytes::from(vec![7; 1024]);
    let (mut puts, mut gets, mut heads, mut lists) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for request in 0..REQUESTS {
        // A new one each time: not everybody may replace.
        let key: ObjectKey = format!("latency/{request}").parse()?;
        puts.push(timed(store.put(&key, bytes.clone())).await?);
        gets.push(timed(store.get(&key)).await?);
        heads.push(timed(store.head(&key)).await?);
        lists.push(timed(store.list(key.as_str()).try_collect::<Vec<_>>()).await?);
    }
    Ok(Latency { put: median(puts), get: median(gets), head: median(heads), list: median(lists) })
}

/// Writes and reads one object of so many bytes that cannot be compressed.
pub(super) async fn throughput(store: &Arc<dyn BackupStore>, bytes: u64) -> Result<Throughput> {
    let key: ObjectKey = "throughput/object".parse()?;
    let mut piece = vec![0; PIECE];
    rand::rng().fill_bytes(&mut piece);
    let piece = Bytes::from(piece);
    let start = Instant::now();
    let mut upload = store.upload(&key).await?;
    let mut left = bytes;
    while left > 0 {
        let length = left.min(PIECE as u64);
        upload.write(piece.slice(..usize::try_from(length).unwrap_or(PIECE))).await?;
        left -= length;
    }
    upload.finish().await?;
    let put = start.elapsed();
    let start = Instant::now();
    let mut from = 0;
    while from < bytes {
        let read = store.get_range(&key, from..(from + READ).min(bytes)).await?;
        let is_right = read.chunks(PIECE).all(|chunk| chunk == &piece[..chunk.len()]);
        if read.is_empty() || !is_right {
            return Err(Error::damaged(format!("what was read of {key} from byte {from} on is not what was written"), ""));
        }
        from += read.len() as u64;
    }
    let get = start.elapsed();
    let rate = |took: Duration| bytes as f64 / took.as_secs_f64().max(1e-9);
    Ok(Throughput { bytes, put_bytes_per_second: rate(put), get_bytes_per_second: rate(get) })
}

async fn timed<T>(request: impl Future<Output = Result<T>>) -> Result<f64> {
    let start = Instant::now();
    request.await?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
