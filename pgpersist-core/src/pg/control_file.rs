//! `global/pg_control`: whose cluster this is, in which state, and from where it recovers.
//!
//! Source: `src/include/catalog/pg_control.h` of PostgreSQL 14 to 18. Versions 13 to 16 share format 1300; 1700 adds a field to
//! the checkpoint where padding was; 1800 adds `default_char_signedness` near the end, which moves the CRC. The fields that
//! they share have the same places in all.
//! Numbers are in the machine's byte order, which is little-endian on all machines that pgpersist supports.

use serde::Serialize;
use time::OffsetDateTime;

use crate::pg::lsn::Lsn;

/// Where the control file lies, relative to the data directory.
pub const CONTROL_FILE_PATH: &str = "global/pg_control";

/// The size of the file on disk. Only its first few hundred bytes mean anything, and they are written at once.
pub const CONTROL_FILE_SIZE: usize = 8192;

/// What a control file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ControlFile {
    /// Chosen by initdb and kept for life: the same number in two places means the same cluster.
    pub system_identifier: u64,
    /// The format of this file: 1300, 1700 or 1800.
    pub control_version: u32,
    /// The format of the system catalogs, such as 202209061: each major version has its own.
    pub catalog_version: u32,
    /// What the server was doing when it last wrote this file.
    pub state: ClusterState,
    /// When the server last wrote this file, in seconds since 1970.
    pub modified: i64,
    /// Where the record of the last checkpoint begins.
    pub checkpoint: Lsn,
    /// Where recovery from that checkpoint begins.
    pub redo: Lsn,
    /// The timeline of that checkpoint.
    pub timeline: u32,
    /// When that checkpoint was made, in seconds since 1970.
    pub checkpoint_time: i64,
    /// `full_page_writes` at that checkpoint.
    pub full_page_writes: bool,
    /// A standby, or a restore in progress, is consistent only from here on; `0/0` otherwise.
    pub min_recovery_point: Lsn,
    /// The timeline of [`min_recovery_point`](Self::min_recovery_point); 0 where there is none.
    pub min_recovery_point_timeline: u32,
    /// Where the base backup began that this cluster is being restored from; `0/0` otherwise.
    pub backup_start: Lsn,
    /// `wal_level` when the server last started.
    pub wal_level: WalLevel,
    /// `wal_log_hints` when the server last started.
    pub wal_log_hints: bool,
    /// `max_connections` when the server last started; a standby needs at least as many.
    pub max_connections: u32,
    /// `max_worker_processes`, likewise.
    pub max_worker_processes: u32,
    /// `max_wal_senders`, likewise.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`, likewise.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`, likewise.
    pub max_locks_per_transaction: u32,
    /// Bytes of a page of a relation: 8192 unless PostgreSQL was built otherwise.
    pub block_size: u32,
    /// Pages of a full segment of a relation: 131072 (1 GiB) unless PostgreSQL was built otherwise.
    pub blocks_per_segment: u32,
    /// Bytes of a page of the write-ahead log.
    pub wal_block_size: u32,
    /// Bytes of a WAL segment: 16 MiB unless initdb was told otherwise.
    pub wal_segment_size: u32,
    /// Zero where pages carry no checksums, else the version of their algorithm (1).
    pub data_checksum_version: u32,
}

/// What the server was doing when it last wrote the control file (`DBState`). A killed server leaves what it was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClusterState {
    /// Being made by initdb.
    StartingUp,
    /// Shut down cleanly.
    ShutDown,
    /// Shut down cleanly while it was a standby or restoring.
    ShutDownInRecovery,
    /// In its shutdown checkpoint.
    ShuttingDown,
    /// Replaying its log after a crash.
    InCrashRecovery,
    /// Replaying archived or streamed log.
    InArchiveRecovery,
    /// Running, or killed while it ran.
    InProduction,
}

impl ClusterState {
    /// The words of `pg_controldata`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartingUp => "starting up",
            Self::ShutDown => "shut down",
            Self::ShutDownInRecovery => "shut down in recovery",
            Self::ShuttingDown => "shutting down",
            Self::InCrashRecovery => "in crash recovery",
            Self::InArchiveRecovery => "in archive recovery",
            Self::InProduction => "in production",
        }
    }
}

/// How much the server writes into its log (`wal_level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WalLevel {
    /// Enough for crash recovery only: no base backup can be made.
    Minimal,
    /// Enough for base backups, archiving and standbys.
    Replica,
    /// Also enough for logical decoding.
    Logical,
}

impl WalLevel {
    /// The word of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Replica => "replica",
            Self::Logical => "logical",
        }
    }
}

