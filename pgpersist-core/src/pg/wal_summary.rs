//! WAL summaries: which blocks the log changed between two positions, as PostgreSQL writes them since version 17 where `summarize_wal` is on.
//!
//! Sources: *WAL Summarizer* in *Reliability and the Write-Ahead Log*, PostgreSQL 17; `walsummary.c` for the names of the files,
//! `blkreftable.c` for what stands in them, and `basebackup_incremental.c` for what they leave open.

use std::collections::{BTreeMap, HashMap};

use crate::pg::lsn::Lsn;
use crate::pg::relation_file::{Fork, RelationFile, Tablespace};

/// The first bytes of a summary.
const MAGIC: u32 = 0x652b_137b;
/// Blocks that a chunk tells of.
const CHUNK_BLOCKS: u32 = 1 << 16;
/// The number of 16-bit words of a chunk that is a bitmap; a shorter one is a list.
const BITMAP_WORDS: usize = 4096;

/// What a summary's file is called: its timeline, and from where to where in the log it tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SummaryName {
    /// The timeline.
    pub timeline: u32,
    /// Where it begins.
    pub start: Lsn,
    /// Where it ends: the next one begins there.
    pub end: Lsn,
}

impl SummaryName {
    /// Reads a name such as `00000001000000000200002800000000030000D8.summary`.
    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".summary")?;
        if digits.len() != 40 || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) {
            return None;
        }
        let part = |at: usize| u32::from_str_radix(digits.get(at..at + 8)?, 16).ok();
        let lsn = |at: usize| Some(Lsn(u64::from(part(at)?) << 32 | u64::from(part(at + 8)?)));
        let name = Self { timeline: part(0)?, start: lsn(8)?, end: lsn(24)? };
        (name.start < name.end).then_some(name)
    }
}

/// A fork of a relation, by the numbers that the log knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelationFork {
    /// The OID of its tablespace: 1663 for the default, 1664 for the relations that all databases share.
    pub tablespace: u32,
    /// The OID of its database; 0 for those.
    pub database: u32,
    /// Its file node; 0 stands for all of a database that was made by a copy of files.
    pub relation: u32,
    /// 0 the rows, 1 the free space map, 2 the visibility map, 3 the empty form of an unlogged relation.
    pub fork: u32,
}

impl RelationFork {
    /// Of a file.
    pub fn of(file: &RelationFile) -> Self {
        let tablespace = match file.tablespace {
            Tablespace::Default => 1663,
            Tablespace::Global => 1664,
            Tablespace::Other { oid, .. } => oid,
        };
        let fork = match file.fork {
            Fork::Main => 0,
            Fork::FreeSpaceMap => 1,
            Fork::VisibilityMap => 2,
            Fork::Init => 3,
        };
        Self { tablespace, database: file.database, relation: file.relation, fork }
    }
}

/// What is wrong with a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SummaryFault {
    /// It does not begin as one.
    #[error("it is no WAL summary")]
    Magic,
    /// It ends too early, or goes on behind its end.
    #[error("it has not the length that it tells of itself")]
    Length,
    /// Its checksum is another.
    #[error("its checksum is {stored:08x}, and that of its bytes {computed:08x}")]
    Crc {
        /// The one that it has.
        stored: u32,
        /// The one that it should have.
        computed: u32,
    },
}

/// The blocks of one fork that were changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChangedBlocks {
    /// The least length that it had: what lies behind may be something else altogether.
    limit: Option<u32>,
    chunks: BTreeMap<u32, Chunk>,
}

/// Up to 65,536 neighbours: the smaller of a list, in order, and a bitmap.
#[derive(Debug, PartialEq, Eq)]
enum Chunk {
    List(Vec<u16>),
    Bitmap(Box<[u16; BITMAP_WORDS]>),
}

impl Chunk {
    fn has(&self, block: u16) -> bool {
        match self {
            Self::List(blocks) => blocks.binary_search(&block).is_ok(),
            Self::Bitmap(words) => words[usize::from(block / 16)] >> (block % 16) & 1 == 1,
        }
    }

