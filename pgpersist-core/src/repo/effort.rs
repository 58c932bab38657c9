//! [`Effort`]: what the threads and tasks of a run spent their time on. Beside the time on the clock it tells where the bottleneck is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// What a thread can be busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Waiting for the disk that is read.
    Read,
    /// Holding pages against their checksums, reading again those that were just being written included.
    Verify,
    /// Identities of pages and digests of frames.
    Hash,
    /// Compressing frames.
    Compress,
    /// Waiting because the store takes less than is read.
    Wait,
    /// Handing bytes to the store.
    Put,
    /// Having the store make a pack durable, once it has all of it.
    Sync,
}

/// Counters that many threads add to.
#[derive(Debug, Default)]
pub struct Effort([AtomicU64; 7]);

impl Effort {
    /// Adds time that was spent.
    pub fn add(&self, work: Work, spent: Duration) {
        self.0[work as usize].fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What they say now.
    pub fn seconds(&self) -> EffortSeconds {
        let of = |work: Work| Duration::from_nanos(self.0[work as usize].load(Ordering::Relaxed)).as_secs_f64();
        EffortSeconds {
            read_s: of(Work::Read),
            verify_s: of(Work::Verify),
            hash_s: of(Work::Hash),
            compress_s: of(Work::Compress),
            wait_s: of(Work::Wait),
            put_s: of(Work::Put),
            fsync_s: of(Work::Sync),
        }
    }
}

/// Seconds, summed over all threads: more than the clock's where several work at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct EffortSeconds {
    /// Waiting for the disk that is read.
    pub read_s: f64,
    /// Holding pages against their checksums.
    pub verify_s: f64,
    /// Identities of pages and digests of frames.
    pub hash_s: f64,
    /// Compressing frames.
    pub compress_s: f64,
    /// Waiting because the store takes less than is read.
    pub wait_s: f64,
    /// Handing bytes to the store.
    pub put_s: f64,
    /// Having the store make packs durable.
    pub fsync_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_work_has_a_counter_of_its_own() {
        let effort = Effort::default();
        let all = [Work::Read, Work::Verify, Work::Hash, Work::Compress, Work::Wait, Work::Put, Work::Sync];
        for (nth, work) in all.into_iter().enumerate() {
            effort.add(work, Duration::from_secs(1 << nth));
        }
        let told = effort.seconds();
        let told = [told.read_s, told.verify_s, told.hash_s, told.compress_s, told.wait_s, told.put_s, told.fsync_s];
        assert_eq!(told, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
    }
}