/// Why bytes are no control file that we can trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlFileError {
    /// Cut off.
    #[error("the control file has {length} bytes where at least {needed} are needed")]
    TooShort {
        /// Bytes found.
        length: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// Written by a PostgreSQL that we do not know, or no control file at all.
    #[error("the control file has format {0}, and formats 1300 (PostgreSQL 14 to 16), 1700 and 1800 are known")]
    UnknownVersion(u32),
    /// Torn or damaged.
    #[error("the control file's CRC is {computed:08x} where {stored:08x} is stored")]
    WrongCrc {
        /// The CRC in the file.
        stored: u32,
        /// The CRC of the bytes in the file.
        computed: u32,
    },
    /// The CRC is right, yet a value makes no sense.
    #[error("the control file has {value} for {field}")]
    UnknownValue {
        /// Which field, as `pg_control.h` names it.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
}

impl ControlFile {
    /// Reads a control file's bytes, all of them or at least their first 512.
    ///
    /// # Errors
    /// [`ControlFileError`] when the bytes are too few, of an unknown format, torn or senseless.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlFileError> {
        let fields = Fields(&bytes[..checked_length(bytes)?]);
        let state = match fields.u32(16) {
            0 => ClusterState::StartingUp,
            1 => ClusterState::ShutDown,
            2 => ClusterState::ShutDownInRecovery,
            3 => ClusterState::ShuttingDown,
            4 => ClusterState::InCrashRecovery,
            5 => ClusterState::InArchiveRecovery,
            6 => ClusterState::InProduction,
            value => return Err(ControlFileError::UnknownValue { field: "state", value }),
        };
        let wal_level = match fields.u32(172) {
            0 => WalLevel::Minimal,
            1 => WalLevel::Replica,
            2 => WalLevel::Logical,
            value => return Err(ControlFileError::UnknownValue { field: "wal_level", value }),
        };
        Ok(Self {
            system_identifier: fields.u64(0),
            control_version: fields.u32(8),
            catalog_version: fields.u32(12),
            state,
            modified: fields.i64(24),
            checkpoint: Lsn(fields.u64(32)),
            // The copy of the checkpoint record lies at 40 to 128.
            redo: Lsn(fields.u64(40)),
            timeline: fields.u32(48),
            full_page_writes: fields.bool(56),
            checkpoint_time: fields.i64(104),
            min_recovery_point: Lsn(fields.u64(136)),
            min_recovery_point_timeline: fields.u32(144),
            backup_start: Lsn(fields.u64(152)),
            wal_level,
            wal_log_hints: fields.bool(176),
            max_connections: fields.u32(180),
            max_worker_processes: fields.u32(184),
            max_wal_senders: fields.u32(188),
            max_prepared_transactions: fields.u32(192),
            max_locks_per_transaction: fields.u32(196),
            block_size: fields.power_of_two(216, "blcksz")?,
            blocks_per_segment: fields.power_of_two(220, "relseg_size")?,
            wal_block_size: fields.power_of_two(224, "xlog_blcksz")?,
            wal_segment_size: fields.power_of_two(228, "xlog_seg_size")?,
            data_checksum_version: fields.u32(252),
        })
    }

    /// Whether the cluster needs no recovery: its files are complete without the write-ahead log.
    pub fn is_clean_shutdown(&self) -> bool {
        matches!(self.state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery)
    }

    /// Whether pages carry checksums.
    pub fn data_checksums(&self) -> bool {
        self.data_checksum_version != 0
    }

    /// When the server last wrote this file; `None` for a time that no calendar has.
    pub fn modified_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.modified).ok()
    }

    /// The major version whose released catalogs these are; `None` for pre-releases and unknown versions. `PG_VERSION` is
    /// what decides; this tells when the two files do not belong together.
    pub fn major(&self) -> Option<u32> {
        match self.catalog_version {
            202_107_181 => Some(14),
            202_209_061 => Some(15),
            202_307_071 => Some(16),
            202_406_281 => Some(17),
            202_506_291 => Some(18),
            _ => None,
        }
    }
}