    fn into_bitmap(self) -> Box<[u16; BITMAP_WORDS]> {
        match self {
            Self::Bitmap(words) => words,
            Self::List(blocks) => {
                let mut words = Box::new([0; BITMAP_WORDS]);
                blocks.iter().for_each(|block| words[usize::from(block / 16)] |= 1 << (block % 16));
                words
            }
        }
    }

    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::List(mut blocks), Self::List(others)) if blocks.len() + others.len() < BITMAP_WORDS => {
                blocks.extend(others);
                blocks.sort_unstable();
                blocks.dedup();
                Self::List(blocks)
            }
            (one, other) => {
                let mut words = one.into_bitmap();
                words.iter_mut().zip(other.into_bitmap().iter()).for_each(|(word, other)| *word |= other);
                Self::Bitmap(words)
            }
        }
    }
}

impl ChangedBlocks {
    /// Whether a block may have changed.
    pub fn has(&self, block: u32) -> bool {
        let in_chunk = |chunk: &Chunk| chunk.has((block % CHUNK_BLOCKS) as u16);
        self.limit.is_some_and(|limit| limit <= block) || self.chunks.get(&(block / CHUNK_BLOCKS)).is_some_and(in_chunk)
    }

    fn add(&mut self, number: u32, chunk: Chunk) {
        let chunk = match self.chunks.remove(&number) {
            Some(before) => before.with(chunk),
            None => chunk,
        };
        self.chunks.insert(number, chunk);
    }
}

/// What several summaries say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WalSummary(HashMap<RelationFork, ChangedBlocks>);

impl WalSummary {
    /// The blocks of a fork that were changed; nothing where none was.
    pub fn changed(&self, fork: RelationFork) -> Option<&ChangedBlocks> {
        self.0.get(&fork)
    }

    /// Adds what a file says.
    ///
    /// # Errors
    /// [`SummaryFault`]; part of it may have been added then.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), SummaryFault> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(SummaryFault::Length)?;
        let (stored, computed) = (u32::from_le_bytes(*crc), crc32c::crc32c(content));
        let mut rest = content;
        if word(&mut rest)? != MAGIC {
            return Err(SummaryFault::Magic);
        }
        if stored != computed {
            return Err(SummaryFault::Crc { stored, computed });
        }
        loop {
            let (tablespace, database, relation) = (word(&mut rest)?, word(&mut rest)?, word(&mut rest)?);
            let (fork, limit, chunks) = (word(&mut rest)?, word(&mut rest)?, word(&mut rest)?);
            if (tablespace, database, relation, fork, limit, chunks) == (0, 0, 0, 0, 0, 0) {
                return if rest.is_empty() { Ok(()) } else { Err(SummaryFault::Length) };
            }
            let changed = self.0.entry(RelationFork { tablespace, database, relation, fork }).or_default();
            if limit != u32::MAX {
                changed.limit = Some(changed.limit.map_or(limit, |before| before.min(limit)));
            }
            let lengths = halves(&mut rest, usize::try_from(chunks).map_err(|_| SummaryFault::Length)?)?;
            for (number, length) in (0..chunks).zip(lengths) {
                let words = halves(&mut rest, length.into())?;
                let bitmap = <Box<[u16; BITMAP_WORDS]>>::try_from(words.into_boxed_slice());
                match bitmap {
                    Ok(words) => changed.add(number, Chunk::Bitmap(words)),
                    Err(blocks) if blocks.len() > BITMAP_WORDS => return Err(SummaryFault::Length),
                    Err(blocks) if blocks.is_empty() => {}
                    Err(mut blocks) => {
                        blocks.sort_unstable();
                        changed.add(number, Chunk::List(blocks.into_vec()));
                    }
                }
            }
        }
    }
}

fn word(rest: &mut &[u8]) -> Result<u32, SummaryFault> {
    let (word, behind) = rest.split_first_chunk().ok_or(SummaryFault::Length)?;
    *rest = behind;
    Ok(u32::from_le_bytes(*word))
}

