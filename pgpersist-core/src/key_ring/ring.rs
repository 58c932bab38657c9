//! [`KeyRing`]: the data keys of a cluster in one store: which there are, who opens them, and opening with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::stream::TryStreamExt;
use time::OffsetDateTime;

use crate::encryption::header::Header;
use crate::encryption::identity::{Identity, PrivateIdentity};
use crate::encryption::recipient::Recipient;
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::data_key::DataKeyName;
use crate::key_ring::index_key::IndexKey;
use crate::key_ring::slot::{self, Holder, Slot, Wrapping};
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

/// The data keys of a cluster in a store.
#[derive(Debug, Clone)]
pub struct KeyRing {
    store: Arc<dyn BackupStore>,
    folder: ObjectKey,
    /// Data keys that were opened, so that a passphrase is not derived from for each dump.
    opened: Arc<Mutex<Vec<Opened>>>,
}

/// A data key, what opened it, and its private half.
type Opened = (DataKeyName, Identity, PrivateIdentity);

/// A data key and its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// Its name.
    pub name: DataKeyName,
    /// Its slots, in the order of their names.
    pub slots: Vec<Slot>,
}

impl DataKey {
    /// The recipients that have a slot.
    pub fn recipients(&self) -> BTreeSet<Recipient> {
        let recipient = |slot: &Slot| if let Holder::Recipient(recipient) = slot.holder { Some(recipient) } else { None };
        self.slots.iter().filter_map(recipient).collect()
    }

    /// Whether a passphrase has a slot.
    pub fn has_passphrase(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.holder, Holder::Passphrase(_)))
    }
}

