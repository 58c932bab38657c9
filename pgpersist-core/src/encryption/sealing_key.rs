//! [`SealingKey`]: many things under one key, each at a place of its own, to be opened one by one. Age's streams are read from their
//! beginning; this is for what is read from its middle.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::encryption::file_key::{derive, random};
use crate::error::{Error, Result};

/// How long a key is.
pub const KEY_BYTES: usize = 32;
/// How long a place is.
pub const PLACE_BYTES: usize = NONCE_LEN;
/// What something sealed is longer than its content.
pub const TAG_BYTES: usize = 16;

/// A key of AES-256-GCM. Prints as nothing.
pub struct SealingKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    key: LessSafeKey,
}

impl SealingKey {
    /// A new one, by chance.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        random().map(Self::from_bytes)
    }

    /// The key with these bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*bytes).expect("a key of AES-256 has 32 bytes"));
        Self { bytes, key }
    }

    /// A key that another secret and a name come to, by HKDF-SHA-256: `salt` tells one from the other, `info` what it is for.
    pub fn derived(secret: &[u8; KEY_BYTES], salt: &[u8], info: &[u8]) -> Self {
        Self::from_bytes(derive(salt, secret, info))
    }

    /// Its bytes: to be wrapped, never for a message.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// Encrypts in place, and gives the tag, which belongs behind it. At one place no two contents may ever be sealed; `name` is bound to it
    /// and must be known to whoever opens it.
    ///
    /// # Errors
    /// [`Error::Bug`] for more than 64 GiB.
    pub fn seal(&self, place: [u8; PLACE_BYTES], name: &[u8], content: &mut [u8]) -> Result<[u8; TAG_BYTES]> {
        let failed = || Error::Bug("something could not be sealed".to_owned());
        let nonce = Nonce::assume_unique_for_key(place);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(name), content).map_err(|_| failed())?;
        tag.as_ref().try_into().map_err(|_| failed())
    }

    /// What was sealed at this place under this name, the tag behind it; `None` where it is anything else.
    pub fn open(&self, place: [u8; PLACE_BYTES], name: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = sealed.to_vec();
        let length = self.key.open_in_place(Nonce::assume_unique_for_key(place), Aad::from(name), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SealingKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: [u8; PLACE_BYTES] = [1; PLACE_BYTES];

    fn sealed(key: &SealingKey, content: &[u8]) -> Vec<u8> {
        let mut bytes = content.to_vec();
        let tag = key.seal(HERE, b"name", &mut bytes).unwrap();
        [bytes.as_slice(), &tag].concat()
    }

    #[test]
    fn it_opens_at_its_place_under_its_name_with_its_key_alone() {
        let key = SealingKey::generate().unwrap();
        let bytes = sealed(&key, b"content");
        assert_eq!(bytes.len(), 7 + TAG_BYTES);
        assert_eq!(key.open(HERE, b"name", &bytes).unwrap(), b"content");
        assert_eq!(key.open([2; PLACE_BYTES], b"name", &bytes), None);
        assert_eq!(key.open(HERE, b"another", &bytes), None);
        assert_eq!(SealingKey::generate().unwrap().open(HERE, b"name", &bytes), None);
        assert_eq!(format!("{key:?}"), "SealingKey { .. }");
    }

    #[test]
    fn derived_keys_differ_by_salt_and_purpose_and_are_found_again() {
        let derived = |salt: &[u8], info: &[u8]| *SealingKey::derived(&[7; KEY_BYTES], salt, info).expose();
        assert_eq!(derived(b"a", b"x"), derived(b"a", b"x"));
        assert_ne!(derived(b"a", b"x"), derived(b"b", b"x"));
        assert_ne!(derived(b"a", b"x"), derived(b"a", b"y"));
    }

    proptest! {
        #[test]
        fn no_flipped_bit_and_no_cut_passes(content in proptest::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index) {
            let key = SealingKey::generate().unwrap();
            let good = sealed(&key, &content);
            prop_assert_eq!(key.open(HERE, b"name", &good), Some(content));
            let mut bad = good.clone();
            let bit = at.index(bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(key.open(HERE, b"name", &bad), None);
            prop_assert_eq!(key.open(HERE, b"name", &good[..at.index(good.len())]), None);
        }
    }
}
