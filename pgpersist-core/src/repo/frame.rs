//! Compressing and decompressing frames: each by itself, so that any can be read alone, and never a byte more than was put in.

use std::time::{Duration, Instant};

use crate::repo::fault::Fault;
use crate::repo::trailer::{Codec, MOST_FRAME_BYTES};

/// How new frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// zstd of this level, 1 to 19. On pages, levels above 1 take twice the time for hardly a byte.
    Zstd(i32),
    /// lz4: half as good, for machines that are short of processors.
    Lz4,
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(1)
    }
}

/// Compresses frames one after another; what a context costs is paid once.
pub struct Compressor {
    compression: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// What it compresses into: as long as the longest frame may become, and written to again and again, while room behind what was written
    /// already would have to be cleared for each.
    scratch: Vec<u8>,
    spent: Duration,
}

impl Compressor {
    /// One for this kind of compression.
    ///
    /// # Errors
    /// `Compression` when there is no memory for it, or no such level.
    pub fn new(compression: Compression) -> Result<Self, Fault> {
        let zstd = match compression {
            Compression::Zstd(level) => Some(zstd::bulk::Compressor::new(level).map_err(|_| Fault::Compression)?),
            Compression::Plain | Compression::Lz4 => None,
        };
        Ok(Self { compression, zstd, scratch: Vec::new(), spent: Duration::ZERO })
    }

    /// How long it has compressed since this was asked last.
    pub fn take_spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }

    /// Appends the frame to `out`; as it is, where compressing it saves nothing.
    ///
    /// # Errors
    /// `Compression`, `Bound`.
    pub fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<Codec, Fault> {
        let began = Instant::now();
        let codec = self.append(raw, out);
        self.spent += began.elapsed();
        codec
    }

    fn append(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<Codec, Fault> {
        if raw.len() > MOST_FRAME_BYTES as usize {
            return Err(Fault::Bound { what: "the content of a frame" });
        }
        let scratch = &mut self.scratch;
        let mut make_room = |bytes: usize| scratch.resize(scratch.len().max(bytes), 0);
        let (codec, bytes) = match (self.compression, &mut self.zstd) {
            (Compression::Lz4, _) => {
                make_room(lz4_flex::block::get_maximum_output_size(raw.len()));
                (Codec::Lz4, lz4_flex::block::compress_into(raw, scratch).map_err(|_| Fault::Compression)?)
            }
            (Compression::Zstd(_), Some(zstd)) => {
                make_room(zstd::zstd_safe::compress_bound(raw.len()));
                (Codec::Zstd, zstd.compress_to_buffer(raw, scratch.as_mut_slice()).map_err(|_| Fault::Compression)?)
            }
            _ => (Codec::Plain, raw.len()),
        };
        if codec == Codec::Plain || bytes >= raw.len() {
            out.extend_from_slice(raw);
            return Ok(Codec::Plain);
        }
        out.extend_from_slice(&scratch[..bytes]);
        Ok(codec)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Compressor").field("compression", &self.compression).finish_non_exhaustive()
    }
}

/// Decompresses frames one after another; what a context costs is paid once.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// Makes a frame's content, which is as long as `out`: anything else is damage.
    ///
    /// # Errors
    /// `Compression`, `Bound`.
    pub fn decompress(&mut self, codec: Codec, stored: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        if out.len() > MOST_FRAME_BYTES as usize {
            return Err(Fault::Bound { what: "the content of a frame" });
        }
        let made = match codec {
            Codec::Plain => {
                if stored.len() == out.len() {
                    out.copy_from_slice(stored);
                }
                stored.len()
            }
            Codec::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| Fault::Compression)?),
                };
                zstd.decompress_to_buffer(stored, out).map_err(|_| Fault::Compression)?
            }
            Codec::Lz4 => lz4_flex::block::decompress_into(stored, out).map_err(|_| Fault::Compression)?,
        };
        if made == out.len() { Ok(()) } else { Err(Fault::Compression) }
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// The frame's content, which has `raw_bytes` bytes: anything else is damage, and nothing longer is ever made.
///
/// # Errors
/// `Compression`, `Bound`.
pub fn decompress(codec: Codec, stored: &[u8], raw_bytes: u32) -> Result<Vec<u8>, Fault> {
    if raw_bytes > MOST_FRAME_BYTES {
        return Err(Fault::Bound { what: "the content of a frame" });
    }
    let mut raw = vec![0; raw_bytes as usize];
    Decompressor::default().decompress(codec, stored, &mut raw)?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> [Compression; 4] {
        [Compression::Plain, Compression::Zstd(1), Compression::Zstd(9), Compression::Lz4]
    }

    #[test]
    fn what_does_not_shrink_is_kept_as_it_is() {
        let noise: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut compressor = Compressor::new(Compression::Zstd(1)).unwrap();
        let mut out = b"before".to_vec();
        let codec = compressor.compress(&noise[..3], &mut out).unwrap();
        assert_eq!((codec, out.as_slice()), (Codec::Plain, [b"before", &noise[..3]].concat().as_slice()));
    }

    #[test]
    fn a_bomb_is_never_unpacked() {
        let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap();
        assert!(bomb.len() < 2000);
        assert_eq!(decompress(Codec::Zstd, &bomb, 8192), Err(Fault::Compression));
        assert_eq!(decompress(Codec::Zstd, &bomb, u32::MAX), Err(Fault::Bound { what: "the content of a frame" }));
        let bomb = lz4_flex::block::compress(&vec![0; 8 << 20]);
        assert_eq!(decompress(Codec::Lz4, &bomb, 8192), Err(Fault::Compression));
    }

    proptest! {
        #[test]
        fn frames_survive_a_round_trip(raw in proptest::collection::vec(0..4_u8, 0..20_000), which in 0..4_usize) {
            let mut compressor = Compressor::new(all()[which]).unwrap();
            let mut out = Vec::new();
            let codec = compressor.compress(&raw, &mut out).unwrap();
            prop_assert_eq!(decompress(codec, &out, raw.len() as u32), Ok(raw.clone()));
            // A length that is not the frame's own is damage.
            prop_assert!(decompress(codec, &out, raw.len() as u32 + 1).is_err());
            if !raw.is_empty() {
                prop_assert!(decompress(codec, &out, raw.len() as u32 - 1).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(stored in proptest::collection::vec(any::<u8>(), 0..200), raw_bytes in 0..20_000_u32) {
            for codec in [Codec::Plain, Codec::Zstd, Codec::Lz4] {
                let _ = decompress(codec, &stored, raw_bytes);
            }
        }
    }
}
