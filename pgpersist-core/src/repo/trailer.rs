//! [`Trailer`] and [`Footer`]: what a pack holds, told at its end.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::repo::fault::Fault;
use crate::repo::identity::{ITEM_ID_BYTES, ItemId};
use crate::repo::varint::{self, Reader};

/// Most items of a pack.
pub const MOST_ITEMS: u32 = 1 << 24;
/// Most frames of a pack.
pub const MOST_FRAMES: u32 = 1 << 20;
/// Most bytes that a frame decompresses to.
pub const MOST_FRAME_BYTES: u32 = 16 << 20;
/// How long most items are; such a length is written as 0.
pub const CHUNK_BYTES: u32 = 8192;
/// What stands before the first frame.
pub const HEADER_BYTES: usize = 8;
/// What stands behind the trailer.
pub const FOOTER_BYTES: usize = 48;

const VERSION: u8 = 1;
const HEADER_MAGIC: [u8; 4] = *b"pgpk";
const FOOTER_MAGIC: [u8; 4] = *b"pgpe";

/// What a pack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackKind {
    /// Chunks of files.
    Chunks,
    /// Leaves, and lists of entries and of packs.
    Maps,
}

impl PackKind {
    /// The first bytes of a pack.
    pub fn header(self) -> [u8; HEADER_BYTES] {
        let kind = match self {
            Self::Chunks => 1,
            Self::Maps => 2,
        };
        let [a, b, c, d] = HEADER_MAGIC;
        [a, b, c, d, VERSION, kind, 0, 0]
    }

    /// Reads the first bytes of a pack.
    ///
    /// # Errors
    /// `Magic`, `Version`.
    pub fn parse(header: [u8; HEADER_BYTES]) -> Result<Self, Fault> {
        if header[..4] != HEADER_MAGIC {
            return Err(Fault::Magic);
        }
        if header[4] != VERSION {
            return Err(Fault::Version(header[4]));
        }
        [Self::Chunks, Self::Maps].into_iter().find(|kind| kind.header() == header).ok_or(Fault::Magic)
    }
}

/// How a frame is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Plain,
    /// One frame of zstd.
    Zstd,
    /// One block of lz4.
    Lz4,
}

impl Codec {
    fn number(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 1,
            Self::Lz4 => 2,
        }
    }

    fn parse(number: u8) -> Result<Self, Fault> {
        [Self::Plain, Self::Zstd, Self::Lz4].into_iter().find(|codec| codec.number() == number).ok_or(Fault::Codec(number))
    }
}

/// What a trailer says of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Bytes in the pack.
    pub stored_bytes: u32,
    /// How many items it holds.
    pub items: u32,
    /// How it is compressed.
    pub codec: Codec,
    /// SHA-256 of the bytes in the pack.
    pub sha256: [u8; 32],
}

/// Items whose chunks follow each other in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedStretch {
    /// Which of the owners.
    pub owner: u32,
    /// The chunk of the first item.
    pub first_chunk: u64,
    /// How many.
    pub items: u32,
}

/// What a pack holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailer {
    /// The frames, in the order of their bytes.
    pub frames: Vec<FrameEntry>,
    /// How long each item is.
    pub lengths: Vec<u32>,
    /// What each item is known by.
    pub ids: Vec<ItemId>,
    /// The files whose chunks are in it, relative to the data directory, as the file system has their names.
    pub owners: Vec<Vec<u8>>,
    /// Whose the items were when they were written, in their order.
    pub stretches: Vec<OwnedStretch>,
}

/// Where an item is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramePlace {
    /// Which frame.
    pub frame: usize,
    /// Its bytes in the object.
    pub stored: Range<u64>,
    /// The items that it holds.
    pub items: Range<u32>,
}

impl Trailer {
    /// How long all items are together.
    pub fn bytes(&self) -> u64 {
        self.lengths.iter().copied().map(u64::from).sum()
    }

