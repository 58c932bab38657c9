//! [`Leaf`]: where the chunks of one stretch of a file lie.
//!
//! It holds places and no hashes: those stand in the trailers of the packs, once for each chunk, so a page that changed costs four
//! bytes here.

use std::collections::HashMap;

use crate::repo::fault::Fault;
use crate::repo::names::{PackName, Place, RUN_BYTES, RunName};
use crate::repo::trailer::MOST_ITEMS;
use crate::repo::varint::{self, Reader};

/// How many chunks a leaf tells of, at most: 64 MiB of a file.
pub const LEAF_CHUNKS: u32 = 8192;

/// Chunks that lie behind each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// How many.
    pub chunks: u32,
    /// Where the first one lies, the others behind it; `None` where all of them are zero and nothing is stored.
    pub place: Option<Place>,
}

impl Stretch {
    /// Whether `next` is what would follow in this stretch.
    fn goes_on_with(&self, next: &Self) -> bool {
        match (self.place, next.place) {
            (None, None) => true,
            (Some(here), Some(there)) => here.pack == there.pack && here.item.checked_add(self.chunks) == Some(there.item),
            _ => false,
        }
    }
}

/// Where up to [`LEAF_CHUNKS`] chunks of a file lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    stretches: Vec<Stretch>,
    chunks: u32,
}

/// How a stretch is written.
const ZERO: u64 = 0;
const ALIGNED: u64 = 1;
const FOLLOWING: u64 = 2;
const EXPLICIT: u64 = 3;

/// Up to where a pack was told of: the next item of it, and the chunk behind the last one.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    item: u32,
    chunk: u32,
}

impl Left {
    /// The item that is as far from here as `chunk` is.
    fn aligned(self, chunk: u32) -> Option<u32> {
        self.item.checked_add(chunk - self.chunk)
    }
}

impl Leaf {
    /// The stretches, none of which continues the one before it.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// How many chunks it tells of.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Appends chunks; those that there is no room for are left out, and their number is returned.
    pub fn push(&mut self, stretch: Stretch) -> u32 {
        let fitting = Stretch { chunks: stretch.chunks.min(LEAF_CHUNKS - self.chunks), ..stretch };
        if fitting.chunks > 0 {
            match self.stretches.last_mut() {
                Some(last) if last.goes_on_with(&fitting) => last.chunks += fitting.chunks,
                _ => self.stretches.push(fitting),
            }
            self.chunks += fitting.chunks;
        }
        stretch.chunks - fitting.chunks
    }

    /// The packs that it names, in the order of their first use.
    pub fn packs(&self) -> Vec<PackName> {
        let mut packs = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for place in self.stretches.iter().filter_map(|stretch| stretch.place) {
            if seen.insert(place.pack) {
                packs.push(place.pack);
            }
        }
        packs
    }

