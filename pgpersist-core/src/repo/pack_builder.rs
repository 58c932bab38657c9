//! [`PackBuilder`]: items in, a pack's bytes out, as they come. One frame is in memory, and 20 bytes for each item.

use std::mem;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::repo::fault::Fault;
use crate::repo::frame::Compressor;
use crate::repo::identity::ItemId;
use crate::repo::layout;
use crate::repo::names::{PackName, Place};
use crate::repo::sealing::RunKeys;
use crate::repo::trailer::{
    FOOTER_BYTES, Footer, FrameEntry, HEADER_BYTES, MOST_FRAME_BYTES, MOST_FRAMES, MOST_ITEMS, OwnedStretch, PackKind, Trailer,
};

/// How much content a frame gathers before it is closed. Small, since whoever wants one page reads a frame, and since zstd is
/// fastest where both fit into a processor's second cache; above 128 KiB, since up to there zstd takes smaller tables.
pub const FRAME_TARGET_BYTES: usize = 192 * 1024;

/// Whose an item is.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The file, relative to the data directory.
    pub path: &'a [u8],
    /// Which of its chunks.
    pub chunk: u64,
}

/// What is known of a pack that was written; a line in a list of packs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRecord {
    /// Which one.
    pub pack: PackName,
    /// Its length.
    pub size: u64,
    /// Its digest, which stands in its footer, too.
    #[serde(with = "hex")]
    pub digest: [u8; 32],
    /// How long its items are together, before they were compressed.
    pub bytes: u64,
    /// How much of that the backup uses that names it.
    pub used: u64,
}

impl PackRecord {
    /// How much of it is used, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.bytes == 0 { 1.0 } else { (self.used as f64 / self.bytes as f64).min(1.0) }
    }
}

/// A pack in the making.
#[derive(Debug)]
pub struct PackBuilder {
    name: PackName,
    kind: PackKind,
    trailer: Trailer,
    /// The content of the frame that is gathered.
    gathered: Vec<u8>,
    gathered_items: u32,
    stored_bytes: u64,
    /// What frames and trailer are sealed with, where they are.
    keys: Option<Arc<RunKeys>>,
}

impl PackBuilder {
    /// Begins a pack.
    pub fn begin(name: PackName, kind: PackKind, out: &mut Vec<u8>) -> Self {
        Self::begin_sealed(name, kind, None, out)
    }

    /// Begins a pack that is sealed with the keys of its run, where there are any.
    pub fn begin_sealed(name: PackName, kind: PackKind, keys: Option<Arc<RunKeys>>, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&kind.header());
        Self {
            name,
            kind,
            trailer: Trailer::default(),
            gathered: Vec::with_capacity(FRAME_TARGET_BYTES + 8192),
            gathered_items: 0,
            stored_bytes: HEADER_BYTES as u64,
            keys,
        }
    }

    /// Takes an item, and tells where it will lie. Items that are large get a frame of their own.
    ///
    /// # Errors
    /// `Bound` for an item larger than a frame may be, or when the pack has no room: [`finish`](Self::finish) it earlier.
    pub fn add(
        &mut self,
        item: &[u8],
        id: ItemId,
        owner: Option<Owner<'_>>,
        compressor: &mut Compressor,
        out: &mut Vec<u8>,
    ) -> Result<Place, Fault> {
        let number = u32::try_from(self.trailer.ids.len()).map_err(|_| Fault::Bound { what: "the number of items" })?;
        let length = u32::try_from(item.len()).ok().filter(|length| (1..=MOST_FRAME_BYTES).contains(length));
        let length = length.ok_or(Fault::Bound { what: "the length of an item" })?;
        if number >= MOST_ITEMS || self.trailer.frames.len() >= MOST_FRAMES as usize {
            return Err(Fault::Bound { what: "the number of items" });
        }
        if self.gathered.len() + item.len() > FRAME_TARGET_BYTES {
            self.close_frame(compressor, out)?;
        }
        self.gathered.extend_from_slice(item);
        self.gathered_items += 1;
        self.trailer.lengths.push(length);
        self.trailer.ids.push(id);
        if let Some(owner) = owner {
            self.note(owner);
        }
        if self.gathered.len() >= FRAME_TARGET_BYTES {
            self.close_frame(compressor, out)?;
        }
        Ok(Place { pack: self.name, item: number })
    }

    fn note(&mut self, owner: Owner<'_>) {
        // Files come one after another, so the last one is the one, most times.
        if self.trailer.owners.last().is_none_or(|last| last != owner.path) {
            self.trailer.owners.push(owner.path.to_vec());
        }
        let which = (self.trailer.owners.len() - 1) as u32;
        match self.trailer.stretches.last_mut() {
            Some(last) if last.owner == which && last.first_chunk + u64::from(last.items) == owner.chunk => last.items += 1,
            _ => self.trailer.stretches.push(OwnedStretch { owner: which, first_chunk: owner.chunk, items: 1 }),
        }
    }

    fn close_frame(&mut self, compressor: &mut Compressor, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.gathered_items == 0 {
            return Ok(());
        }
        let start = out.len();
        let codec = compressor.compress(&self.gathered, out)?;
        if let Some(keys) = &self.keys {
            let number = u32::try_from(self.trailer.frames.len()).map_err(|_| Fault::Bound { what: "the number of frames" })?;
            keys.seal_frame(self.kind, self.name, number, out, start)?;
        }
        let stored = &out[start..];
        self.trailer.frames.push(FrameEntry {
            stored_bytes: u32::try_from(stored.len()).map_err(|_| Fault::Bound { what: "the length of a frame" })?,
            items: mem::take(&mut self.gathered_items),
            codec,
            sha256: Sha256::digest(stored).into(),
        });
        self.stored_bytes += stored.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// The bytes of all frames that are closed: when they are enough, finish the pack.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Writes what is left, the trailer and the footer.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn finish(mut self, compressor: &mut Compressor, out: &mut Vec<u8>) -> Result<PackRecord, Fault> {
        self.close_frame(compressor, out)?;
        let mut trailer = self.trailer.encode();
        if let Some(keys) = &self.keys {
            keys.seal_trailer(self.name, &mut trailer)?;
        }
        let items = self.trailer.ids.len() as u32;
        let bytes = self.trailer.bytes();
        let footer = Footer::new(&layout::pack(self.name), self.kind, &trailer, items)?;
        out.extend_from_slice(&trailer);
        out.extend_from_slice(&footer.encode());
        let size = self.stored_bytes + (trailer.len() + FOOTER_BYTES) as u64;
        Ok(PackRecord { pack: self.name, size, digest: footer.digest, bytes, used: bytes })
    }
}