impl KeyRing {
    /// The ring whose objects lie below `folder`.
    pub fn new(store: Arc<dyn BackupStore>, folder: ObjectKey) -> Self {
        Self { store, folder, opened: Arc::default() }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn BackupStore> {
        &self.store
    }

    pub(super) fn folder(&self) -> &ObjectKey {
        &self.folder
    }

    /// All data keys that have a slot, newest first.
    ///
    /// # Errors
    /// What the store says.
    pub async fn data_keys(&self) -> Result<Vec<DataKey>> {
        let mut found: BTreeMap<DataKeyName, Vec<Slot>> = BTreeMap::new();
        let prefix = format!("{}/", self.folder);
        let mut listed = self.store.list(&prefix);
        while let Some(meta) = listed.try_next().await? {
            if let Some(slot) = Slot::parse(meta.key) {
                found.entry(slot.data_key).or_default().push(slot);
            }
        }
        Ok(found.into_iter().rev().map(|(name, slots)| DataKey { name, slots }).collect())
    }

    /// The private half of a data key, where one of the identities opens a slot.
    ///
    /// # Errors
    /// `Damaged` when none does, and a slot that might have is damaged; what the store says.
    pub async fn unlock(&self, data_key: &DataKey, identities: &[Identity]) -> Result<Option<PrivateIdentity>> {
        let mut damage = None;
        for slot in &data_key.slots {
            let fitting: Vec<Identity> = identities.iter().filter(|identity| fits(identity, &slot.holder)).cloned().collect();
            if fitting.is_empty() {
                continue;
            }
            let opened = match slot.read(self.store.as_ref()).await {
                Ok(bytes) => {
                    let slot = slot.clone();
                    workers::run(move || slot.open(&bytes, &fitting)).await
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok(Some(identity)) => return Ok(Some(identity)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Damaged => drop(damage.get_or_insert(error)),
                // It was removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// Something that opens what begins with this header: one of the identities itself, else the data key that one of them opens.
    /// `hint` is the data key that is said to open it, and is tried first.
    ///
    /// # Errors
    /// As [`unlock`](Self::unlock); `Damaged` when it was for none of the data keys although all of them are at hand.
    pub async fn find(&self, header: &Header, hint: Option<Recipient>, identities: &[Identity]) -> Result<Option<Identity>> {
        let (tried, given) = (header.clone(), identities.to_vec());
        let own = workers::run(move || Ok(given.into_iter().find(|identity| tried.is_for(identity)))).await?;
        if own.is_some() || identities.is_empty() {
            return Ok(own);
        }
        let mut data_keys = self.data_keys().await?;
        data_keys.sort_by_key(|data_key| Some(data_key.name.public()) != hint);
        let (mut damage, mut missing) = (None, data_keys.is_empty());
        for data_key in &data_keys {
            match self.unlock_once(data_key, identities).await {
                Ok(Some(identity)) => {
                    let identity = Identity::Key(identity);
                    if header.is_for(&identity) {
                        return Ok(Some(identity));
                    }
                }
                Ok(None) => missing = true,
                Err(error) if error.kind() == ErrorKind::Damaged => drop(damage.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        if !missing && damage.is_none() {
            damage = Some(Error::damaged(
                "none of the cluster's data keys opens it, and all of them are at hand: its header is damaged, or it was encrypted elsewhere",
                "choose another dump: see `pgpersist list`",
            ));
        }
        damage.map_or(Ok(None), Err)
    }

    /// The same as [`unlock`](Self::unlock), and what an identity has opened once it need not open again.
    async fn unlock_once(&self, data_key: &DataKey, identities: &[Identity]) -> Result<Option<PrivateIdentity>> {
        // Only for whom there is a slot: who was removed does not open it because he did before.
        let holders = |identity: &&Identity| data_key.slots.iter().any(|slot| fits(identity, &slot.holder));
        for identity in identities.iter().filter(holders) {
            let mut opened = self.opened().clone().into_iter();
            if let Some((.., key)) = opened.find(|(name, by, _)| *name == data_key.name && by.is_same(identity)) {
                return Ok(Some(key));
            }
        }
        for identity in identities {
            if let Some(opened) = self.unlock(data_key, std::slice::from_ref(identity)).await? {
                self.opened().push((data_key.name, identity.clone(), opened.clone()));
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    fn opened(&self) -> MutexGuard<'_, Vec<Opened>> {
        self.opened.lock().expect("no code panics while it looks for a key")
    }

    /// Makes a data key, wraps it, and forgets its private half; the index key that belongs to it is returned.
    ///
    /// # Errors
    /// `Invalid` for a passphrase that is too short, or a public key that protects nothing; what the store says.
    pub(super) async fn make(&self, wrappings: Vec<Wrapping>, now: OffsetDateTime) -> Result<(DataKeyName, IndexKey)> {
        if wrappings.is_empty() {
            return Err(Error::Bug("a data key was to be made for nobody".to_owned()));
        }
        let (name, index_key, slots) = workers::run(move || {
            let identity = PrivateIdentity::generate()?;
            let name = DataKeyName::new(now, identity.recipient());
            let slots = wrappings.iter().map(|wrapping| slot::make(name, &identity, wrapping)).collect::<Result<Vec<_>>>()?;
            Ok((name, IndexKey::of(&identity), slots))
        })
        .await?;
        for (file_name, bytes) in slots {
            self.store.put_if_absent(&self.folder.join(&format!("{name}/{file_name}"))?, bytes.into()).await?;
        }
        Ok((name, index_key))
    }

    /// Wraps a data key for one more.
    pub(super) async fn wrap(&self, name: DataKeyName, identity: PrivateIdentity, wrapping: Wrapping) -> Result<ObjectKey> {
        let (file_name, bytes) = workers::run(move || slot::make(name, &identity, &wrapping)).await?;
        let key = self.folder.join(&format!("{name}/{file_name}"))?;
        self.store.put_if_absent(&key, bytes.into()).await?;
        Ok(key)
    }

    /// The slots that are not what was written, each with what is wrong; no key is needed for it. Those that could not be read at all are
    /// errors of the store.
    ///
    /// # Errors
    /// What the store says.
    pub async fn damaged_slots(&self) -> Result<(usize, Vec<(ObjectKey, String)>)> {
        let (mut count, mut damaged) = (0, Vec::new());
        for slot in self.data_keys().await?.iter().flat_map(|data_key| &data_key.slots) {
            count += 1;
            match slot.read(self.store.as_ref()).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    damaged.push((slot.key.clone(), "it is not what was written".to_owned()))
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((count, damaged))
    }
}

fn fits(identity: &Identity, holder: &Holder) -> bool {
    match (identity, holder) {
        (Identity::Key(key), Holder::Recipient(recipient)) => key.recipient() == *recipient,
        (Identity::Passphrase(_), Holder::Passphrase(_)) => true,
        _ => false,
    }
}