    /// The leaf's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let packs = self.packs();
        let mut out = Vec::with_capacity(16 + packs.len() * (RUN_BYTES + 1) + self.stretches.len() * 4);
        varint::put(&mut out, packs.len() as u64);
        for pack in &packs {
            out.extend_from_slice(&pack.run.to_bytes());
            varint::put(&mut out, pack.number.into());
        }
        varint::put(&mut out, self.chunks.into());
        let index: HashMap<PackName, usize> = packs.iter().enumerate().map(|(at, pack)| (*pack, at)).collect();
        let mut left = vec![Left::default(); packs.len()];
        let mut chunk = 0;
        for stretch in &self.stretches {
            let head = u64::from(stretch.chunks - 1) << 2;
            match stretch.place {
                None => varint::put(&mut out, head | ZERO),
                Some(Place { pack, item }) => {
                    let pack = index[&pack];
                    let form = if left[pack].aligned(chunk) == Some(item) {
                        ALIGNED
                    } else if left[pack].item == item {
                        FOLLOWING
                    } else {
                        EXPLICIT
                    };
                    varint::put(&mut out, head | form);
                    varint::put(&mut out, pack as u64);
                    if form == EXPLICIT {
                        varint::put(&mut out, item.into());
                    }
                    left[pack] = Left { item: item + stretch.chunks, chunk: chunk + stretch.chunks };
                }
            }
            chunk += stretch.chunks;
        }
        out
    }

    /// Reads a leaf, and only one that [`encode`](Self::encode) would write.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        let count = reader.at_most(LEAF_CHUNKS.into(), "the number of packs")?;
        let mut packs = Vec::new();
        for _ in 0..count {
            let run = RunName::from_bytes(reader.array()?).ok_or(Fault::Bound { what: "the time of a run" })?;
            let number = reader.at_most(u32::MAX.into(), "the number of a pack")?;
            packs.push(PackName { run, number: u32::try_from(number).map_err(|_| Fault::Number)? });
        }
        let chunks = reader.at_most(LEAF_CHUNKS.into(), "the number of chunks")? as u32;
        let mut left = vec![Left::default(); packs.len()];
        let mut leaf = Self::default();
        while leaf.chunks < chunks {
            let head = reader.at_most(u64::from(LEAF_CHUNKS) * 4 - 1, "a run of chunks")?;
            let (count, form) = ((head >> 2) as u32 + 1, head & 3);
            if count > chunks - leaf.chunks {
                return Err(Fault::TooLong);
            }
            let place = if form == ZERO {
                None
            } else {
                let missing = Fault::Reference { what: "a pack" };
                let at = usize::try_from(reader.number()?).map_err(|_| missing)?;
                let (pack, before) = (*packs.get(at).ok_or(missing)?, *left.get(at).ok_or(missing)?);
                let item = match form {
                    ALIGNED => before.aligned(leaf.chunks).ok_or(Fault::Bound { what: "an item" })?,
                    FOLLOWING => before.item,
                    _ => reader.at_most(MOST_ITEMS.into(), "an item")? as u32,
                };
                let end = item.checked_add(count).filter(|end| *end <= MOST_ITEMS).ok_or(Fault::Bound { what: "an item" })?;
                left[at] = Left { item: end, chunk: leaf.chunks + count };
                Some(Place { pack, item })
            };
            leaf.push(Stretch { chunks: count, place });
        }
        reader.end()?;
        // One leaf, one text: else the same would be stored twice, and a reader of a hostile one would have more cases to think of.
        if chunks == 0 || leaf.encode() != bytes {
            return Err(Fault::NotCanonical);
        }
        Ok(leaf)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn pack(number: u32) -> PackName {
        PackName { run: RunName::new(datetime!(2026-02-08 09:33:16 UTC), [1, 2, 3, 4]), number }
    }

    fn at(number: u32, item: u32, chunks: u32) -> Stretch {
        Stretch { chunks, place: Some(Place { pack: pack(number), item }) }
    }

    fn leaf(stretches: impl IntoIterator<Item = Stretch>) -> Leaf {
        let mut leaf = Leaf::default();
        for stretch in stretches {
            assert_eq!(leaf.push(stretch), 0);
        }
        leaf
    }

    #[test]
    fn an_unbroken_stretch_takes_a_few_bytes_whatever_its_length() {
        let whole = leaf([at(0, 500, LEAF_CHUNKS)]);
        // Pack table 1 + 12 + 1, chunks 2, head 3, pack 1, item 2.
        assert_eq!(whole.encode().len(), 22);
        assert_eq!(Leaf::parse(&whole.encode()), Ok(whole));
    }

    #[test]
    fn a_page_that_changed_costs_four_bytes() {
        // Each hundredth page is in a new pack, where they lie behind each other.
        let mut changed = Leaf::default();
        let mut next = 7;
        for page in 0..LEAF_CHUNKS {
            if page % 100 == 50 {
                changed.push(at(1, next, 1));
                next += 1;
            } else {
                changed.push(at(0, page, 1));
            }
        }
        let bytes = changed.encode();
        let pages = (next - 7) as usize;
        assert_eq!(pages, 82);
        // The stretches between them have 99 chunks, which take a second byte.
        assert!(bytes.len() <= 40 + 5 * pages, "{} bytes for {pages} pages", bytes.len());
        assert_eq!(Leaf::parse(&bytes), Ok(changed));
    }

    #[test]
    fn what_continues_is_joined_and_what_does_not_fit_is_told() {
        let joined = leaf([at(0, 0, 5), at(0, 5, 5), Stretch { chunks: 2, place: None }, Stretch { chunks: 1, place: None }]);
        assert_eq!(joined.stretches(), [at(0, 0, 10), Stretch { chunks: 3, place: None }]);
        let mut full = joined;
        assert_eq!(full.push(at(1, 0, LEAF_CHUNKS)), 13);
        assert_eq!((full.chunks(), full.push(at(2, 0, 1))), (LEAF_CHUNKS, 1));
    }

    #[test]
    fn what_no_writer_would_write_is_refused() {
        let good = leaf([at(0, 0, 1), at(1, 9, 1)]).encode();
        assert_eq!(Leaf::parse(&good[..good.len() - 1]), Err(Fault::CutOff));
        assert_eq!(Leaf::parse(&[good.as_slice(), &[0]].concat()), Err(Fault::TooLong));
        assert_eq!(Leaf::parse(&[0, 0]), Err(Fault::NotCanonical));
        // A pack that is not there.
        assert_eq!(Leaf::parse(&[0, 1, ALIGNED as u8, 0]), Err(Fault::Reference { what: "a pack" }));
        // Two zero stretches that a writer joins.
        assert_eq!(Leaf::parse(&[0, 2, 0, 0]), Err(Fault::NotCanonical));
        // More chunks in a stretch than in the leaf.
        assert_eq!(Leaf::parse(&[0, 2, 2 << 2]), Err(Fault::TooLong));
    }

    fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
        let place = proptest::option::weighted(0.9, (0..4_u32, 0..20_000_u32));
        let stretch = (1..300_u32, place)
            .prop_map(|(chunks, place)| Stretch { chunks, place: place.map(|(number, item)| Place { pack: pack(number), item }) });
        proptest::collection::vec(stretch, 1..40)
    }

    proptest! {
        #[test]
        fn leaves_survive_a_round_trip(stretches in stretches()) {
            let mut told = Leaf::default();
            for stretch in stretches {
                told.push(stretch);
            }
            prop_assert_eq!(Leaf::parse(&told.encode()), Ok(told));
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_is_read_is_written_so(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(leaf) = Leaf::parse(&bytes) {
                prop_assert_eq!(leaf.encode(), bytes);
            }
        }

        #[test]
        fn a_changed_byte_never_makes_it_panic(stretches in stretches(), at: prop::sample::Index, to: u8) {
            let mut told = Leaf::default();
            for stretch in stretches {
                told.push(stretch);
            }
            let mut bytes = told.encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Leaf::parse(&bytes);
        }
    }
}
