//! The keys of a [`Shelf`] as a person sees and changes them: which there are, who opens them, who is let in, a new one for what
//! comes, and the proof that somebody opens everything.

use std::path::PathBuf;

use serde::Serialize;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::encryption::identity::Identity;
use crate::encryption::key_file;
use crate::encryption::recipient::Recipient;
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, Result};
use crate::key_ring::data_key::DataKeyName;
use crate::key_ring::proof::KeyProof;
use crate::key_ring::ring::DataKey;
use crate::key_ring::slot::Holder;
use crate::logical::recovery_key::{KeyTest, RecoveryKey};
use crate::logical::shelf::Shelf;
use crate::store::ObjectKey;
use crate::workers;

/// The keys of a store. Serialised, it is the document of `pgpersist store key list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// The data keys, newest first.
    pub data_keys: Vec<ListedKey>,
    /// When a configured recovery key was last proven to open them all.
    pub proof: Option<KeyProof>,
    /// What somebody should do, in a sentence each.
    #[serde(skip)]
    pub advice: Vec<String>,
}

/// A data key, and who opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedKey {
    /// Its name in the store.
    pub name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub made_at: OffsetDateTime,
    /// Its public half.
    pub public_key: Recipient,
    /// Who opens it.
    pub holders: Vec<Holder>,
    /// The configured recipients that do not.
    pub missing: Vec<Recipient>,
}

impl ListedKey {
    fn of(key: &DataKey, settings: &EncryptionSettings) -> Self {
        let have = key.recipients();
        Self {
            name: key.name.to_string(),
            made_at: key.name.made_at(),
            public_key: key.name.public(),
            holders: key.slots.iter().map(|slot| slot.holder.clone()).collect(),
            missing: settings.recipients.iter().filter(|recipient| !have.contains(recipient)).copied().collect(),
        }
    }
}

/// A file that opens things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFile {
    /// Private keys of age, one a line.
    Identity(PathBuf),
    /// A passphrase.
    Passphrase(PathBuf),
}

impl KeyFile {
    /// The key in it; of several the one that is configured, since one of them may be that of the store. Blocking.
    fn read(&self, settings: &EncryptionSettings) -> Result<Identity> {
        let keys = match self {
            Self::Identity(file) => key_file::identities(file)?,
            Self::Passphrase(file) => return key_file::passphrase(file).map(Identity::Passphrase),
        };
        let configured = keys.iter().position(|key| settings.recipients.contains(&key.recipient())).unwrap_or_default();
        let chosen = keys.into_iter().nth(configured).map(Identity::Key);
        chosen.ok_or_else(|| Error::Bug("a key file without a key passed".to_owned()))
    }
}

impl Shelf {
    /// How it is encrypted.
    ///
    /// # Errors
    /// `Invalid` where it is not.
    pub fn must_encrypt(&self) -> Result<&EncryptionSettings> {
        self.encryption().filter(|settings| settings.encrypts()).ok_or_else(|| {
            Error::invalid(
                format!("nothing in {} is encrypted", self.store()),
                "name `recipients` in its `encryption`: `pgpersist store key new FILE` makes a key",
            )
        })
    }

    /// Its keys.
    ///
    /// # Errors
    /// `Invalid` where nothing is encrypted; what the store says.
    pub async fn key_report(&self, clock: &dyn Clock) -> Result<KeyReport> {
        let settings = self.must_encrypt()?;
        let (data_keys, known) = (self.key_ring()?.data_keys().await?, self.recovery_key().await?);
        Ok(KeyReport {
            data_keys: data_keys.iter().map(|key| ListedKey::of(key, settings)).collect(),
            advice: known.advice(clock.now()).map(|(what, remedy)| format!("{what}; {remedy}")).into_iter().collect(),
            proof: if let RecoveryKey::Tested(proof) = known { Some(proof) } else { None },
        })
    }

    /// Whom [`add_holders`](Self::add_holders) would let in: these, or where none is given, all configured recipients.
    ///
    /// # Errors
    /// `Invalid` where nothing is encrypted.
    pub fn holders_to_add(&self, given: &[Recipient]) -> Result<Vec<Recipient>> {
        let settings = self.must_encrypt()?;
        Ok(if given.is_empty() { settings.recipients.clone() } else { given.to_vec() })
    }

    /// Lets these open what was written before, or where none is given, all configured recipients and the configured passphrase: wraps
    /// every data key for them. Told are the slots that came, and what somebody should know.
    ///
    /// # Errors
    /// `Invalid` where nothing is encrypted, `Denied` when no key at hand opens a data key; what the store says.
    pub async fn add_holders(&self, given: &[Recipient]) -> Result<(Vec<ObjectKey>, Vec<String>)> {
        let recipients = self.holders_to_add(given)?;
        let settings = self.must_encrypt()?.clone();
        let passphrase = if given.is_empty() {
            let settings = settings.clone();
            workers::run(move || settings.passphrase()).await?
        } else {
            None
        };
        let identities = self.identities().await?;
        let added = self.key_ring()?.add(&recipients, passphrase.as_ref(), &identities).await?;
        let strangers = recipients.iter().filter(|recipient| !settings.recipients.contains(recipient));
        let warning = |stranger| format!("{stranger} is not among the configured `recipients`, so later data keys are not for it");
        Ok((added, strangers.map(warning).collect()))
    }

    /// The slots that [`remove_holder`](Self::remove_holder) would delete.
    ///
    /// # Errors
    /// `Invalid` where nothing is encrypted, `NotFound` when there are none, `Unsafe` when nobody else opens one of the data keys; what the
    /// store says.
    pub async fn slots_of_holder(&self, holder: &Holder) -> Result<Vec<ObjectKey>> {
        self.must_encrypt()?;
        self.key_ring()?.slots_of(holder).await
    }

    /// Takes the data keys from somebody, by these slots. What is in dumps that were encrypted to them they can read as before. Told is
    /// what somebody should know.
    ///
    /// # Errors
    /// `Invalid` where nothing is encrypted; what the store says.
    pub async fn remove_holder(&self, holder: &Holder, slots: &[ObjectKey]) -> Result<Vec<String>> {
        let settings = self.must_encrypt()?;
        self.key_ring()?.remove(slots).await?;
        let is_configured = matches!(holder, Holder::Recipient(recipient) if settings.recipients.contains(recipient));
        let warning = || format!("{holder} is still configured, so the next data key is for it: take it out of `recipients`");
        Ok(is_configured.then(warning).into_iter().collect())
    }

    /// Makes a new data key for what comes later, for those who are configured; remembered where the shelf is told
    /// [where](Self::remembering_keys).
    ///
    /// # Errors
    /// `Invalid` where nothing is encrypted; what the store says.
    pub async fn rotate_key(&self, clock: &dyn Clock) -> Result<DataKeyName> {
        let settings = self.must_encrypt()?;
        self.key_ring()?.rotate(settings, self.key_memory(), clock.now()).await
    }

    /// As [`test_key`](Self::test_key), with the key in a file.
    ///
    /// # Errors
    /// As [`test_key`](Self::test_key); what is wrong with the file.
    pub async fn test_key_file(&self, file: KeyFile) -> Result<KeyTest> {
        let settings = self.must_encrypt()?.clone();
        let identity = workers::run(move || file.read(&settings)).await?;
        self.test_key(identity).await
    }
}
