//! What a [`Shelf`] knows of encryption: to whom its dumps are encrypted, what opens them, and that none is taken that should be
//! encrypted and is not.

use std::sync::Arc;

use crate::data_directory::own_folder::OwnFolder;
use crate::encryption::header::{self, Header};
use crate::encryption::identity::Identity;
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::memory::KeyMemory;
use crate::key_ring::ring::KeyRing;
use crate::key_ring::writer::WriteKey;
use crate::logical::cluster_card::FOLDER;
use crate::logical::name::{ENCRYPTED_SUFFIX, folder_of};
use crate::logical::opening::{Obstacle, Opening};
use crate::logical::place::Place;
use crate::logical::shelf::Shelf;
use crate::logical::side_file::SideFile;
use crate::logical::verify::{DamagedDump, Subject, VerifyReport};
use crate::repo::keys::RepositoryKeys;
use crate::store::ObjectKey;
use crate::workers;

/// How the dumps of a shelf are encrypted.
#[derive(Debug, Clone)]
pub(super) struct ShelfKeys {
    settings: EncryptionSettings,
    ring: KeyRing,
    memory: Option<KeyMemory>,
    accepts_unencrypted: bool,
}

impl Shelf {
    /// The same shelf, encrypted: what is written is encrypted to those who are configured, and what is read must be encrypted.
    ///
    /// # Errors
    /// `Invalid` when the cluster's name is too long for a key.
    pub fn encrypted(mut self, settings: EncryptionSettings) -> Result<Self> {
        let ring = self.key_ring()?;
        self.keys = Some(Arc::new(ShelfKeys { settings, ring, memory: None, accepts_unencrypted: false }));
        Ok(self)
    }

    /// The same shelf, which reads dumps that are not encrypted, too. Who can write into the store could have put them there.
    #[must_use]
    pub fn accepting_unencrypted(self) -> Self {
        self.with_keys(|keys| keys.accepts_unencrypted = true)
    }

    /// The same shelf for a machine that remembers, in the folder of our own files, which data key it made. Without it, and without a
    /// passphrase, each run of dumps makes a data key of its own.
    #[must_use]
    pub fn remembering_keys(self, own: OwnFolder) -> Self {
        self.with_keys(|keys| keys.memory = Some(KeyMemory::new(own)))
    }

    fn with_keys(mut self, change: impl FnOnce(&mut ShelfKeys)) -> Self {
        if let Some(keys) = &mut self.keys {
            change(Arc::make_mut(keys));
        }
        self
    }

    /// How it is encrypted, where it is.
    pub fn encryption(&self) -> Option<&EncryptionSettings> {
        self.keys.as_ref().map(|keys| &keys.settings)
    }

    /// The data keys of the cluster in the store.
    ///
    /// # Errors
    /// `Invalid` when the cluster's name is too long for a key.
    pub fn key_ring(&self) -> Result<KeyRing> {
        match &self.keys {
            Some(keys) => Ok(keys.ring.clone()),
            None => Ok(KeyRing::new(self.store().clone(), format!("{FOLDER}/{}/keys", folder_of(self.cluster())).parse()?)),
        }
    }

    /// What remembers the data keys that this machine made, where that is known.
    pub fn key_memory(&self) -> Option<&KeyMemory> {
        self.keys.as_ref()?.memory.as_ref()
    }

    /// The same keys for the cluster's repository in the store: with what this machine remembers, where that is known.
    ///
    /// # Errors
    /// `Invalid` when the cluster's name is too long for a key.
    pub fn repository_keys(&self) -> Result<Arc<RepositoryKeys>> {
        let settings = self.encryption().cloned().unwrap_or_default();
        let keys = RepositoryKeys::new(self.key_ring()?, settings, self.key_memory().cloned());
        let accepts_unencrypted = self.keys.as_ref().is_some_and(|keys| keys.accepts_unencrypted);
        Ok(Arc::new(if accepts_unencrypted { keys.accepting_unencrypted() } else { keys }))
    }

    /// Whether what is written is encrypted.
    pub fn encrypts(&self) -> bool {
        self.encryption().is_some_and(EncryptionSettings::encrypts)
    }

    /// To whom the next dumps are encrypted; nothing where they are not.
    ///
    /// # Errors
    /// As [`KeyRing::write_key`].
    pub async fn write_key(&self) -> Result<Option<WriteKey>> {
        let Some(keys) = self.keys.as_ref().filter(|keys| keys.settings.encrypts()) else { return Ok(None) };
        keys.ring.write_key(&keys.settings, keys.memory.as_ref(), self.clock.now()).await.map(Some)
    }

