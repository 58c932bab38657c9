//! [`KeyProof`]: that a recovery key was held against the store and opened everything, and when.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::encryption::header::Header;
use crate::encryption::identity::{Identity, PrivateIdentity};
use crate::encryption::recipient::Recipient;
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::ring::KeyRing;
use crate::store::ObjectKey;

/// The format that this version writes.
const FORMAT: u32 = 1;
const FOLDER: &str = "proofs";
/// How the proof of a passphrase is called, since nothing of it must show.
const PASSPHRASE: &str = "passphrase";
/// A proof has some hundred bytes.
const LARGEST: u64 = 64 << 10;

/// What a test proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyProof {
    /// Always 1.
    pub format: u32,
    /// The public half of the key, or `passphrase`.
    pub holder: String,
    /// When it was tested.
    #[serde(with = "time::serde::rfc3339")]
    pub proven_at: OffsetDateTime,
    /// How many data keys it opened, which were all.
    pub data_keys: usize,
}

impl KeyProof {
    /// Of a key that opened so many data keys.
    pub fn new(holder: &Identity, proven_at: OffsetDateTime, data_keys: usize) -> Self {
        let holder = match holder {
            Identity::Key(key) => key.recipient().to_string(),
            Identity::Passphrase(_) => PASSPHRASE.to_owned(),
        };
        Self { format: FORMAT, holder, proven_at, data_keys }
    }
}

impl KeyRing {
    /// The newest proof of any of those who are configured.
    ///
    /// # Errors
    /// What the store says. A proof that cannot be understood proves nothing.
    pub async fn newest_proof(&self, recipients: &[Recipient], has_passphrase: bool) -> Result<Option<KeyProof>> {
        let mut newest: Option<KeyProof> = None;
        let names = recipients.iter().map(ToString::to_string).chain(has_passphrase.then(|| PASSPHRASE.to_owned()));
        for name in names {
            let bytes = match self.store().get_range(&self.proof_key(&name)?, 0..LARGEST).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let proof = serde_json::from_slice(&bytes).ok().filter(|proof: &KeyProof| proof.format == FORMAT && proof.holder == name);
            newest = newest.into_iter().chain(proof).max_by_key(|proof| proof.proven_at);
        }
        Ok(newest)
    }

    /// Records a proof, in place of an older one of the same key.
    ///
    /// # Errors
    /// What the store says.
    pub async fn record_proof(&self, proof: &KeyProof) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(proof).map_err(|e| Error::Bug(format!("a proof is no JSON: {e}")))?;
        bytes.push(b'\n');
        self.store().put(&self.proof_key(&proof.holder)?, bytes.into()).await
    }

    /// Has a key open every data key. Returns how many there are.
    ///
    /// # Errors
    /// `Denied` when it does not open one of them; `Damaged`; what the store says.
    pub async fn test(&self, identity: &Identity) -> Result<Vec<PrivateIdentity>> {
        let mut opened = Vec::new();
        for data_key in self.data_keys().await? {
            match self.unlock(&data_key, std::slice::from_ref(identity)).await? {
                Some(identity) => opened.push(identity),
                None => {
                    return Err(Error::denied(
                        format!("this key does not open the data key {}", data_key.name),
                        "wrap that for it with a key that does: `pgpersist store key add --identity FILE RECIPIENT`",
                    ));
                }
            }
        }
        Ok(opened)
    }

    /// Whether a header is opened by the identity, or by one of the data keys that it opened.
    pub fn opens(header: &Header, identity: &Identity, opened: &[PrivateIdentity]) -> bool {
        let direct = matches!(identity, Identity::Key(_)) && header.is_for(identity);
        direct || opened.iter().any(|key| header.is_for(&Identity::Key(key.clone())))
    }

    fn proof_key(&self, holder: &str) -> Result<ObjectKey> {
        self.folder().join(&format!("{FOLDER}/{holder}.json"))
    }
}
