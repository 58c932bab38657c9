//! [`Recipient`]: a public key to encrypt to, `age1…`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::encryption::bech32;
use crate::encryption::file_key::{FileKey, Key, derive, random};
use crate::encryption::stanza::{Stanza, encode64};
use crate::error::{Error, Result};

/// The kind of its stanzas.
pub(super) const KIND: &str = "X25519";
const PREFIX: &str = "age";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";

/// Whom to encrypt to: the public half of an X25519 key. `Display` is the text that `age` takes behind `-r`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient([u8; 32]);

impl Recipient {
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Wraps a file key so that only the other half of this key unwraps it.
    pub(super) fn wrap(&self, file_key: &FileKey) -> Result<Stanza> {
        let ephemeral = private_key(&*random::<32>()?)?;
        let share = public_half(&ephemeral)?;
        let key = shared_key(&ephemeral, &self.0, &share, &self.0).ok_or_else(|| {
            Error::invalid(
                format!("{self} is a key that protects nothing"),
                "use a key that `age-keygen` or `pgpersist store key new` made",
            )
        })?;
        Ok(Stanza { arguments: vec![KIND.to_owned(), encode64(&share)], body: file_key.wrap(&key) })
    }
}

/// The key that two halves agree on, with which a file key is wrapped; `None` for a half that agrees on the same with everybody.
pub(super) fn shared_key(ours: &PrivateKey, theirs: &[u8; 32], share: &[u8; 32], recipient: &[u8; 32]) -> Option<Key> {
    let salt = [share.as_slice(), recipient].concat();
    agreement::agree(ours, UnparsedPublicKey::new(&X25519, theirs), (), |secret| {
        // All zeros is what a public key of small order makes of every private one.
        if secret.iter().all(|byte| *byte == 0) { Err(()) } else { Ok(derive(&salt, secret, INFO)) }
    })
    .ok()
}

pub(super) fn private_key(bytes: &[u8; 32]) -> Result<PrivateKey> {
    PrivateKey::from_private_key(&X25519, bytes).map_err(|_| Error::Bug("32 bytes are no key of X25519".to_owned()))
}

pub(super) fn public_half(key: &PrivateKey) -> Result<[u8; 32]> {
    let public = key.compute_public_key().map_err(|_| Error::Bug("a key of X25519 has no public half".to_owned()))?;
    public.as_ref().try_into().map_err(|_| Error::Bug("a public key of X25519 has not 32 bytes".to_owned()))
}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&bech32::encode(PREFIX, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let remedy = "`age-keygen -y FILE` prints the public half of a key: it begins with `age1`";
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            // The text is a secret, and must not be repeated.
            return Err(Error::invalid("a private key stands where a public one belongs", remedy));
        }
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        if text.starts_with("age1pq1") || text.starts_with("ssh-") {
            return Err(Error::invalid(format!("`{shown}` is a kind of key that pgpersist does not encrypt to"), remedy));
        }
        bech32::decode(PREFIX, text)
            .filter(|_| text.starts_with(PREFIX))
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| Error::invalid(format!("`{shown}` is no public key of age"), remedy))
    }
}

impl Serialize for Recipient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
