//! One block → one gzip member, by the cheapest of three ways that makes it as small.
//!
//! A thorough search for repetitions is what costs time, and on much of what tables hold it finds nothing that a shallow one
//! does not: rows that are mostly padding need hardly any search, and hashes and the like have nothing to be found. So a
//! sample of every few blocks is compressed in each way, and the result decides for all of them. What a sample promised is
//! held against what came out, since another table may begin in between.
//!
//! Which way is taken follows from the input alone, not from threads or time: the same input makes the same bytes.

use std::sync::OnceLock;

use libdeflater::{CompressionLvl, Compressor};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Method, Status, Strategy};

use crate::error::{Error, Result};

/// libdeflate's level for the thorough way: below the size of `gzip -6`; 7 takes half as long again for six per cent.
const THOROUGH_LEVEL: i32 = 6;

/// zlib's level for rows that repeat: at 1.4 GB/s three times as fast as the thorough way, which finds the same there.
const SHALLOW_LEVEL: i32 = 2;

/// How much of a block is tried in all three ways: two windows of deflate.
const SAMPLE_BYTES: usize = 64 * 1024;

/// How much larger than by the thorough way a sample may get, in per cent.
const SAMPLE_TOLERANCE: u64 = 1;

/// How much larger or smaller than its sample promised a block may get, in per cent; else it is of another kind. A sample is
/// a bit larger for its size, since it has as many tables of codes.
const LARGER: u64 = 5;
const SMALLER: u64 = 25;

/// How blocks that follow one another are compressed: settled by the first thread that has one of them in hand.
#[derive(Debug)]
pub(super) struct Choice {
    sample: Vec<u8>,
    settled: OnceLock<Settled>,
}

#[derive(Debug, Clone, Copy)]
struct Settled {
    way: Way,
    /// What the thorough way makes of the sample.
    thorough_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Repetitions are searched for well, by libdeflate.
    Thorough,
    /// Only the last places with the same bytes are looked at.
    Shallow,
    /// No repetitions at all: frequent bytes get shorter codes.
    HuffmanOnly,
}

impl Choice {
    /// A choice for the blocks of which `first` is the first.
    pub(super) fn by(first: &[u8]) -> Self {
        Self { sample: first[..first.len().min(SAMPLE_BYTES)].to_vec(), settled: OnceLock::new() }
    }
}

impl Settled {
    /// Whether a block came out as its sample did.
    fn promises(self, length: usize, block: usize, sample: usize) -> bool {
        let promised = self.thorough_bytes as u64 * block as u64 / (sample as u64).max(1);
        let length = length as u64;
        length <= with_tolerance(promised, LARGER) && length >= promised - promised * SMALLER / 100
    }
}

/// What a thread compresses with.
pub(super) struct MemberWriter {
    thorough: Compressor,
    shallow: Deflate,
    huffman_only: Deflate,
    member: Vec<u8>,
}

impl MemberWriter {
    /// For blocks of at most so many bytes.
    pub(super) fn new(block_bytes: usize) -> Self {
        let level = CompressionLvl::new(THOROUGH_LEVEL).expect("the level is one of libdeflate's");
        let mut thorough = Compressor::new(level);
        let bound = thorough.gzip_compress_bound(block_bytes.max(SAMPLE_BYTES));
        Self {
            thorough,
            shallow: Deflate::new_with_config(config(SHALLOW_LEVEL, Strategy::Default)),
            huffman_only: Deflate::new_with_config(config(SHALLOW_LEVEL, Strategy::HuffmanOnly)),
            member: vec![0; bound],
        }
    }

    /// The gzip member of a block; valid until the next call.
    ///
    /// # Errors
    /// [`Error::Bug`] when a block is larger than was said.
    pub(super) fn write(&mut self, block: &[u8], choice: &Choice) -> Result<&[u8]> {
        let settled = match choice.settled.get() {
            Some(settled) => *settled,
            // Two threads may come here at once: both find the same.
            None => {
                let settled = self.settle(&choice.sample)?;
                *choice.settled.get_or_init(|| settled)
            }
        };
        let length = match self.compress(block, settled.way) {
            Some(length) if settled.way == Way::Thorough || settled.promises(length, block.len(), choice.sample.len()) => length,
            _ => self.compress(block, Way::Thorough).ok_or_else(no_room)?,
        };
        Ok(&self.member[..length])
    }

