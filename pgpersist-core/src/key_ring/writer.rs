//! To whom the next dump is encrypted, and what changes that: adding, removing, rotating.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::encryption::identity::{Identity, PrivateIdentity};
use crate::encryption::passphrase::Passphrase;
use crate::encryption::recipient::Recipient;
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::data_key::DataKeyName;
use crate::key_ring::index_key::IndexKey;
use crate::key_ring::memory::KeyMemory;
use crate::key_ring::ring::{DataKey, KeyRing};
use crate::key_ring::slot::{Holder, Wrapping};
use crate::store::ObjectKey;
use crate::workers;

/// To whom something is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteKey {
    /// The public half of the data key.
    pub data_key: Recipient,
    /// The configured recipients, each of whom opens it directly.
    pub recipients: Vec<Recipient>,
}

impl WriteKey {
    /// All of them.
    pub fn all(&self) -> Vec<Recipient> {
        std::iter::once(self.data_key).chain(self.recipients.iter().copied()).collect()
    }
}

/// A data key that nobody else can have put there.
struct Believed {
    data_key: DataKey,
    /// Its private half, where that had to be opened to believe it.
    private: Option<PrivateIdentity>,
}

impl KeyRing {
    /// What to encrypt to: a data key that this writer can believe, and that is wrapped for exactly those who are configured; a new
    /// one where there is none. So whoever is taken out of the configuration reads nothing that comes later.
    ///
    /// # Errors
    /// `Invalid` when a configured key or passphrase is no good; what the store says.
    pub async fn write_key(&self, settings: &EncryptionSettings, memory: Option<&KeyMemory>, now: OffsetDateTime) -> Result<WriteKey> {
        let passphrase = passphrase(settings).await?;
        let recipients = distinct(&settings.recipients);
        let data_key = match self.believed(&recipients, passphrase.as_ref(), memory).await? {
            Some(believed) => believed.data_key.name.public(),
            None => self.rotate_to(recipients.clone(), passphrase, memory, now).await?.0.public(),
        };
        Ok(WriteKey { data_key, recipients })
    }

    /// The same, with the index key that belongs to the data key: from its private half where that can be had, else from memory; a new data
    /// key where neither is.
    ///
    /// # Errors
    /// As [`write_key`](Self::write_key); what is wrong with the files of keys.
    pub async fn index_write_key(
        &self,
        settings: &EncryptionSettings,
        memory: Option<&KeyMemory>,
        now: OffsetDateTime,
    ) -> Result<(WriteKey, IndexKey)> {
        let passphrase = passphrase(settings).await?;
        let recipients = distinct(&settings.recipients);
        if let Some(believed) = self.believed(&recipients, passphrase.as_ref(), memory).await?
            && let Some(index_key) = self.index_key(&believed, settings, memory).await?
        {
            return Ok((WriteKey { data_key: believed.data_key.name.public(), recipients }, index_key));
        }
        let (name, index_key) = self.rotate_to(recipients.clone(), passphrase, memory, now).await?;
        Ok((WriteKey { data_key: name.public(), recipients }, index_key))
    }

