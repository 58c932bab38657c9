//! [`OpenPack`]: what a pack in the store holds, and its frames, each held against its hash before anything is made of it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::repo::fault::Fault;
use crate::repo::frame::Decompressor;
use crate::repo::layout;
use crate::repo::names::PackName;
use crate::repo::repository::Repository;
use crate::repo::sealing::RunKeys;
use crate::repo::trailer::{FOOTER_BYTES, Footer, FramePlace, HEADER_BYTES, MOST_FRAME_BYTES, PackKind, Trailer};
use crate::workers;

/// How much of a pack's end is read at first, as a part of the whole, since the trailer of most packs is within it: 18.6 bytes a page, of a
/// page's two or three kilobytes. Of a small pack no more than that either: it may be one of very many.
const TAIL_PART: u64 = 32;
/// The least of it, and the most.
const TAIL_BYTES: std::ops::RangeInclusive<u64> = 4 * 1024..=512 * 1024;

/// A pack whose trailer was read and is what was written. A clone is cheap: whoever decompresses a frame elsewhere takes one along.
#[derive(Debug, Clone)]
pub struct OpenPack {
    /// Which one.
    pub name: PackName,
    /// What it holds.
    pub trailer: Arc<Trailer>,
    /// What its footer says of all but the frames; a manifest's list of packs says the same.
    pub digest: [u8; 32],
    /// Its length.
    pub size: u64,
    /// What it is for.
    pub kind: PackKind,
    /// What opens it, where it is encrypted.
    keys: Option<Arc<RunKeys>>,
    places: Arc<[FramePlace]>,
}

/// The end of a pack as it lies in the store, held against its digest: a key is needed only to read it.
struct End {
    kind: PackKind,
    footer: Footer,
    trailer: Bytes,
    /// Where the trailer begins.
    at: u64,
    size: u64,
}

impl End {
    async fn read(repository: &Repository, name: PackName) -> Result<Self> {
        let below = layout::pack(name);
        let key = repository.key(&below)?;
        let store = repository.store();
        let size = store.head(&key).await?.size_bytes;
        let wrong = |fault| repository.wrong(&below, fault);
        let from = size.saturating_sub((size / TAIL_PART).clamp(*TAIL_BYTES.start(), *TAIL_BYTES.end()));
        let mut tail = store.get_range(&key, from..size).await?;
        if tail.len() as u64 != size - from {
            return Err(wrong(Fault::CutOff));
        }
        let footer = Footer::parse(*tail.last_chunk().ok_or_else(|| wrong(Fault::CutOff))?).map_err(wrong)?;
        let behind = footer.trailer_bytes as usize + FOOTER_BYTES;
        let at = size.checked_sub(behind as u64).filter(|at| *at >= HEADER_BYTES as u64).ok_or_else(|| wrong(Fault::CutOff))?;
        if tail.len() < behind {
            tail = store.get_range(&key, at..size).await?;
        }
        let start = tail.len().checked_sub(behind).ok_or_else(|| wrong(Fault::CutOff))?;
        let header = store.get_range(&key, 0..HEADER_BYTES as u64).await?;
        let header: [u8; HEADER_BYTES] = header.as_ref().try_into().map_err(|_| wrong(Fault::CutOff))?;
        let (trailer, key_text) = (tail.slice(start..tail.len() - FOOTER_BYTES), below.clone());
        let held = trailer.clone();
        let looked = workers::run(move || {
            let look = || -> Result<PackKind, Fault> {
                let kind = PackKind::parse(header)?;
                footer.verify(&key_text, header, &held)?;
                Ok(kind)
            };
            Ok(look())
        });
        let kind = looked.await?.map_err(wrong)?;
        Ok(Self { kind, footer, trailer, at, size })
    }
}

/// Looks at a pack as far as that goes without a key: header, trailer and footer. Tells its length.
///
/// # Errors
/// As [`OpenPack::read`].
pub async fn look_at_end(repository: &Repository, name: PackName) -> Result<u64> {
    End::read(repository, name).await.map(|end| end.size)
}

/// A pack's length and the digest in its footer, which are those that its record has unless something was done to it: enough to see that it
/// is there, at the price of 48 bytes.
///
/// # Errors
/// As [`OpenPack::read`].
pub async fn glance_at(repository: &Repository, name: PackName) -> Result<(u64, [u8; 32])> {
    let below = layout::pack(name);
    let key = repository.key(&below)?;
    let size = repository.store().head(&key).await?.size_bytes;
    let wrong = |fault| repository.wrong(&below, fault);
    let from = size.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| wrong(Fault::CutOff))?;
    let footer = repository.store().get_range(&key, from..size).await?;
    let footer = Footer::parse(*footer.last_chunk().ok_or_else(|| wrong(Fault::CutOff))?).map_err(wrong)?;
    Ok((size, footer.digest))
}