    /// The trailer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frames.len() * 40 + self.ids.len() * (ITEM_ID_BYTES + 1) + 64);
        varint::put(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            varint::put(&mut out, frame.stored_bytes.into());
            varint::put(&mut out, frame.items.into());
            out.push(frame.codec.number());
            out.extend_from_slice(&frame.sha256);
        }
        for length in &self.lengths {
            varint::put(&mut out, if *length == CHUNK_BYTES { 0 } else { (*length).into() });
        }
        for id in &self.ids {
            out.extend_from_slice(&id.0);
        }
        varint::put(&mut out, self.owners.len() as u64);
        for owner in &self.owners {
            varint::put(&mut out, owner.len() as u64);
            out.extend_from_slice(owner);
        }
        varint::put(&mut out, self.stretches.len() as u64);
        for stretch in &self.stretches {
            varint::put(&mut out, stretch.owner.into());
            varint::put(&mut out, stretch.first_chunk);
            varint::put(&mut out, stretch.items.into());
        }
        out
    }

    /// Reads a trailer. Memory is bounded by the length of `bytes`, whatever they say.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        let mut trailer = Self::default();
        let mut items = 0_u32;
        for _ in 0..reader.at_most(MOST_FRAMES.into(), "the number of frames")? {
            let frame = FrameEntry {
                stored_bytes: reader.at_most(u64::from(MOST_FRAME_BYTES) * 2, "the length of a frame")? as u32,
                items: reader.at_most(MOST_ITEMS.into(), "the number of items")? as u32,
                codec: Codec::parse(reader.array::<1>()?[0])?,
                sha256: reader.array()?,
            };
            items =
                items.checked_add(frame.items).filter(|items| *items <= MOST_ITEMS).ok_or(Fault::Bound { what: "the number of items" })?;
            if frame.items == 0 {
                return Err(Fault::NotCanonical);
            }
            trailer.frames.push(frame);
        }
        // Each item takes a byte and its identity: what is promised must be there before room is made for it.
        if reader.left() < items as usize * (1 + ITEM_ID_BYTES) {
            return Err(Fault::CutOff);
        }
        trailer.lengths.reserve_exact(items as usize);
        for frame in &trailer.frames {
            let mut whole = 0_u32;
            for _ in 0..frame.items {
                let length = match reader.at_most(MOST_FRAME_BYTES.into(), "the length of an item")? as u32 {
                    0 => CHUNK_BYTES,
                    CHUNK_BYTES => return Err(Fault::NotCanonical),
                    other => other,
                };
                whole += length;
                if whole > MOST_FRAME_BYTES {
                    return Err(Fault::Bound { what: "the content of a frame" });
                }
                trailer.lengths.push(length);
            }
        }
        trailer.ids.reserve_exact(items as usize);
        for _ in 0..items {
            trailer.ids.push(ItemId(reader.array()?));
        }
        for _ in 0..reader.at_most(items.into(), "the number of owners")? {
            let length = reader.at_most(4096, "the length of a path")? as usize;
            trailer.owners.push(reader.take(length)?.to_vec());
        }
        let mut owned = 0_u32;
        for _ in 0..reader.at_most(items.into(), "the number of stretches")? {
            let stretch = OwnedStretch {
                owner: reader.at_most(u32::MAX.into(), "an owner")? as u32,
                first_chunk: reader.at_most(1 << 50, "a chunk of a file")?,
                items: reader.at_most(items.into(), "a stretch of items")? as u32,
            };
            if stretch.owner as usize >= trailer.owners.len() {
                return Err(Fault::Reference { what: "an owner" });
            }
            owned = owned.checked_add(stretch.items).filter(|owned| *owned <= items).ok_or(Fault::Bound { what: "a stretch of items" })?;
            trailer.stretches.push(stretch);
        }
        reader.end()?;
        Ok(trailer)
    }

    /// Where each frame lies, in order.
    pub fn places(&self) -> impl Iterator<Item = FramePlace> + '_ {
        let (mut byte, mut item) = (HEADER_BYTES as u64, 0);
        self.frames.iter().enumerate().map(move |(frame, entry)| {
            let place = FramePlace { frame, stored: byte..byte + u64::from(entry.stored_bytes), items: item..item + entry.items };
            (byte, item) = (place.stored.end, place.items.end);
            place
        })
    }

    /// How many bytes all frames take.
    pub fn stored_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.stored_bytes)).sum()
    }
}