    /// Refuses a dump that is not encrypted where dumps are: who can write into the store could have put it there.
    ///
    /// # Errors
    /// `Unsafe` with the way to insist.
    pub fn refuse_downgrade(&self, name: &ObjectKey) -> Result<()> {
        if !self.encrypts() || self.accepts(name) {
            return Ok(());
        }
        Err(Error::refused(
            format!("{name} is not encrypted, and dumps in {} are", self.store()),
            "if it is from before they were, and nobody else could have put it there, go on with `--unencrypted`",
        ))
    }

    /// Whether it is encrypted, or need not be.
    pub(super) fn accepts(&self, name: &ObjectKey) -> bool {
        !self.encrypts() || name.as_str().ends_with(ENCRYPTED_SUFFIX) || self.keys.as_ref().is_some_and(|keys| keys.accepts_unencrypted)
    }

    /// The keys and passphrases at hand. Without a configured file there are none.
    ///
    /// # Errors
    /// As [`EncryptionSettings::identities`].
    pub async fn identities(&self) -> Result<Vec<Identity>> {
        let Some(settings) = self.encryption().cloned() else { return Ok(Vec::new()) };
        workers::run(move || settings.identities()).await
    }

    /// What opens a dump in the store; for one that is not encrypted, nothing but where it belongs.
    ///
    /// # Errors
    /// What the store says, and what is wrong with the files of keys. That no key fits is no error yet: see [`Opening::obstacle`].
    pub async fn opening(&self, name: &ObjectKey, side_file: Option<&SideFile>) -> Result<Opening> {
        if !name.as_str().ends_with(ENCRYPTED_SUFFIX) {
            return Ok(Opening::default());
        }
        let place = Some(Place::new(name, side_file.map(|side_file| side_file.system_identifier)));
        let identities = self.identities().await?;
        let sealed = side_file.and_then(|side_file| side_file.encryption.as_ref());
        let recipients = sealed.map(|sealed| sealed.recipients.as_slice()).unwrap_or_default();
        let obstacle = |obstacle| Ok(Opening { identities: Vec::new(), obstacle: Some(obstacle), place: place.clone() });
        if identities.is_empty() {
            return obstacle(Obstacle::no_key(name.as_str(), false, recipients));
        }
        let start = self.store().get_range(name, 0..header::LARGEST).await?;
        // What is wrong with the header is found again, and told, when the dump is read.
        let Ok(header) = Header::read(&mut &start[..]) else { return Ok(Opening { identities, obstacle: None, place }) };
        match self.key_ring()?.find(&header, sealed.map(|sealed| sealed.data_key), &identities).await {
            Ok(Some(identity)) => Ok(Opening { identities: vec![identity], obstacle: None, place }),
            Ok(None) => obstacle(Obstacle::no_key(name.as_str(), true, recipients)),
            Err(error) if error.kind() == ErrorKind::Damaged => obstacle(Obstacle::damaged_key(name.as_str(), &error)),
            Err(error) => Err(error),
        }
    }

    /// Looks whether the slots of the data keys are what was written; no key is needed for that.
    ///
    /// # Errors
    /// What the store says.
    pub async fn verify_keys(&self, report: &mut VerifyReport) -> Result<()> {
        let (count, damaged) = self.key_ring()?.damaged_slots().await?;
        report.objects += count as u64;
        report.damaged.extend(damaged.into_iter().map(|(name, reason)| DamagedDump { name, reason, store: None, whole_in: Vec::new() }));
        Ok(())
    }

    /// Finds what opens each of these, so that a verification looks into those that are encrypted.
    ///
    /// # Errors
    /// What is wrong with the files of keys. What the store says about one of them is found again by the verification.
    pub async fn open_subjects(&self, subjects: &mut [Subject]) -> Result<()> {
        self.identities().await?;
        for subject in subjects {
            subject.opening = match self.opening(&subject.name, subject.side_file.as_ref()).await {
                Ok(opening) => opening,
                Err(error) if matches!(error.kind(), ErrorKind::Bug | ErrorKind::Cancelled) => return Err(error),
                Err(_) => Opening { place: Some(Place::new(&subject.name, None)), ..Opening::default() },
            };
        }
        Ok(())
    }
}
