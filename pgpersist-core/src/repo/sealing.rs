//! [`RunKeys`]: the two keys that a run seals what it writes with, and where in it each thing is sealed.
//!
//! With the *data key* the frames of chunks, with the *index key* all else: what the next backup must read. Both are of this run alone.
//! A place is told by the number of the pack, the number of the frame and what it is, so none is used twice; the key below the
//! repository's folder is bound to it besides. So nothing that was sealed opens anywhere else.

use std::fmt;

use zeroize::Zeroizing;

use crate::encryption::sealing_key::{KEY_BYTES, PLACE_BYTES, SealingKey, TAG_BYTES};
use crate::error::Result;
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::names::{PackName, RunName};
use crate::repo::trailer::PackKind;

/// How many bytes the keys of a run have when they are wrapped.
pub const WRAPPED_KEYS_BYTES: usize = 2 * KEY_BYTES;

const FRAME: u32 = 1;
const TRAILER: u32 = 2;
const MANIFEST: u32 = 3;

/// How many bytes stand before a sealed manifest: a part of its place, by chance.
const MANIFEST_NONCE_BYTES: usize = PLACE_BYTES - 4;

/// The keys of a run, as far as they are at hand.
pub struct RunKeys {
    data: Option<SealingKey>,
    index: SealingKey,
}

impl RunKeys {
    /// For a run that begins: a new data key.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no random bytes.
    pub fn begin(index: SealingKey) -> Result<Self> {
        Ok(Self { data: Some(SealingKey::generate()?), index })
    }

    /// For whoever has the index key alone.
    pub fn of_index(index: SealingKey) -> Self {
        Self { data: None, index }
    }

    /// Whether what is in files can be read.
    pub fn open_data(&self) -> bool {
        self.data.is_some()
    }

    /// Both, to be wrapped; nothing without the data key.
    pub(super) fn expose(&self) -> Option<Zeroizing<[u8; WRAPPED_KEYS_BYTES]>> {
        let mut both = Zeroizing::new([0; WRAPPED_KEYS_BYTES]);
        both[..KEY_BYTES].copy_from_slice(self.data.as_ref()?.expose());
        both[KEY_BYTES..].copy_from_slice(self.index.expose());
        Some(both)
    }

    /// Both, unwrapped; nothing where these are no keys.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (data, index) = bytes.split_first_chunk::<KEY_BYTES>()?;
        let index: [u8; KEY_BYTES] = index.try_into().ok()?;
        Some(Self { data: Some(SealingKey::from_bytes(Zeroizing::new(*data))), index: SealingKey::from_bytes(Zeroizing::new(index)) })
    }

    fn of_frames(&self, kind: PackKind) -> Option<&SealingKey> {
        match kind {
            PackKind::Chunks => self.data.as_ref(),
            PackKind::Maps => Some(&self.index),
        }
    }

    /// Seals what stands in `out` from `start` on as the frame of this number.
    ///
    /// # Errors
    /// `Sealed` without the data key, where it takes that.
    pub fn seal_frame(&self, kind: PackKind, pack: PackName, frame: u32, out: &mut Vec<u8>, start: usize) -> Result<(), Fault> {
        let key = self.of_frames(kind).ok_or(Fault::Sealed)?;
        seal(key, place(pack.number, frame, FRAME), &layout::pack(pack), out, start)
    }

    /// What was sealed as the frame of this number.
    ///
    /// # Errors
    /// `Sealed`.
    pub fn open_frame(&self, kind: PackKind, pack: PackName, frame: u32, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
        let key = self.of_frames(kind).ok_or(Fault::Sealed)?;
        key.open(place(pack.number, frame, FRAME), layout::pack(pack).as_bytes(), sealed).ok_or(Fault::Sealed)
    }

    /// Seals the trailer of a pack.
    ///
    /// # Errors
    /// `Sealed`.
    pub fn seal_trailer(&self, pack: PackName, trailer: &mut Vec<u8>) -> Result<(), Fault> {
        seal(&self.index, place(pack.number, 0, TRAILER), &layout::pack(pack), trailer, 0)
    }

    /// The trailer of a pack.
    ///
    /// # Errors
    /// `Sealed`.
    pub fn open_trailer(&self, pack: PackName, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
        self.index.open(place(pack.number, 0, TRAILER), layout::pack(pack).as_bytes(), sealed).ok_or(Fault::Sealed)
    }

    /// The body of a manifest, sealed. Whoever publishes again after a failure may say something else: so a part of its place is random.
    ///
    /// # Errors
    /// `Sealed`.
    pub fn seal_manifest(&self, run: RunName, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let random: [u8; MANIFEST_NONCE_BYTES] = rand::random();
        let mut out = [random.as_slice(), body].concat();
        seal(&self.index, manifest_place(random), &layout::manifest(run), &mut out, MANIFEST_NONCE_BYTES)?;
        Ok(out)
    }

    /// What was sealed as the body of a manifest.
    ///
    /// # Errors
    /// `Sealed`.
    pub fn open_manifest(&self, run: RunName, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
        let (random, sealed) = sealed.split_first_chunk().ok_or(Fault::CutOff)?;
        self.index.open(manifest_place(*random), layout::manifest(run).as_bytes(), sealed).ok_or(Fault::Sealed)
    }
}

impl fmt::Debug for RunKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RunKeys").field("open_data", &self.open_data()).finish_non_exhaustive()
    }
}