impl OpenPack {
    /// Reads what a pack holds.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` when anything but the frames is not what was written; `Denied` when it is encrypted, and nothing at hand opens
    /// it; what the store says.
    pub async fn read(repository: &Repository, name: PackName) -> Result<Self> {
        let end = End::read(repository, name).await?;
        let keys = repository.keys_of(name.run).await?;
        let (bytes, opening) = (end.trailer, keys.clone());
        let parsed = workers::run(move || {
            Ok(match opening {
                Some(keys) => keys.open_trailer(name, &bytes).and_then(|bytes| Trailer::parse(&bytes)),
                None => Trailer::parse(&bytes),
            })
        });
        let wrong = |fault| repository.wrong(&layout::pack(name), fault);
        let trailer = parsed.await?.map_err(wrong)?;
        if trailer.ids.len() as u64 != u64::from(end.footer.items) || HEADER_BYTES as u64 + trailer.stored_bytes() != end.at {
            return Err(wrong(Fault::NotCanonical));
        }
        let places = trailer.places().collect();
        Ok(Self { name, kind: end.kind, trailer: Arc::new(trailer), digest: end.footer.digest, size: end.size, keys, places })
    }

    /// Whether its frames can be read, rather than held against their hashes alone.
    pub fn opens(&self) -> bool {
        self.kind == PackKind::Maps || self.keys.as_ref().is_none_or(|keys| keys.open_data())
    }

    /// Where the frame lies that holds an item.
    pub fn frame_of(&self, item: u32) -> Option<&FramePlace> {
        let at = self.places.partition_point(|place| place.items.end <= item);
        self.places.get(at)
    }

    /// Where all frames lie.
    pub fn places(&self) -> &[FramePlace] {
        &self.places
    }

    /// What a frame holds: its bytes as they lie in the store are held against their hash, decrypted where they are encrypted, and
    /// decompressed. Blocking.
    ///
    /// # Errors
    /// `Digest`, `Sealed`, `Compression`.
    pub fn open_frame(&self, place: &FramePlace, stored: &[u8], decompressor: &mut Decompressor) -> Result<Frame, Fault> {
        let lengths = self.lengths(place);
        let bytes: u32 = lengths.iter().sum();
        if bytes > MOST_FRAME_BYTES {
            return Err(Fault::Bound { what: "the content of a frame" });
        }
        let mut content = vec![0; bytes as usize];
        self.open_frame_into(place, stored, decompressor, &mut content)?;
        Ok(Frame { items: place.items.clone(), lengths: lengths.to_vec(), content: content.into() })
    }

    /// The same in a place that is as long as all items of the frame together.
    ///
    /// # Errors
    /// As [`open_frame`](Self::open_frame).
    pub fn open_frame_into(&self, place: &FramePlace, stored: &[u8], decompressor: &mut Decompressor, out: &mut [u8]) -> Result<(), Fault> {
        self.hold(place, stored)?;
        let opened = match &self.keys {
            Some(keys) => {
                let number = u32::try_from(place.frame).map_err(|_| Fault::Bound { what: "the number of frames" })?;
                Some(keys.open_frame(self.kind, self.name, number, stored)?)
            }
            None => None,
        };
        decompressor.decompress(self.trailer.frames[place.frame].codec, opened.as_deref().unwrap_or(stored), out)
    }

    /// How long each item of a frame is.
    pub fn lengths(&self, place: &FramePlace) -> &[u32] {
        &self.trailer.lengths[place.items.start as usize..place.items.end as usize]
    }

    /// Holds a frame as it lies in the store against its hash, as far as that goes without what opens it. Blocking.
    ///
    /// # Errors
    /// `Digest`.
    pub fn hold(&self, place: &FramePlace, stored: &[u8]) -> Result<(), Fault> {
        let is_it = <[u8; 32]>::from(Sha256::digest(stored)) == self.trailer.frames[place.frame].sha256;
        if is_it { Ok(()) } else { Err(Fault::Digest) }
    }

    /// Reads a frame from the store.
    ///
    /// # Errors
    /// `Damaged`; `Denied` when it is encrypted, and nothing at hand opens it; what the store says.
    pub async fn read_frame(&self, repository: &Repository, place: &FramePlace) -> Result<Frame> {
        if !self.opens() {
            return Err(repository.no_key(self.name.run).await);
        }
        let below = layout::pack(self.name);
        let stored = repository.store().get_range(&repository.key(&below)?, place.stored.clone()).await?;
        let (pack, place) = (self.clone(), place.clone());
        let opened = workers::run(move || Ok(pack.open_frame(&place, &stored, &mut Decompressor::default()))).await?;
        opened.map_err(|fault| repository.wrong(&below, fault))
    }
}

/// What a frame holds.
#[derive(Debug, Clone)]
pub struct Frame {
    items: Range<u32>,
    lengths: Vec<u32>,
    content: Bytes,
}

impl Frame {
    /// One of its items, without a copy.
    pub fn item(&self, number: u32) -> Option<Bytes> {
        let at = number.checked_sub(self.items.start)? as usize;
        let length = *self.lengths.get(at)? as usize;
        let start: usize = self.lengths[..at].iter().map(|length| *length as usize).sum();
        Some(self.content.slice(start..start + length))
    }
}