/// The same control file with another system identifier and the CRC that goes with it.
///
/// Meant for copies of a cluster that live their own life, such as throw-away ones. The server compares the number with the
/// one in its WAL segments, so these need [`crate::pg::wal_page::with_system_identifier`] as well.
///
/// # Errors
/// [`ControlFileError`] when the bytes are no good control file to begin with.
pub fn with_system_identifier(bytes: &[u8], id: u64) -> Result<Vec<u8>, ControlFileError> {
    let crc_at = checked_length(bytes)?;
    let mut changed = bytes.to_vec();
    changed[..8].copy_from_slice(&id.to_le_bytes());
    let crc = crc32c::crc32c(&changed[..crc_at]);
    changed[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(changed)
}

/// The length of what the CRC covers, once the CRC was found right: it stands just behind.
fn checked_length(bytes: &[u8]) -> Result<usize, ControlFileError> {
    let too_short = |needed| ControlFileError::TooShort { length: bytes.len(), needed };
    if bytes.len() < 12 {
        return Err(too_short(12));
    }
    let crc_at = match Fields(bytes).u32(8) {
        1300 | 1700 => 288,
        1800 => 292,
        version => return Err(ControlFileError::UnknownVersion(version)),
    };
    if bytes.len() < crc_at + 4 {
        return Err(too_short(crc_at + 4));
    }
    let stored = Fields(bytes).u32(crc_at);
    let computed = crc32c::crc32c(&bytes[..crc_at]);
    if stored == computed { Ok(crc_at) } else { Err(ControlFileError::WrongCrc { stored, computed }) }
}

/// Bytes whose length was checked before: every offset asked for lies within.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.0[at..at + N]);
        array
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.array(at))
    }

    fn bool(&self, at: usize) -> bool {
        self.0[at] != 0
    }

    /// A size that callers divide by.
    fn power_of_two(&self, at: usize, field: &'static str) -> Result<u32, ControlFileError> {
        let value = self.u32(at);
        if value.is_power_of_two() { Ok(value) } else { Err(ControlFileError::UnknownValue { field, value }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A control file of our own making; real ones are read in `tests/it/control_file.rs`.
    fn sample(version: u32) -> Vec<u8> {
        let mut bytes = vec![0; CONTROL_FILE_SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &7_412_345_678_901_234_567_u64.to_le_bytes());
        put(8, &version.to_le_bytes());
        put(12, &202_209_061_u32.to_le_bytes());
        put(16, &6_u32.to_le_bytes());
        put(24, &1_700_000_000_i64.to_le_bytes());
        put(32, &0x16_B374_D848_u64.to_le_bytes());
        put(172, &1_u32.to_le_bytes());
        for (at, value) in [(216, 8192_u32), (220, 131_072), (224, 8192), (228, 16 << 20), (252, 1)] {
            put(at, &value.to_le_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    fn seal(bytes: &mut [u8]) {
        let crc_at = if bytes[8..12] == 1800_u32.to_le_bytes() { 292 } else { 288 };
        let crc = crc32c::crc32c(&bytes[..crc_at]);
        bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn all_formats_are_read() {
        for version in [1300, 1700, 1800] {
            let read = ControlFile::parse(&sample(version)).unwrap();
            assert_eq!(read.system_identifier, 7_412_345_678_901_234_567);
            assert_eq!(read.state, ClusterState::InProduction);
            assert_eq!(read.checkpoint.to_string(), "16/B374D848");
            assert_eq!(read.modified_at().unwrap().year(), 2023);
            assert!(read.data_checksums() && !read.is_clean_shutdown());
        }
    }

    #[test]
    fn a_torn_a_foreign_and_a_senseless_file_are_told_apart() {
        assert_eq!(ControlFile::parse(&[]), Err(ControlFileError::TooShort { length: 0, needed: 12 }));
        assert_eq!(ControlFile::parse(&sample(1300)[..100]), Err(ControlFileError::TooShort { length: 100, needed: 292 }));
        assert_eq!(ControlFile::parse(&[0; CONTROL_FILE_SIZE]), Err(ControlFileError::UnknownVersion(0)));
        let mut torn = sample(1300);
        torn[40] ^= 1;
        assert!(matches!(ControlFile::parse(&torn), Err(ControlFileError::WrongCrc { .. })));
        let mut senseless = sample(1800);
        senseless[16] = 99;
        seal(&mut senseless);
        assert_eq!(ControlFile::parse(&senseless), Err(ControlFileError::UnknownValue { field: "state", value: 99 }));
        let mut zero = sample(1300);
        zero[228..232].fill(0);
        seal(&mut zero);
        assert_eq!(ControlFile::parse(&zero), Err(ControlFileError::UnknownValue { field: "xlog_seg_size", value: 0 }));
    }

    proptest! {
        #[test]
        fn a_new_identifier_changes_nothing_else(id: u64, new_format: bool) {
            let before = sample(if new_format { 1800 } else { 1300 });
            let after = with_system_identifier(&before, id).unwrap();
            let expected = ControlFile { system_identifier: id, ..ControlFile::parse(&before).unwrap() };
            prop_assert_eq!(ControlFile::parse(&after).unwrap(), expected);
            prop_assert_eq!(after.len(), before.len());
        }

        #[test]
        fn no_flipped_bit_goes_unseen(bit in 0..288_usize * 8) {
            let mut bytes = sample(1300);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(ControlFile::parse(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, sealed in 0..3_u8, fill in proptest::collection::vec(any::<u8>(), 512)) {
            let _ = ControlFile::parse(&bytes);
            let _ = with_system_identifier(&bytes, 1);
            // Random bytes hardly ever have the right CRC, so some get it.
            bytes.extend(fill);
            if sealed > 0 {
                bytes[8..12].copy_from_slice(&if sealed == 1 { 1300_u32 } else { 1800 }.to_le_bytes());
                seal(&mut bytes);
            }
            let _ = ControlFile::parse(&bytes);
        }
    }
}
