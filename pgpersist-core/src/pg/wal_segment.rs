//! Names of WAL segments: `000000010000001600000B37`.
//!
//! Source: `XLogFileName` and `XLogSegmentsPerXLogId` in `src/include/access/xlog_internal.h`, the same in PostgreSQL 14 to 18.

use std::fmt;

use crate::pg::lsn::Lsn;

/// A WAL segment: which timeline, and which one counted from the beginning of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSegment {
    /// The timeline that it was written on.
    pub timeline: u32,
    /// Its number: the position at its beginning, divided by the size of a segment.
    pub number: u64,
    /// Bytes of each segment of the cluster: a power of two from 1 MiB to 1 GiB.
    size: u32,
}

impl WalSegment {
    /// The segment that holds a position; `None` for a size that no cluster has.
    pub fn holding(timeline: u32, lsn: Lsn, size: u32) -> Option<Self> {
        let fits = size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size);
        fits.then(|| Self { timeline, number: lsn.0 / u64::from(size), size })
    }

    /// The segment whose last byte stands before a position, as where a backup ends; `None` as in [`holding`](Self::holding), and
    /// before the first byte of the log.
    pub fn ending_at(timeline: u32, end: Lsn, size: u32) -> Option<Self> {
        Self::holding(timeline, Lsn(end.0.checked_sub(1)?), size)
    }

    /// Reads the name of a segment of a cluster with segments of this size.
    pub fn parse(name: &str, size: u32) -> Option<Self> {
        let digits = name.len() == 24 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        if !digits {
            return None;
        }
        let part = |at: usize| u32::from_str_radix(name.get(at..at + 8)?, 16).ok();
        let (timeline, high, low) = (part(0)?, part(8)?, part(16)?);
        let lsn = Lsn(u64::from(high) << 32 | u64::from(low).checked_mul(size.into())?);
        let segment = Self::holding(timeline, lsn, size)?;
        (segment.to_string() == name).then_some(segment)
    }

    /// The next one on the same timeline.
    pub fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }

    /// Where it begins.
    pub fn start(self) -> Lsn {
        Lsn(self.number * u64::from(self.size))
    }
}

/// The file name.
impl fmt::Display for WalSegment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_id = (1_u64 << 32) / u64::from(self.size);
        write!(formatter, "{:08X}{:08X}{:08X}", self.timeline, self.number / per_id, self.number % per_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_the_servers() {
        let lsn = "16/B374D848".parse().unwrap();
        let segment = WalSegment::holding(1, lsn, 16 << 20).unwrap();
        assert_eq!(segment.to_string(), "0000000100000016000000B3");
        assert_eq!(segment.start(), "16/B3000000".parse().unwrap());
        assert_eq!(segment.next().to_string(), "0000000100000016000000B4");
        // The number rolls over after as many segments as fit into 4 GiB.
        let last = WalSegment::holding(2, "16/FFFFFFFF".parse().unwrap(), 16 << 20).unwrap();
        assert_eq!((last.to_string(), last.next().to_string()), ("0000000200000016000000FF".into(), "000000020000001700000000".into()));
        assert_eq!(WalSegment::holding(1, lsn, 64 << 20).unwrap().to_string(), "00000001000000160000002C");
    }

    #[test]
    fn a_backup_that_ends_with_a_segment_needs_no_other() {
        let end = "0/3000000".parse().unwrap();
        assert_eq!(WalSegment::ending_at(1, end, 16 << 20).unwrap().to_string(), "000000010000000000000002");
        assert_eq!(WalSegment::ending_at(1, Lsn::INVALID, 16 << 20), None);
    }

    #[test]
    fn other_names_are_none() {
        for wrong in ["", "00000001000000160000000b", "0000000100000016000001B3", "000000010000001600000", "00000001.history", "é"] {
            assert_eq!(WalSegment::parse(wrong, 16 << 20), None, "{wrong}");
        }
        assert_eq!(WalSegment::holding(1, Lsn(0), 3 << 20), None);
        assert_eq!(WalSegment::holding(1, Lsn(0), 4096), None);
    }

    proptest! {
        #[test]
        fn names_survive_a_round_trip(timeline: u32, position: u64, shift in 20..=30_u32) {
            let segment = WalSegment::holding(timeline, Lsn(position), 1 << shift).unwrap();
            prop_assert_eq!(WalSegment::parse(&segment.to_string(), 1 << shift), Some(segment));
            prop_assert!(segment.start() <= Lsn(position));
            prop_assert!(segment.start().distance(Lsn(position)) < 1 << shift);
        }

        #[test]
        fn no_name_makes_it_panic(name: String, hex in "[0-9A-F]{24}", size: u32) {
            let _ = (WalSegment::parse(&name, size), WalSegment::parse(&hex, size));
        }
    }
}