/// Digests as hexadecimal text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}", Text(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        let well_made = digits.len() == 64 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !well_made {
            return Err(serde::de::Error::custom("a digest has 64 digits, 0 to f"));
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(serde::de::Error::custom)?;
            *byte = u8::from_str_radix(pair, 16).map_err(serde::de::Error::custom)?;
        }
        Ok(bytes)
    }

    struct Text<'a>(&'a [u8; 32]);

    impl std::fmt::Display for Text<'_> {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::repo::frame::{Compression, decompress};
    use crate::repo::identity::HashKey;
    use crate::repo::names::RunName;

    fn name() -> PackName {
        PackName { run: RunName::new(datetime!(2026-02-08 09:33:16 UTC), [15, 142, 125, 108]), number: 3 }
    }

    /// A pack of these items, and what `finish` told.
    fn build(items: &[Vec<u8>], compression: Compression) -> (Vec<u8>, PackRecord, Vec<Place>) {
        let key = HashKey::new([9; 32]);
        let mut compressor = Compressor::new(compression).unwrap();
        let mut out = Vec::new();
        let mut builder = PackBuilder::begin(name(), PackKind::Chunks, &mut out);
        let mut places = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let owner = Owner { path: b"base/5/1259", chunk: at as u64 };
            places.push(builder.add(item, key.identify(item), Some(owner), &mut compressor, &mut out).unwrap());
        }
        let record = builder.finish(&mut compressor, &mut out).unwrap();
        (out, record, places)
    }

    /// Reads a pack the way FORMAT.md tells, from its end.
    fn read(bytes: &[u8]) -> (Footer, Trailer, Vec<Vec<u8>>) {
        let header = *bytes.first_chunk().unwrap();
        assert_eq!(PackKind::parse(header), Ok(PackKind::Chunks));
        let footer = Footer::parse(*bytes.last_chunk().unwrap()).unwrap();
        let end = bytes.len() - FOOTER_BYTES;
        let raw = &bytes[end - footer.trailer_bytes as usize..end];
        footer.verify(&layout::pack(name()), header, raw).unwrap();
        let trailer = Trailer::parse(raw).unwrap();
        let mut items = Vec::new();
        for place in trailer.places() {
            let frame = &trailer.frames[place.frame];
            let stored = &bytes[place.stored.start as usize..place.stored.end as usize];
            assert_eq!(<[u8; 32]>::from(Sha256::digest(stored)), frame.sha256);
            let lengths = &trailer.lengths[place.items.start as usize..place.items.end as usize];
            let content = decompress(frame.codec, stored, lengths.iter().sum()).unwrap();
            let mut rest = content.as_slice();
            for length in lengths {
                let (item, behind) = rest.split_at(*length as usize);
                items.push(item.to_vec());
                rest = behind;
            }
        }
        assert_eq!(trailer.stored_bytes() as usize, end - raw.len() - HEADER_BYTES);
        (footer, trailer, items)
    }

    #[test]
    fn a_pack_gives_back_what_was_put_in() {
        let items: Vec<Vec<u8>> = (0..100_u8).map(|at| vec![at; 8192]).collect();
        let (bytes, record, places) = build(&items, Compression::default());
        assert_eq!((record.size as usize, record.pack), (bytes.len(), name()));
        assert_eq!(places.iter().map(|place| place.item).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        let (footer, trailer, read) = read(&bytes);
        assert_eq!((read, footer.digest, footer.items), (items, record.digest, 100));
        // 24 pages a frame; one file, in one stretch.
        assert_eq!(trailer.frames.len(), 5);
        assert_eq!(trailer.stretches, [OwnedStretch { owner: 0, first_chunk: 0, items: 100 }]);
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<PackRecord>(&json).unwrap(), record);
    }

    #[test]
    fn an_empty_item_is_none_and_one_larger_than_a_frame_is_refused() {
        let mut compressor = Compressor::new(Compression::Plain).unwrap();
        let mut out = Vec::new();
        let mut builder = PackBuilder::begin(name(), PackKind::Maps, &mut out);
        for item in [Vec::new(), vec![0; MOST_FRAME_BYTES as usize + 1]] {
            let refused = builder.add(&item, ItemId([0; 16]), None, &mut compressor, &mut out);
            assert_eq!(refused, Err(Fault::Bound { what: "the length of an item" }));
        }
    }

    proptest! {
        #[test]
        fn items_of_all_lengths_survive(
            items in proptest::collection::vec(proptest::collection::vec(0..3_u8, 1..60_000), 0..12), which in 0..3_usize,
        ) {
            let (bytes, record, _) = build(&items, [Compression::Plain, Compression::Zstd(1), Compression::Lz4][which]);
            let (footer, _, read) = read(&bytes);
            prop_assert_eq!(read, items);
            prop_assert_eq!(footer.digest, record.digest);
        }
    }
}
