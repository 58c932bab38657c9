//! [`Slot`]: the private half of a data key, wrapped for one recipient or passphrase.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::encryption::decryptor::open_small;
use crate::encryption::encryptor::Encryptor;
use crate::encryption::fault::Fault;
use crate::encryption::identity::{Identity, PrivateIdentity};
use crate::encryption::passphrase::Passphrase;
use crate::encryption::recipient::Recipient;
use crate::error::{Error, Result};
use crate::key_ring::data_key::DataKeyName;
use crate::store::{BackupStore, ObjectKey};

/// How much of the SHA-256 stands in the name, in hexadecimal digits: 128 bits.
const DIGEST: usize = 32;
/// A slot has some hundred bytes; what is larger is none.
const LARGEST: u64 = 64 << 10;
const SUFFIX: &str = ".age";
const PASSPHRASE: &str = "passphrase_";

/// For whom a slot is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(into = "String")]
pub enum Holder {
    /// Whoever has the private half of this key.
    Recipient(Recipient),
    /// Whoever knows a passphrase; the mark tells one from another, and nothing about it.
    Passphrase(String),
}

impl Holder {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(PASSPHRASE) {
            Some(mark) if mark.len() == 8 && mark.bytes().all(|byte| byte.is_ascii_hexdigit()) => Some(Self::Passphrase(mark.to_owned())),
            Some(_) => None,
            None => text.parse().ok().map(Self::Recipient),
        }
    }
}

impl FromStr for Holder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::parse(text) {
            Some(holder) => Ok(holder),
            // It says what is wrong with a public key.
            None => text.parse().map(Self::Recipient),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipient(recipient) => recipient.fmt(formatter),
            Self::Passphrase(mark) => write!(formatter, "{PASSPHRASE}{mark}"),
        }
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        holder.to_string()
    }
}

/// A slot in a store, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its object.
    pub key: ObjectKey,
    /// The data key that it wraps.
    pub data_key: DataKeyName,
    /// Who opens it.
    pub holder: Holder,
    digest: String,
}

impl Slot {
    /// What an object's name says; `None` where it is no slot.
    pub(super) fn parse(key: ObjectKey) -> Option<Self> {
        let folder = key.folder()?;
        let data_key = DataKeyName::parse(folder.rsplit('/').next()?)?;
        let (holder, digest) = key.file_name().strip_suffix(SUFFIX)?.split_once('.')?;
        let well_formed = digest.len() == DIGEST && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let (holder, digest) = (Holder::parse(holder)?, digest.to_owned());
        well_formed.then_some(Self { key, data_key, holder, digest })
    }

    /// Its bytes, which are those that were written.
    ///
    /// # Errors
    /// `Damaged` when they are not; what the store says.
    pub(super) async fn read(&self, store: &dyn BackupStore) -> Result<Vec<u8>> {
        let bytes = store.get_range(&self.key, 0..LARGEST).await?;
        if digest_of(&bytes) != self.digest {
            return Err(Error::damaged(
                format!("the key {} is not what was written", self.key),
                "another slot of the same data key does as well (`pgpersist store key list`); make this one anew with `pgpersist store key add`",
            ));
        }
        Ok(bytes.to_vec())
    }

    /// What the bytes of a slot hold, where one of these opens them. A passphrase takes a moment. Blocking.
    ///
    /// # Errors
    /// `Damaged` when it holds something else than its data key.
    pub(super) fn open(&self, bytes: &[u8], identities: &[Identity]) -> Result<Option<PrivateIdentity>> {
        let damaged =
            |what: &str| Error::damaged(format!("the key {} {what}", self.key), "look at who wrote it, and open the dump with another key");
        let content = match open_small(bytes, identities) {
            Ok(content) => content,
            Err(Fault::NoKey) => return Ok(None),
            Err(fault) => return Err(damaged(&format!("cannot be opened: {fault}"))),
        };
        let text = std::str::from_utf8(&content).map_err(|_| damaged("holds no text"))?;
        // So that nobody gives an old key, which somebody removed can open, the name of a new one.
        if !text.starts_with(&heading(self.data_key)) {
            return Err(damaged("holds another key than its name says"));
        }
        let line = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
        let identity: PrivateIdentity = line.trim().parse().map_err(|_| damaged("holds no key"))?;
        if identity.recipient() != self.data_key.public() {
            return Err(damaged("holds another key than its name says"));
        }
        Ok(Some(identity))
    }
}

/// Where a data key is wrapped for.
#[derive(Debug, Clone)]
pub(super) enum Wrapping {
    Recipient(Recipient),
    Passphrase(Passphrase),
}

/// The name in its folder and the bytes of a new slot. A passphrase takes a moment; blocking.
pub(super) fn make(data_key: DataKeyName, identity: &PrivateIdentity, wrapping: &Wrapping) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let (holder, mut encryptor) = match wrapping {
        Wrapping::Recipient(recipient) => (Holder::Recipient(*recipient), Encryptor::begin(&[*recipient], &mut bytes)?),
        Wrapping::Passphrase(passphrase) => {
            let holder = Holder::Passphrase(format!("{:08x}", rand::random::<u32>()));
            (holder, Encryptor::begin_with_passphrase(passphrase, &mut bytes)?)
        }
    };
    let text = identity.to_text();
    let content = Zeroizing::new(format!(
        "{}, for {holder}\n# public key: {}\n{}\n",
        heading(data_key),
        identity.recipient(),
        text.expose().as_str()
    ));
    encryptor.update(content.as_bytes(), &mut bytes)?;
    encryptor.finish(&mut bytes)?;
    Ok((format!("{holder}.{}{SUFFIX}", digest_of(&bytes)), bytes))
}

fn heading(data_key: DataKeyName) -> String {
    format!("# data key {data_key}")
}

fn digest_of(bytes: &[u8]) -> String {
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    digest[..DIGEST].to_owned()
}
