//! Whether somebody was seen to hold a key that opens everything. What is encrypted and cannot be opened is lost, and that shows only
//! on the day it is needed: so a recovery key is tested, and the test is remembered in the store.

use std::io::Read;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::encryption::decryptor::Decryptor;
use crate::encryption::header;
use crate::encryption::identity::{Identity, PrivateIdentity};
use crate::error::{Error, Result};
use crate::key_ring::proof::KeyProof;
use crate::logical::shelf::{DumpEntry, Shelf};
use crate::store::ObjectKey;
use crate::wording::ago;
use crate::workers;

/// How old the newest test may be: people and safes change.
pub const MAX_AGE: Duration = Duration::from_secs(365 * 86_400);
/// How much of a dump is fetched for a test: its header, and a first piece of its content.
const PROBE_BYTES: u64 = header::LARGEST + (128 << 10);

/// What is known of recovery keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryKey {
    /// Nothing is encrypted, so there is nothing to lose a key of.
    NotNeeded,
    /// No configured key or passphrase was ever tested.
    NeverTested,
    /// The newest test.
    Tested(KeyProof),
}

impl RecoveryKey {
    /// What somebody should do, and why; nothing when all is well.
    pub fn advice(&self, now: OffsetDateTime) -> Option<(String, &'static str)> {
        let remedy = "fetch the recovery key from its safe and run `pgpersist store key test --identity FILE`";
        match self {
            Self::NotNeeded => None,
            Self::NeverTested => Some(("no recovery key was ever tested: nobody knows whether the dumps can be opened".to_owned(), remedy)),
            Self::Tested(proof) => {
                let age = Duration::try_from(now - proof.proven_at).unwrap_or_default();
                (age > MAX_AGE).then(|| (format!("the recovery key was tested {} the last time", ago(age)), remedy))
            }
        }
    }
}

/// What a test of a key showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyTest {
    /// The public half of the key, or `passphrase`.
    pub holder: String,
    /// How many data keys there are; it opened all of them.
    pub data_keys: usize,
    /// The newest dump that is encrypted, where there is one; it opened that, too.
    pub dump: Option<ObjectKey>,
    /// When it was tested, which is recorded in the store.
    #[serde(with = "time::serde::rfc3339")]
    pub proven_at: OffsetDateTime,
}

impl Shelf {
    /// What is known of recovery keys.
    ///
    /// # Errors
    /// What the store says.
    pub async fn recovery_key(&self) -> Result<RecoveryKey> {
        let Some(settings) = self.encryption().filter(|settings| settings.encrypts()) else { return Ok(RecoveryKey::NotNeeded) };
        let proof = self.key_ring()?.newest_proof(&settings.recipients, settings.passphrase_file.is_some()).await?;
        Ok(proof.map_or(RecoveryKey::NeverTested, RecoveryKey::Tested))
    }

    /// Has a key open every data key and the beginning of the newest dump, and records that it did. Where there is no data key yet, the
    /// first one is made.
    ///
    /// # Errors
    /// `Invalid` where nothing is encrypted, `Denied` when the key does not open everything, `Damaged`; what the store says. Nothing is
    /// recorded then.
    pub async fn test_key(&self, identity: Identity) -> Result<KeyTest> {
        let settings = self.must_encrypt()?;
        if let Identity::Key(key) = &identity
            && !settings.recipients.contains(&key.recipient())
        {
            return Err(Error::denied(
                format!("this key is that of {}, to whom nothing is encrypted", key.recipient()),
                "give the key of a configured recipient, or add this one to `recipients`",
            ));
        }
        let ring = self.key_ring()?;
        if ring.data_keys().await?.is_empty() {
            self.write_key().await?;
        }
        let opened = ring.test(&identity).await?;
        let newest = self.list().await?.into_iter().find(|dump| dump.encrypted && dump.is_good());
        if let Some(dump) = &newest {
            self.open_beginning(dump, &identity, &opened).await?;
        }
        let proof = KeyProof::new(&identity, self.clock.now(), opened.len());
        ring.record_proof(&proof).await?;
        Ok(KeyTest { holder: proof.holder, data_keys: opened.len(), dump: newest.map(|dump| dump.name), proven_at: proof.proven_at })
    }

    async fn open_beginning(&self, dump: &DumpEntry, identity: &Identity, opened: &[PrivateIdentity]) -> Result<()> {
        let bytes = self.store().get_range(&dump.name, 0..PROBE_BYTES).await?;
        let (name, identity) = (dump.name.clone(), identity.clone());
        let identities: Vec<_> = std::iter::once(identity).chain(opened.iter().cloned().map(Identity::Key)).collect();
        workers::run(move || {
            let read = Decryptor::open(&bytes[..], &identities).and_then(|mut content| content.read(&mut [0; 1]));
            let explain = |error| crate::logical::sealed::explain(name.as_str(), error);
            read.map(drop).map_err(explain)
        })
        .await
    }
}