/// So many 16-bit words.
fn halves(rest: &mut &[u8], count: usize) -> Result<Vec<u16>, SummaryFault> {
    let (halves, behind) = count.checked_mul(2).and_then(|bytes| rest.split_at_checked(bytes)).ok_or(SummaryFault::Length)?;
    *rest = behind;
    Ok(halves.chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]])).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORK: RelationFork = RelationFork { tablespace: 1663, database: 5, relation: 16384, fork: 0 };

    /// A file as the server writes it: each fork with its limit and its chunks.
    fn summary(forks: &[(RelationFork, u32, Vec<Vec<u16>>)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        for (fork, limit, chunks) in forks {
            for word in [fork.tablespace, fork.database, fork.relation, fork.fork, *limit, chunks.len() as u32] {
                bytes.extend(word.to_le_bytes());
            }
            chunks.iter().for_each(|chunk| bytes.extend((chunk.len() as u16).to_le_bytes()));
            chunks.iter().flatten().for_each(|half| bytes.extend(half.to_le_bytes()));
        }
        bytes.extend([0; 24]);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn read(files: &[Vec<u8>]) -> WalSummary {
        let mut summary = WalSummary::default();
        files.iter().for_each(|file| summary.add(file).unwrap());
        summary
    }

    #[test]
    fn a_name_tells_timeline_and_range() {
        let name = SummaryName::parse("00000001000000000200002800000001030000D8.summary");
        assert_eq!(name, Some(SummaryName { timeline: 1, start: Lsn(0x0200_0028), end: Lsn(0x1_0300_00D8) }));
        for wrong in [
            "temp.summary",
            "00000001000000000200002800000001030000D8",
            "00000001000000000200002800000001030000d8.summary",
            "00000001000000000300002800000000020000D8.summary",
        ] {
            assert_eq!(SummaryName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_and_bitmaps_tell_the_same() {
        let mut bitmap = vec![0; BITMAP_WORDS];
        bitmap[0] = 0b1010;
        bitmap[4095] = 1 << 15;
        let of_list = read(&[summary(&[(FORK, u32::MAX, vec![vec![1, 3, 65535]])])]);
        let of_bitmap = read(&[summary(&[(FORK, u32::MAX, vec![bitmap])])]);
        for summary in [of_list, of_bitmap] {
            let changed = summary.changed(FORK).unwrap();
            let found: Vec<u32> = (0..CHUNK_BLOCKS + 10).filter(|block| changed.has(*block)).collect();
            assert_eq!(found, [1, 3, 65535]);
        }
    }

    #[test]
    fn several_files_add_up_and_the_least_length_counts() {
        let first = summary(&[(FORK, 90_000, vec![vec![], vec![0]]), (RelationFork { relation: 7, ..FORK }, 0, vec![])]);
        let second = summary(&[(FORK, 80_000, vec![vec![9, 2], vec![7]])]);
        let both = read(&[first, second]);
        let changed = both.changed(FORK).unwrap();
        let found: Vec<u32> = (0..80_003).filter(|block| changed.has(*block)).collect();
        assert_eq!(found, [2, 9, 65_536, 65_543, 80_000, 80_001, 80_002]);
        assert!((0..10).all(|block| both.changed(RelationFork { relation: 7, ..FORK }).unwrap().has(block)));
        assert!(both.changed(RelationFork { relation: 8, ..FORK }).is_none());
    }

    #[test]
    fn whatever_is_wrong_is_told() {
        let good = summary(&[(FORK, u32::MAX, vec![vec![1, 3]])]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(WalSummary::default().add(&bad).is_err(), "byte {at}");
            assert!(WalSummary::default().add(&good[..at]).is_err(), "{at} bytes");
        }
        let mut longer = good;
        longer.truncate(longer.len() - 4);
        longer.push(0);
        longer.extend(crc32c::crc32c(&longer).to_le_bytes());
        assert_eq!(WalSummary::default().add(&longer), Err(SummaryFault::Length));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(first in proptest::collection::btree_set(0..200_000_u32, 0..6000), second in proptest::collection::btree_set(0..200_000_u32, 0..6000)) {
            let file = |blocks: &std::collections::BTreeSet<u32>| {
                let mut chunks = vec![Vec::new(); 4];
                for block in blocks {
                    chunks[(block / CHUNK_BLOCKS) as usize].push((block % CHUNK_BLOCKS) as u16);
                }
                // As many entries as a bitmap has words make it one.
                for chunk in &mut chunks {
                    if chunk.len() >= BITMAP_WORDS {
                        *chunk = Chunk::List(std::mem::take(chunk)).into_bitmap().to_vec();
                    }
                }
                summary(&[(FORK, u32::MAX, chunks)])
            };
            let both = read(&[file(&first), file(&second)]);
            let changed = both.changed(FORK).unwrap();
            for block in 0..200_000 {
                prop_assert_eq!(changed.has(block), first.contains(&block) || second.contains(&block));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = WalSummary::default().add(&bytes);
            let mut sealed = MAGIC.to_le_bytes().to_vec();
            sealed.extend(bytes);
            sealed.extend(crc32c::crc32c(&sealed).to_le_bytes());
            let _ = WalSummary::default().add(&sealed);
        }
    }
}