fn place(pack: u32, frame: u32, what: u32) -> [u8; PLACE_BYTES] {
    let mut place = [0; PLACE_BYTES];
    place[..4].copy_from_slice(&pack.to_le_bytes());
    place[4..8].copy_from_slice(&frame.to_le_bytes());
    place[8..].copy_from_slice(&what.to_le_bytes());
    place
}

fn manifest_place(random: [u8; MANIFEST_NONCE_BYTES]) -> [u8; PLACE_BYTES] {
    let mut place = place(0, 0, MANIFEST);
    place[..MANIFEST_NONCE_BYTES].copy_from_slice(&random);
    place
}

fn seal(key: &SealingKey, place: [u8; PLACE_BYTES], name: &str, out: &mut Vec<u8>, start: usize) -> Result<(), Fault> {
    let content = out.get_mut(start..).ok_or(Fault::CutOff)?;
    let tag: [u8; TAG_BYTES] = key.seal(place, name.as_bytes(), content).map_err(|_| Fault::Sealed)?;
    out.extend_from_slice(&tag);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn run(last: u8) -> RunName {
        RunName::new(datetime!(2026-02-08 09:33:16 UTC), [1, 2, 3, last])
    }

    fn pack(number: u32) -> PackName {
        PackName { run: run(4), number }
    }

    fn keys() -> RunKeys {
        RunKeys::begin(SealingKey::generate().unwrap()).unwrap()
    }

    fn frame(keys: &RunKeys, kind: PackKind, pack: PackName, number: u32, content: &[u8]) -> Vec<u8> {
        let mut out = [b"before", content].concat();
        keys.seal_frame(kind, pack, number, &mut out, 6).unwrap();
        assert_eq!(&out[..6], b"before");
        out.split_off(6)
    }

    #[test]
    fn a_frame_opens_at_its_place_alone() {
        let keys = keys();
        for kind in [PackKind::Chunks, PackKind::Maps] {
            let sealed = frame(&keys, kind, pack(1), 2, b"page");
            assert_eq!(keys.open_frame(kind, pack(1), 2, &sealed), Ok(b"page".to_vec()));
            assert_eq!(keys.open_frame(kind, pack(1), 3, &sealed), Err(Fault::Sealed));
            assert_eq!(keys.open_frame(kind, pack(2), 2, &sealed), Err(Fault::Sealed));
            assert_eq!(keys.open_frame(kind, PackName { run: run(5), number: 1 }, 2, &sealed), Err(Fault::Sealed));
            assert_eq!(keys.open_trailer(pack(1), &sealed), Err(Fault::Sealed));
        }
        let of_chunks = frame(&keys, PackKind::Chunks, pack(1), 2, b"page");
        assert_eq!(keys.open_frame(PackKind::Maps, pack(1), 2, &of_chunks), Err(Fault::Sealed));
    }

    #[test]
    fn the_index_key_opens_names_and_no_page() {
        let whole = keys();
        let index = RunKeys::of_index(SealingKey::from_bytes(Zeroizing::new(*whole.index.expose())));
        assert!(whole.open_data() && !index.open_data() && index.expose().is_none());
        let (page, leaf) = (frame(&whole, PackKind::Chunks, pack(0), 0, b"page"), frame(&whole, PackKind::Maps, pack(1), 0, b"leaf"));
        assert_eq!(index.open_frame(PackKind::Maps, pack(1), 0, &leaf), Ok(b"leaf".to_vec()));
        assert_eq!(index.open_frame(PackKind::Chunks, pack(0), 0, &page), Err(Fault::Sealed));
        assert_eq!(index.seal_frame(PackKind::Chunks, pack(0), 1, &mut Vec::new(), 0), Err(Fault::Sealed));
        let mut trailer = b"trailer".to_vec();
        whole.seal_trailer(pack(0), &mut trailer).unwrap();
        assert_eq!(index.open_trailer(pack(0), &trailer), Ok(b"trailer".to_vec()));
        assert_eq!(index.open_trailer(pack(1), &trailer), Err(Fault::Sealed));
    }

    #[test]
    fn a_manifest_that_is_sealed_twice_is_never_sealed_alike() {
        let keys = keys();
        let (one, two) = (keys.seal_manifest(run(4), b"body").unwrap(), keys.seal_manifest(run(4), b"body").unwrap());
        assert_ne!(one, two);
        for sealed in [&one, &two] {
            assert_eq!(keys.open_manifest(run(4), sealed), Ok(b"body".to_vec()));
            assert_eq!(keys.open_manifest(run(5), sealed), Err(Fault::Sealed));
        }
        assert_eq!(keys.open_manifest(run(4), &one[..7]), Err(Fault::CutOff));
    }

    #[test]
    fn keys_survive_being_wrapped_and_are_never_shown() {
        let keys = keys();
        let bytes = keys.expose().unwrap();
        let again = RunKeys::from_bytes(&*bytes).unwrap();
        let sealed = frame(&keys, PackKind::Chunks, pack(0), 0, b"page");
        assert_eq!(again.open_frame(PackKind::Chunks, pack(0), 0, &sealed), Ok(b"page".to_vec()));
        assert_eq!(format!("{keys:?}"), "RunKeys { open_data: true, .. }");
        for wrong in [&bytes[..63], &[], &[bytes.as_slice(), b"x"].concat()] {
            assert!(RunKeys::from_bytes(wrong).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_open(bytes: Vec<u8>) {
            let keys = keys();
            prop_assert!(keys.open_frame(PackKind::Maps, pack(0), 0, &bytes).is_err());
            prop_assert!(keys.open_trailer(pack(0), &bytes).is_err());
            prop_assert!(keys.open_manifest(run(4), &bytes).is_err());
        }
    }
}
