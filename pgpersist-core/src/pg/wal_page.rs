//! The first page of a WAL segment, which says whose segment it is.
//!
//! Source: `XLogLongPageHeaderData` in `src/include/access/xlog_internal.h`, the same in PostgreSQL 14 to 18. Page headers
//! carry no CRC; records do.

use crate::pg::lsn::Lsn;

/// Bytes of the long header that begins each segment.
pub const LONG_HEADER_SIZE: usize = 40;

/// The flag in `xlp_info` that marks a long header.
const XLP_LONG_HEADER: u16 = 0x0002;

/// What the first page of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalSegmentHeader {
    /// Changes with each major version.
    pub magic: u16,
    /// The timeline that this page was written on.
    pub timeline: u32,
    /// Where this page begins. In a recycled segment that is not yet overwritten this is an old position.
    pub address: Lsn,
    /// The cluster that wrote it.
    pub system_identifier: u64,
    /// Bytes of each segment of that cluster.
    pub segment_size: u32,
}

impl WalSegmentHeader {
    /// Reads the beginning of a segment; `None` when that is no long page header, as in a segment still all zero.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<LONG_HEADER_SIZE>()?;
        let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let word = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        (short(0) != 0 && short(2) & XLP_LONG_HEADER != 0).then(|| Self {
            magic: short(0),
            timeline: word(4),
            address: Lsn(long(8)),
            system_identifier: long(24),
            segment_size: word(32),
        })
    }
}

/// The long page header that begins a segment, with another system identifier; `None` when `bytes` begin with no such header.
/// The rest of the segment stays as it is. See [`crate::pg::control_file::with_system_identifier`] for what it is good for.
pub fn with_system_identifier(bytes: &[u8], id: u64) -> Option<[u8; LONG_HEADER_SIZE]> {
    WalSegmentHeader::parse(bytes)?;
    let mut header = *bytes.first_chunk::<LONG_HEADER_SIZE>()?;
    header[24..32].copy_from_slice(&id.to_le_bytes());
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_new_identifier_changes_nothing_else(mut bytes in proptest::collection::vec(any::<u8>(), LONG_HEADER_SIZE..100), id: u64) {
            (bytes[0], bytes[2]) = (0x10, bytes[2] | 2);
            let before = WalSegmentHeader::parse(&bytes).unwrap();
            let after = WalSegmentHeader::parse(&with_system_identifier(&bytes, id).unwrap()).unwrap();
            prop_assert_eq!(after, WalSegmentHeader { system_identifier: id, ..before });
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = with_system_identifier(&bytes, 1);
        }
    }

    #[test]
    fn a_segment_that_is_all_zero_has_no_header() {
        assert_eq!(WalSegmentHeader::parse(&[0; 8192]), None);
    }
}