    fn settle(&mut self, sample: &[u8]) -> Result<Settled> {
        let thorough_bytes = self.compress(sample, Way::Thorough).ok_or_else(no_room)?;
        let enough = with_tolerance(thorough_bytes as u64, SAMPLE_TOLERANCE);
        let cheap = [Way::Shallow, Way::HuffmanOnly];
        let way = cheap.into_iter().find(|way| self.compress(sample, *way).is_some_and(|length| length as u64 <= enough));
        Ok(Settled { way: way.unwrap_or(Way::Thorough), thorough_bytes })
    }

    /// Fills `member` and returns its length; `None` when it does not fit.
    fn compress(&mut self, input: &[u8], way: Way) -> Option<usize> {
        let deflate = match way {
            Way::Thorough => return self.thorough.gzip_compress(input, &mut self.member).ok(),
            Way::Shallow => &mut self.shallow,
            Way::HuffmanOnly => &mut self.huffman_only,
        };
        deflate.reset();
        let status = deflate.compress(input, &mut self.member, DeflateFlush::Finish);
        let length = usize::try_from(deflate.total_out()).ok()?;
        matches!(status, Ok(Status::StreamEnd)).then_some(length)
    }
}

fn config(level: i32, strategy: Strategy) -> DeflateConfig {
    // 15 bits of window, and 16 for a gzip header; see `deflateInit2` in zlib's manual.
    DeflateConfig { level, method: Method::Deflated, window_bits: 15 + 16, mem_level: 9, strategy }
}

fn with_tolerance(bytes: u64, per_cent: u64) -> u64 {
    // The header and trailer of a member weigh more in a small one.
    bytes + bytes * per_cent / 100 + 18
}

fn no_room() -> Error {
    Error::Bug("a block does not fit its compressed bound".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::logical::gzip;

    const BLOCK: usize = 1024 * 1024;

    fn block(row: impl Fn(u64) -> String) -> Vec<u8> {
        let mut text = String::new();
        for number in 0.. {
            text += &row(number);
            if text.len() >= BLOCK {
                break;
            }
        }
        text.truncate(BLOCK);
        text.into_bytes()
    }

    fn noise(number: u64) -> u64 {
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn padding() -> Vec<u8> {
        block(|number| format!("{number}\t{}\t0\t{:84}\n", number / 100_000 + 1, ""))
    }

    fn hashes() -> Vec<u8> {
        block(|number| (0..8).map(|salt| format!("{:016x}", noise(number * 8 + salt))).collect::<String>() + "\n")
    }

    fn documents() -> Vec<u8> {
        block(|number| {
            let word =
                |salt: u64| ["paid", "shipped", "returned", "gift wrap", "deliver after six"][(noise(number * 4 + salt) % 5) as usize];
            format!(
                "{{\"order\": {number}, \"status\": \"{}\", \"note\": \"{}\", \"total\": {}}}\n",
                word(1),
                word(2),
                noise(number) % 10_000
            )
        })
    }

    fn way(sample: &[u8]) -> Way {
        MemberWriter::new(BLOCK).settle(&sample[..SAMPLE_BYTES]).unwrap().way
    }

    fn members(blocks: &[&[u8]], choice: &Choice) -> Vec<u8> {
        let mut writer = MemberWriter::new(BLOCK);
        blocks.iter().flat_map(|block| writer.write(block, choice).unwrap().to_vec()).collect()
    }

    fn unzipped(members: &[u8]) -> Vec<u8> {
        let mut back = Vec::new();
        gzip::decoder(members).read_to_end(&mut back).unwrap();
        back
    }

    #[test]
    fn each_kind_of_rows_gets_the_cheapest_way_that_is_as_small() {
        assert_eq!(way(&padding()), Way::Shallow);
        assert_eq!(way(&hashes()), Way::HuffmanOnly);
        assert_eq!(way(&documents()), Way::Thorough);
    }

    #[test]
    fn another_table_after_the_sample_is_compressed_as_well() {
        let kinds = [padding(), hashes(), documents()];
        for first in &kinds {
            let choice = Choice::by(first);
            for next in &kinds {
                let made = members(&[first, next], &choice);
                assert!(unzipped(&made) == [&first[..], next].concat());
                let mut writer = MemberWriter::new(BLOCK);
                let thorough: usize = [first, next].map(|block| writer.compress(block, Way::Thorough).unwrap()).iter().sum();
                assert!(made.len() <= thorough + thorough * 5 / 100 + 40, "{} against {thorough}", made.len());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_bytes_come_back_whatever_the_sample_was(sample in proptest::collection::vec(any::<u8>(), 0..2000), data in proptest::collection::vec(any::<u8>(), 0..2000), repeat in 1_usize..200) {
            let (sample, data) = (sample.repeat(repeat), data.repeat(repeat));
            prop_assert!(unzipped(&members(&[&data], &Choice::by(&sample))) == data);
        }
    }
}