    async fn index_key(&self, believed: &Believed, settings: &EncryptionSettings, memory: Option<&KeyMemory>) -> Result<Option<IndexKey>> {
        if let Some(private) = &believed.private {
            return Ok(Some(IndexKey::of(private)));
        }
        if let Some(memory) = memory
            && let Some(known) = memory.index_key(believed.data_key.name.public()).await?
        {
            return Ok(Some(known));
        }
        let settings = settings.clone();
        let identities = workers::run(move || settings.identities()).await?;
        match self.unlock(&believed.data_key, &identities).await {
            Ok(private) => Ok(private.as_ref().map(IndexKey::of)),
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The data key that this writer can believe, where there is one.
    async fn believed(
        &self,
        recipients: &[Recipient],
        passphrase: Option<&Passphrase>,
        memory: Option<&KeyMemory>,
    ) -> Result<Option<Believed>> {
        let data_keys = self.data_keys().await?;
        let mut fitting = data_keys
            .into_iter()
            .filter(|key| key.recipients() == recipients.iter().copied().collect() && key.has_passphrase() == passphrase.is_some());
        let Some(passphrase) = passphrase else {
            let Some(memory) = memory else { return Ok(None) };
            let Some(public) = memory.recall(&self.place(), self.folder().as_str()).await? else { return Ok(None) };
            let made = fitting.find(|data_key| data_key.name.public() == public);
            return Ok(made.map(|data_key| Believed { data_key, private: None }));
        };
        // The newest alone: that an older one is opened says that the passphrase was changed since, and changed back.
        let Some(data_key) = fitting.next() else { return Ok(None) };
        match self.unlock(&data_key, &[Identity::Passphrase(passphrase.clone())]).await {
            Ok(Some(private)) => Ok(Some(Believed { data_key, private: Some(private) })),
            Err(error) if error.kind() != ErrorKind::Damaged => Err(error),
            // Another passphrase than today's, or a slot that nobody can use: a new data key does for what comes.
            _ => Ok(None),
        }
    }

    /// Makes a new data key for what comes later, wrapped for those who are configured.
    ///
    /// # Errors
    /// As [`write_key`](Self::write_key).
    pub async fn rotate(&self, settings: &EncryptionSettings, memory: Option<&KeyMemory>, now: OffsetDateTime) -> Result<DataKeyName> {
        let passphrase = passphrase(settings).await?;
        Ok(self.rotate_to(distinct(&settings.recipients), passphrase, memory, now).await?.0)
    }

    async fn rotate_to(
        &self,
        recipients: Vec<Recipient>,
        passphrase: Option<Passphrase>,
        memory: Option<&KeyMemory>,
        now: OffsetDateTime,
    ) -> Result<(DataKeyName, IndexKey)> {
        let wrappings = recipients.into_iter().map(Wrapping::Recipient).chain(passphrase.map(Wrapping::Passphrase)).collect();
        let (name, index_key) = self.make(wrappings, now).await?;
        if let Some(memory) = memory {
            memory.remember(&self.place(), self.folder().as_str(), name.public(), index_key.clone()).await?;
        }
        Ok((name, index_key))
    }

    /// Wraps every data key for these recipients too, who then read what was written before. Those who have a slot already are
    /// passed over.
    ///
    /// # Errors
    /// `Denied` when none of the identities opens a data key; what was added so far stays. What the store says.
    pub async fn add(&self, recipients: &[Recipient], passphrase: Option<&Passphrase>, identities: &[Identity]) -> Result<Vec<ObjectKey>> {
        let mut added = Vec::new();
        for data_key in self.data_keys().await? {
            let have = data_key.recipients();
            let mut wanted: Vec<_> = distinct(recipients).into_iter().filter(|one| !have.contains(one)).map(Wrapping::Recipient).collect();
            if let Some(passphrase) = passphrase
                && self.unlock(&data_key, &[Identity::Passphrase(passphrase.clone())]).await.ok().flatten().is_none()
            {
                wanted.push(Wrapping::Passphrase(passphrase.clone()));
            }
            if wanted.is_empty() {
                continue;
            }
            let identity = self.unlock(&data_key, identities).await?.ok_or_else(|| no_key(&data_key))?;
            for wrapping in wanted {
                added.push(self.wrap(data_key.name, identity.clone(), wrapping).await?);
            }
        }
        Ok(added)
    }

    /// The slots that removing somebody would remove.
    ///
    /// # Errors
    /// `NotFound` when he has none; `Unsafe` when a data key would be left that nobody opens any more; what the store says.
    pub async fn slots_of(&self, holder: &Holder) -> Result<Vec<ObjectKey>> {
        let data_keys = self.data_keys().await?;
        let of = |data_key: &DataKey| {
            data_key.slots.iter().filter(|slot| slot.holder == *holder).map(|slot| slot.key.clone()).collect::<Vec<_>>()
        };
        if let Some(lost) = data_keys.iter().find(|data_key| !data_key.slots.is_empty() && of(data_key).len() == data_key.slots.len()) {
            return Err(Error::refused(
                format!("nobody else opens the data key {}: without {holder} what it protects may be lost for good", lost.name),
                "add somebody first: `pgpersist store key add`",
            ));
        }
        let slots: Vec<_> = data_keys.iter().flat_map(of).collect();
        if slots.is_empty() {
            return Err(Error::not_found(
                format!("no data key in {} is wrapped for {holder}", self.store()),
                "`pgpersist store key list` shows who can open them",
            ));
        }
        Ok(slots)
    }

    /// Removes slots, as [`slots_of`](Self::slots_of) found them. Whoever had them keeps what he has read, and opens every dump that was
    /// encrypted to him directly.
    ///
    /// # Errors
    /// What the store says.
    pub async fn remove(&self, slots: &[ObjectKey]) -> Result<()> {
        for slot in slots {
            self.store().delete(slot).await?;
        }
        Ok(())
    }

    fn place(&self) -> String {
        self.store().to_string()
    }
}

fn no_key(data_key: &DataKey) -> Error {
    Error::denied(
        format!("no key at hand opens the data key {}", data_key.name),
        "give the file of a key that does with `--identity FILE`; `pgpersist store key list` shows who can",
    )
}

fn distinct(recipients: &[Recipient]) -> Vec<Recipient> {
    let mut seen = BTreeSet::new();
    recipients.iter().copied().filter(|recipient| seen.insert(*recipient)).collect()
}

async fn passphrase(settings: &EncryptionSettings) -> Result<Option<Passphrase>> {
    let settings = settings.clone();
    workers::run(move || {
        let passphrase = settings.passphrase()?;
        passphrase.as_ref().map(Passphrase::check).transpose()?;
        Ok(passphrase)
    })
    .await
}
