//! [`Tuning`]: how large, how many, how long.

use std::time::Duration;

use rand::RngExt;

use crate::store::cloud_url::CloudUrl;

/// How long one request is repeated, unless the address says otherwise.
const REPEATED_FOR: Duration = Duration::from_secs(60);
/// How long one attempt may take that moves hardly any bytes.
const SMALL_ATTEMPT: Duration = Duration::from_secs(30);
/// The same for one part of an object: at this pace a line of a megabit a second carries eight of them at once.
const PART_ATTEMPT: Duration = Duration::from_secs(600);
/// An attempt that has less is hardly worth it.
const LEAST_ATTEMPT: Duration = Duration::from_secs(2);
/// The first parts of an upload, and each range of a download, in bytes. Small enough that many at once fit into memory, large
/// enough that the way to the server and back does not count.
pub(super) const PART_BYTES: usize = 8 << 20;
/// After so many parts they are twice as large, and so on: 10,000 parts, which is all that S3 takes, are 2.4 TiB.
const PARTS_OF_ONE_SIZE: usize = 1_250;
/// All that S3 takes.
pub(super) const MOST_PARTS: usize = 10_000;
/// What keeps a fast line busy; with parts of the first size, 64 MiB in flight.
const CONCURRENCY: usize = 8;

/// How large, how many, how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuning {
    /// How many parts are in flight at once.
    pub(super) concurrency: usize,
    /// After so long a request is not repeated any more.
    pub(super) repeated_for: Duration,
    pub(super) small_attempt: Duration,
    pub(super) part_attempt: Duration,
    /// After so long a request has ended, whatever became of it, when the address says so.
    pub(super) deadline: Option<Duration>,
}

impl Tuning {
    /// As the address says.
    pub(super) fn of(url: &CloudUrl) -> Self {
        let deadline = url.deadline();
        // An attempt that is not answered leaves time for others.
        let part_of = |divisor: u32, usual: Duration| deadline.map_or(usual, |all| (all / divisor).max(LEAST_ATTEMPT).min(all));
        Self {
            concurrency: url.concurrency().unwrap_or(CONCURRENCY),
            repeated_for: deadline.unwrap_or(REPEATED_FOR),
            small_attempt: part_of(4, SMALL_ATTEMPT).min(SMALL_ATTEMPT),
            part_attempt: part_of(2, PART_ATTEMPT),
            deadline,
        }
    }

    /// How large the part of this number is, from 0.
    pub(super) fn part_bytes(number: usize) -> usize {
        PART_BYTES << (number / PARTS_OF_ONE_SIZE).min(7)
    }
}

/// How long to wait before the repetition of this number, from 0: longer each time, and never the same for all who failed at once.
pub(super) fn wait(number: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(10);
    FIRST.saturating_mul(1 << number.min(10)).min(LONGEST).mul_f64(rand::rng().random_range(0.1..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_parts_hold_any_dump() {
        let all: usize = (0..MOST_PARTS).map(Tuning::part_bytes).sum();
        assert!(all > 2 << 40, "{all}");
        assert!(Tuning::part_bytes(MOST_PARTS - 1) < 5 << 30);
        assert_eq!(Tuning::part_bytes(0), PART_BYTES);
    }
}