/// The last bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// How long the trailer is, which stands before it.
    pub trailer_bytes: u32,
    /// How many items the pack holds.
    pub items: u32,
    /// What all but the frames come to.
    pub digest: [u8; 32],
}

impl Footer {
    /// The footer of a pack that lies under `key`, relative to the repository.
    ///
    /// # Errors
    /// `Bound` for a trailer of 4 GiB.
    pub fn new(key: &str, kind: PackKind, trailer: &[u8], items: u32) -> Result<Self, Fault> {
        let trailer_bytes = u32::try_from(trailer.len()).map_err(|_| Fault::Bound { what: "the trailer" })?;
        let mut footer = Self { trailer_bytes, items, digest: [0; 32] };
        footer.digest = footer.computed(key, kind.header(), trailer);
        Ok(footer)
    }

    fn computed(&self, key: &str, header: [u8; HEADER_BYTES], trailer: &[u8]) -> [u8; 32] {
        let digest = Sha256::new().chain_update(key).chain_update([0]).chain_update(header).chain_update(trailer);
        digest.chain_update(self.front()).finalize().into()
    }

    /// All but the digest.
    fn front(&self) -> [u8; FOOTER_BYTES - 32] {
        let mut front = [0; FOOTER_BYTES - 32];
        front[..4].copy_from_slice(&self.trailer_bytes.to_le_bytes());
        front[4..8].copy_from_slice(&self.items.to_le_bytes());
        front[8..12].copy_from_slice(&FOOTER_MAGIC);
        front
    }

