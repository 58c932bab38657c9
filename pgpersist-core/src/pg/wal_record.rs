//! Records of the write-ahead log, as far as it takes to find where a log ends and whether it holds work.
//!
//! Source: `XLogRecord` in `src/include/access/xlogrecord.h`, `rmgrlist.h`, `pg_control.h` and `xact.h` for kinds of records, and
//! `XLogPageHeaderData` in `xlog_internal.h`; the same in PostgreSQL 14 to 18.

use crate::pg::lsn::Lsn;

/// Bytes of a record's header.
pub const RECORD_HEADER_SIZE: usize = 24;
/// Bytes of the header of a page that begins no segment.
pub const SHORT_HEADER_SIZE: usize = 24;
/// Records begin at multiples of this.
pub const ALIGNMENT: u64 = 8;

/// Where the checksum lies in the header; it is of all but itself.
const CRC_AT: usize = 20;
/// Longer than any record is.
const MOST_BYTES: u32 = 1 << 30;

/// What the header of a page says, whatever it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPageHeader {
    /// Where the page begins.
    pub address: Lsn,
    /// Whether it goes on with a record that began on another page.
    pub continues: bool,
    /// How many bytes of that record are still to come.
    pub left: u32,
}

impl WalPageHeader {
    /// Reads it; `None` for a page that was never written.
    pub fn parse(page: &[u8]) -> Option<Self> {
        let magic = u16::from_le_bytes(*page.first_chunk()?);
        let info = u16::from_le_bytes(*page.get(2..)?.first_chunk()?);
        let address = Lsn(u64::from_le_bytes(*page.get(8..)?.first_chunk()?));
        let left = u32::from_le_bytes(*page.get(16..)?.first_chunk()?);
        (magic != 0).then_some(Self { address, continues: info & 1 != 0, left })
    }
}

/// What a record does, as far as anybody here asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalWork {
    /// A transaction becomes visible, or is prepared.
    Commit,
    /// The server's own housekeeping, of which nothing is seen by SQL.
    Housekeeping,
    /// The rest of the segment is left empty.
    Switch,
    /// Anything else.
    Other,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRecordHeader {
    /// Bytes of the record, this header among them.
    pub length: u32,
    /// Where the record before it begins.
    pub previous: Lsn,
    /// What it does.
    pub work: WalWork,
}

impl WalRecordHeader {
    /// The length that a record's first bytes tell; `None` for what can be none.
    pub fn length(bytes: &[u8]) -> Option<u32> {
        let length = u32::from_le_bytes(*bytes.first_chunk()?);
        (RECORD_HEADER_SIZE as u32..MOST_BYTES).contains(&length).then_some(length)
    }

    /// Reads a whole record and holds it against its checksum; `None` for what is none.
    pub fn parse(record: &[u8]) -> Option<Self> {
        let header = record.first_chunk::<RECORD_HEADER_SIZE>()?;
        let length = Self::length(header)?;
        let stored = u32::from_le_bytes(*header[CRC_AT..].first_chunk()?);
        let computed = crc32c::crc32c_append(crc32c::crc32c(record.get(RECORD_HEADER_SIZE..length as usize)?), &header[..CRC_AT]);
        let previous = Lsn(u64::from_le_bytes(*header[8..].first_chunk()?));
        (stored == computed).then(|| Self { length, previous, work: work(header[17], header[16] & 0xF0) })
    }
}

/// By the resource manager, and by what its bits of `xl_info` say.
fn work(manager: u8, info: u8) -> WalWork {
    match (manager, info) {
        (0, 0x40) => WalWork::Switch,
        // Checkpoints, no-ops, OIDs set aside, ends of backups, parameters, ends of recoveries, pages for hints.
        (0, 0x00..=0x30 | 0x50 | 0x60 | 0x80 | 0x90 | 0xA0 | 0xE0) => WalWork::Housekeeping,
        (8, 0x10) => WalWork::Housekeeping,
        // One bit of a transaction's tells of more data.
        (1, info) if matches!(info & 0x70, 0x00 | 0x10 | 0x30) => WalWork::Commit,
        _ => WalWork::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(manager: u8, info: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; RECORD_HEADER_SIZE];
        bytes[..4].copy_from_slice(&((RECORD_HEADER_SIZE + data.len()) as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&0x2000_0028_u64.to_le_bytes());
        (bytes[16], bytes[17]) = (info, manager);
        let crc = crc32c::crc32c_append(crc32c::crc32c(data), &bytes[..CRC_AT]);
        bytes[CRC_AT..RECORD_HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn a_record_is_known_by_its_checksum_and_by_what_it_does() {
        for (manager, info, expected) in [
            (1, 0x80, WalWork::Commit),
            (1, 0x20, WalWork::Other),
            (0, 0x40, WalWork::Switch),
            (0, 0x10, WalWork::Housekeeping),
            (0, 0x70, WalWork::Other),
            (8, 0x10, WalWork::Housekeeping),
            (10, 0x00, WalWork::Other),
        ] {
            let mut bytes = record(manager, info, b"some data");
            let header = WalRecordHeader::parse(&bytes).unwrap();
            assert_eq!((header.work, header.length, header.previous), (expected, 33, Lsn(0x2000_0028)));
            bytes[30] ^= 1;
            assert_eq!(WalRecordHeader::parse(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (WalRecordHeader::parse(&bytes), WalPageHeader::parse(&bytes));
        }
    }
}
