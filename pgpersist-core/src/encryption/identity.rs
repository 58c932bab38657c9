//! [`Identity`]: what opens something encrypted: a private key, `AGE-SECRET-KEY-…`, or a passphrase.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::agreement::PrivateKey;
use zeroize::Zeroizing;

use crate::encryption::bech32;
use crate::encryption::fault::Fault;
use crate::encryption::file_key::{FileKey, Key, WRAPPED_BYTES, derive, random};
use crate::encryption::passphrase::Passphrase;
use crate::encryption::recipient::{self, Recipient};
use crate::encryption::stanza::{Stanza, decode64};
use crate::error::{Error, Result};
use crate::secret::Secret;

const PREFIX: &str = "age-secret-key-";

/// What opens something encrypted. Prints as nothing that is secret.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The private half of a recipient.
    Key(PrivateIdentity),
    /// A passphrase.
    Passphrase(Passphrase),
}

impl Identity {
    /// Whether it opens the same as another one, being the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(one), Self::Key(other)) => one.recipient == other.recipient,
            (Self::Passphrase(one), Self::Passphrase(other)) => one.is_same(other),
            _ => false,
        }
    }

    /// The file key of this stanza; `None` where it is somebody else's.
    pub(super) fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Fault> {
        match self {
            Self::Key(key) => key.unwrap(stanza),
            Self::Passphrase(passphrase) => passphrase.unwrap(stanza),
        }
    }
}

/// The private half of an X25519 key. It prints as its public one.
#[derive(Clone)]
pub struct PrivateIdentity {
    bytes: Zeroizing<[u8; 32]>,
    key: Arc<PrivateKey>,
    recipient: Recipient,
}

impl PrivateIdentity {
    /// A new one.
    ///
    /// # Errors
    /// `Unavailable` when the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        Self::from_bytes(random()?)
    }

    fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Result<Self> {
        let key = recipient::private_key(&bytes)?;
        let recipient = Recipient::from_bytes(recipient::public_half(&key)?);
        Ok(Self { bytes, key: Arc::new(key), recipient })
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// The text that `age` reads from an identity file.
    pub fn to_text(&self) -> Secret<Zeroizing<String>> {
        let lower = Zeroizing::new(bech32::encode(PREFIX, &*self.bytes));
        Secret::new(Zeroizing::new(lower.to_ascii_uppercase()))
    }

    /// A key for something else than opening, which tells nothing about this one. `info` says what it is for.
    pub(crate) fn derive(&self, info: &[u8]) -> Key {
        derive(&[], &*self.bytes, info)
    }

    fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Fault> {
        if stanza.kind() != recipient::KIND {
            return Ok(None);
        }
        let share = match &stanza.arguments[1..] {
            [share] => decode64(share).and_then(|share| <[u8; 32]>::try_from(share).ok()),
            _ => None,
        };
        let share = share.ok_or(Fault::Header("a recipient's part is not of X25519"))?;
        if stanza.body.len() != WRAPPED_BYTES {
            return Err(Fault::Header("a wrapped key has not its length"));
        }
        let recipient = self.recipient.to_bytes();
        let key = recipient::shared_key(&self.key, &share, &share, &recipient).ok_or(Fault::Header("a key that protects nothing"))?;
        Ok(FileKey::unwrap(&stanza.body, &key))
    }
}

impl fmt::Debug for PrivateIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the private half of {}", self.recipient)
    }
}

impl FromStr for PrivateIdentity {
    type Err = Error;

    /// Never repeats the text, which may be a secret with a typing error.
    fn from_str(text: &str) -> Result<Self> {
        let bytes = bech32::decode(PREFIX, text).map(Zeroizing::new);
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Zeroizing::new);
        match bytes.filter(|_| text.starts_with("AGE-SECRET-KEY-")) {
            Some(bytes) => Self::from_bytes(bytes),
            None => Err(Error::invalid("it is no private key of age", "one begins with `AGE-SECRET-KEY-1`; `age-keygen` makes one")),
        }
    }
}
