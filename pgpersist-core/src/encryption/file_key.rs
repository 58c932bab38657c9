//! The key of one file, and what is derived from it. A new one for each file, so no nonce is ever used twice.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// How long a file key is.
pub(super) const FILE_KEY_BYTES: usize = 16;
/// How long a wrapped one is: it and the tag.
pub(super) const WRAPPED_BYTES: usize = FILE_KEY_BYTES + 16;
/// How long the nonce is from which the key of the content is derived.
pub(super) const CONTENT_NONCE_BYTES: usize = 16;

/// A key of 256 bits.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// The key of one file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FileKey(Zeroizing<[u8; FILE_KEY_BYTES]>);

impl FileKey {
    pub(super) fn generate() -> Result<Self> {
        random().map(Self)
    }

    /// The key wrapped with another one, which must be used for nothing else.
    pub(super) fn wrap(&self, key: &Key) -> Vec<u8> {
        let mut body = self.0.to_vec();
        sealing(key)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key([0; NONCE_LEN]), Aad::empty(), &mut body)
            .expect("sixteen bytes are not too many to seal");
        body
    }

    /// What was wrapped with a key; `None` with another one.
    pub(super) fn unwrap(body: &[u8], key: &Key) -> Option<Self> {
        // Before anything is opened, so that no wrapped key can be made that several keys open.
        let mut body: Zeroizing<[u8; WRAPPED_BYTES]> = Zeroizing::new(body.try_into().ok()?);
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let opened = sealing(key).open_in_place(nonce, Aad::empty(), &mut *body).ok()?;
        Some(Self(Zeroizing::new((&*opened).try_into().ok()?)))
    }

    /// The key of the MAC of the header.
    pub(super) fn header_mac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], &*self.0, b"header"))
    }

    /// The key of the content.
    pub(super) fn content(&self, nonce: &[u8; CONTENT_NONCE_BYTES]) -> LessSafeKey {
        sealing(&derive(nonce, &*self.0, b"payload"))
    }
}

fn sealing(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &**key).expect("a key of ChaCha20 has 32 bytes"))
}

/// HKDF-SHA-256.
pub(super) fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Key {
    let mut key = Key::default();
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut *key))
        .expect("32 bytes are not too many to derive");
    key
}

/// Bytes from the system's generator.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| Error::unavailable("the system gave no random bytes", "look at /dev/urandom"))?;
    Ok(bytes)
}