    /// The footer's bytes.
    pub fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        out[..FOOTER_BYTES - 32].copy_from_slice(&self.front());
        out[FOOTER_BYTES - 32..].copy_from_slice(&self.digest);
        out
    }

    /// Reads the last bytes of a pack.
    ///
    /// # Errors
    /// `Magic`.
    pub fn parse(bytes: [u8; FOOTER_BYTES]) -> Result<Self, Fault> {
        let mut reader = Reader::new(&bytes);
        let footer = Self {
            trailer_bytes: u32::from_le_bytes(reader.array()?),
            items: { u32::from_le_bytes(reader.array()?) },
            digest: *bytes.last_chunk().ok_or(Fault::CutOff)?,
        };
        if bytes[..FOOTER_BYTES - 32] != footer.front() {
            return Err(Fault::Magic);
        }
        Ok(footer)
    }

    /// Whether it belongs to this object: its name, its beginning, its trailer.
    ///
    /// # Errors
    /// `Digest`.
    pub fn verify(&self, key: &str, header: [u8; HEADER_BYTES], trailer: &[u8]) -> Result<(), Fault> {
        if self.trailer_bytes as usize != trailer.len() || self.computed(key, header, trailer) != self.digest {
            return Err(Fault::Digest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "packs/20260208T093316Z-0f8e7d6c/000000.pack";

    fn trailers() -> impl Strategy<Value = Trailer> {
        let frame = (1..5_u32, 0..200_000_u32, 0..3_u8, any::<[u8; 32]>());
        (proptest::collection::vec(frame, 0..6), any::<u64>()).prop_map(|(frames, seed)| {
            let mut trailer = Trailer { owners: vec![b"base/5/1259".to_vec()], ..Trailer::default() };
            for (items, stored_bytes, codec, sha256) in frames {
                trailer.frames.push(FrameEntry { stored_bytes, items, codec: Codec::parse(codec).unwrap(), sha256 });
                for item in 0..items {
                    let mixed = seed.rotate_left(item * 7);
                    trailer.lengths.push(if mixed % 3 == 0 { (mixed % 8191) as u32 + 1 } else { CHUNK_BYTES });
                    trailer.ids.push(ItemId([mixed as u8; ITEM_ID_BYTES]));
                }
            }
            match trailer.ids.len() as u32 {
                0 => trailer.owners.clear(),
                items => trailer.stretches.push(OwnedStretch { owner: 0, first_chunk: seed >> 20, items }),
            }
            trailer
        })
    }

    #[test]
    fn a_pack_tells_where_its_frames_are() {
        let frame = |stored_bytes, items| FrameEntry { stored_bytes, items, codec: Codec::Zstd, sha256: [7; 32] };
        let trailer = Trailer { frames: vec![frame(100, 16), frame(50, 3)], ..Trailer::default() };
        let places: Vec<FramePlace> = trailer.places().collect();
        assert_eq!((places[0].stored.clone(), places[0].items.clone()), (8..108, 0..16));
        assert_eq!((places[1].stored.clone(), places[1].items.clone()), (108..158, 16..19));
        assert_eq!(trailer.stored_bytes(), 150);
    }

    #[test]
    fn a_footer_belongs_to_one_name_one_kind_and_one_trailer() {
        let footer = Footer::new(KEY, PackKind::Chunks, b"trailer", 3).unwrap();
        let read = Footer::parse(footer.encode()).unwrap();
        assert_eq!(read, footer);
        assert_eq!(read.verify(KEY, PackKind::Chunks.header(), b"trailer"), Ok(()));
        assert_eq!(read.verify("packs/x/000001.pack", PackKind::Chunks.header(), b"trailer"), Err(Fault::Digest));
        assert_eq!(read.verify(KEY, PackKind::Maps.header(), b"trailer"), Err(Fault::Digest));
        assert_eq!(read.verify(KEY, PackKind::Chunks.header(), b"trailes"), Err(Fault::Digest));
    }

    #[test]
    fn every_byte_of_header_trailer_and_footer_counts() {
        let trailer = b"trailer";
        let whole = |kind: PackKind| {
            let footer = Footer::new(KEY, kind, trailer, 3).unwrap();
            [kind.header().as_slice(), trailer, &footer.encode()].concat()
        };
        let check = |bytes: &[u8]| -> Result<(), Fault> {
            let header = *bytes.first_chunk().unwrap();
            PackKind::parse(header)?;
            let footer = Footer::parse(*bytes.last_chunk().unwrap())?;
            footer.verify(KEY, header, &bytes[HEADER_BYTES..bytes.len() - FOOTER_BYTES])
        };
        let good = whole(PackKind::Chunks);
        assert_eq!(check(&good), Ok(()));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(check(&bad).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut header = PackKind::Chunks.header();
        header[4] = 2;
        assert_eq!(PackKind::parse(header), Err(Fault::Version(2)));
    }

    #[test]
    fn a_trailer_that_promises_too_much_is_refused_before_room_is_made_for_it() {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, 1);
        varint::put(&mut bytes, 10);
        varint::put(&mut bytes, MOST_ITEMS.into());
        bytes.extend_from_slice(&[0; 33]);
        assert_eq!(Trailer::parse(&bytes), Err(Fault::CutOff));
        let mut bytes = Vec::new();
        varint::put(&mut bytes, u64::from(MOST_FRAMES) + 1);
        assert_eq!(Trailer::parse(&bytes), Err(Fault::Bound { what: "the number of frames" }));
    }

    proptest! {
        #[test]
        fn trailers_survive_a_round_trip(trailer in trailers()) {
            prop_assert_eq!(Trailer::parse(&trailer.encode()), Ok(trailer));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Trailer::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_never_makes_it_panic(trailer in trailers(), at: prop::sample::Index, to: u8) {
            let mut bytes = trailer.encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Trailer::parse(&bytes);
        }
    }
}
