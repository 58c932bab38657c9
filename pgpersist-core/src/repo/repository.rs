//! [`Repository`]: whole objects of a repository, in and out. What they are good for, others know.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::repo::descriptor::Descriptor;
use crate::repo::fault::Fault;
use crate::repo::identity::HashKey;
use crate::repo::layout;
use crate::repo::manifest::Manifest;
use crate::repo::names::RunName;
use crate::repo::rescue;
use crate::store::{BackupStore, ObjectKey};

/// The repository of one cluster in one store.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn BackupStore>,
    folder: ObjectKey,
    descriptor: Descriptor,
    hash_key: HashKey,
}

impl fmt::Debug for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Repository").field("store", &self.store).field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Repository {
    /// The repository whose objects lie below `folder`; nothing where there is none.
    ///
    /// # Errors
    /// `Damaged` when its descriptor is, or is gone while there are backups; `Invalid` when a newer pgpersist made it; what the store says.
    pub async fn open(store: Arc<dyn BackupStore>, folder: ObjectKey) -> Result<Option<Self>> {
        let key = folder.join(layout::DESCRIPTOR)?;
        let bytes = match store.get(&key).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A descriptor is never removed, and what it says of the others cannot be guessed.
                let prefix = format!("{folder}/{}", layout::BACKUPS);
                let backup = store.list(&prefix).try_next().await?;
                return if backup.is_some() { Err(wrong(store.as_ref(), &key, Fault::Missing)) } else { Ok(None) };
            }
            Err(error) => return Err(error),
        };
        let descriptor = Descriptor::parse(&bytes).map_err(|fault| wrong(store.as_ref(), &key, fault))?;
        let hash_key = descriptor.hash_key().map_err(|fault| wrong(store.as_ref(), &key, fault))?;
        Ok(Some(Self { store, folder, descriptor, hash_key }))
    }

    /// The repository whose objects lie below `folder`, made now where there is none. Two who make it at once get the same one.
    ///
    /// # Errors
    /// `Unsafe` when it is of another cluster; as [`open`](Self::open).
    pub async fn open_or_make(store: Arc<dyn BackupStore>, folder: ObjectKey, system_identifier: u64, now: OffsetDateTime) -> Result<Self> {
        let found = match Self::open(Arc::clone(&store), folder.clone()).await? {
            Some(found) => found,
            None => {
                let key = folder.join(layout::DESCRIPTOR)?;
                let descriptor = Descriptor::new(rand::random(), rand::random(), system_identifier, now);
                let bytes = descriptor.encode().map_err(|fault| wrong(store.as_ref(), &key, fault))?;
                match store.put_if_absent(&key, bytes.into()).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    Err(error) => return Err(error),
                }
                let shown = store.to_string();
                let gone = || Error::unavailable(format!("the repository in {shown} comes and goes"), "run it again");
                Self::open(store, folder).await?.ok_or_else(gone)?
            }
        };
        if found.descriptor.system_identifier != system_identifier.to_string() {
            return Err(Error::refused(
                format!(
                    "the repository in {} is of another cluster: its system identifier is {}, and this one's is {system_identifier}",
                    found.store, found.descriptor.system_identifier
                ),
                "give this cluster a name of its own (`[cluster] name`) or another store",
            ));
        }
        rescue::put_missing(found.store.as_ref(), &found.folder).await?;
        Ok(found)
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn BackupStore> {
        &self.store
    }

    /// What it is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The key of its identities.
    pub fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    /// The key in the store of what is called `below` in [`layout`].
    ///
    /// # Errors
    /// `Invalid` when the whole is too long.
    pub fn key(&self, below: &str) -> Result<ObjectKey> {
        self.folder.join(below)
    }

    /// The error that an object of this repository is not what it should be.
    pub fn wrong(&self, below: &str, fault: Fault) -> Error {
        match self.key(below) {
            Ok(key) => wrong(self.store.as_ref(), &key, fault),
            Err(error) => error,
        }
    }

    /// All backups, in the order of their names.
    ///
    /// # Errors
    /// What the store says.
    pub async fn backups(&self) -> Result<Vec<RunName>> {
        let prefix = self.key(layout::BACKUPS.trim_end_matches('/'))?;
        let prefix = format!("{prefix}/");
        let folder = format!("{}/", self.folder);
        let mut listed = self.store.list(&prefix);
        let mut backups = Vec::new();
        while let Some(meta) = listed.try_next().await? {
            let below = meta.key.as_str().strip_prefix(&folder);
            backups.extend(below.and_then(layout::parse_manifest));
        }
        Ok(backups)
    }

    /// A backup's manifest.
    ///
    /// # Errors
    /// `NotFound`; `Damaged`; `Invalid` when a newer pgpersist wrote it; what the store says.
    pub async fn manifest(&self, backup: RunName) -> Result<Manifest> {
        let below = layout::manifest(backup);
        let bytes = self.store.get(&self.key(&below)?).await?;
        Manifest::parse(&below, &bytes).map_err(|fault| self.wrong(&below, fault))
    }

    /// Publishes a backup: from here on there is one. All that it names must be in the store.
    ///
    /// # Errors
    /// `Conflict` when there is one of this name; what the store says.
    pub async fn publish(&self, manifest: &Manifest) -> Result<()> {
        let below = layout::manifest(manifest.backup);
        let bytes = manifest.encode(&below).map_err(|fault| self.wrong(&below, fault))?;
        self.store.put_if_absent(&self.key(&below)?, Bytes::from(bytes)).await
    }
}

fn wrong(store: &dyn BackupStore, key: &ObjectKey, fault: Fault) -> Error {
    match fault {
        Fault::Version(_) => Error::invalid(format!("{key} in {store} cannot be read: {fault}"), "take a newer pgpersist"),
        _ => Error::damaged(
            format!("{key} in {store} is damaged: {fault}"),
            "`pgpersist verify --full` tells which backups need it; bring a copy from another store with `pgpersist sync`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::store::memory::MemoryBackupStore;

    const NOW: OffsetDateTime = datetime!(2026-02-08 09:33:16 UTC);

    fn folder() -> ObjectKey {
        ".pgpersist/main/repository".parse().unwrap()
    }

    #[tokio::test]
    async fn a_repository_is_made_once_and_is_of_one_cluster() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        assert!(Repository::open(Arc::clone(&store), folder()).await.unwrap().is_none());
        let made = Repository::open_or_make(Arc::clone(&store), folder(), 7, NOW).await.unwrap();
        let again = Repository::open_or_make(Arc::clone(&store), folder(), 7, NOW).await.unwrap();
        assert_eq!(made.descriptor(), again.descriptor());
        let other = Repository::open_or_make(Arc::clone(&store), folder(), 8, NOW).await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Unsafe);
        assert!(made.backups().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn two_who_make_it_at_once_get_the_same_one() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let makers = (0..8).map(|_| Repository::open_or_make(Arc::clone(&store), folder(), 7, NOW));
        let made = futures_util::future::try_join_all(makers).await.unwrap();
        assert!(made.iter().all(|one| one.descriptor() == made[0].descriptor()));
    }

    #[tokio::test]
    async fn what_restores_it_by_hand_is_put_again_where_it_is_gone_and_is_left_where_it_is_another() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        Repository::open_or_make(Arc::clone(&store), folder(), 7, NOW).await.unwrap();
        let (page, program) = (folder().join("RESTORE.md").unwrap(), folder().join("restore.py").unwrap());
        store.delete(&page).await.unwrap();
        store.put(&program, Bytes::from_static(b"another")).await.unwrap();
        Repository::open_or_make(Arc::clone(&store), folder(), 7, NOW).await.unwrap();
        assert_eq!(store.get(&page).await.unwrap(), rescue::RESCUE_FILES[0].object());
        assert_eq!(store.get(&program).await.unwrap(), "another");
    }

    #[tokio::test]
    async fn a_descriptor_that_is_gone_is_no_new_repository_where_there_are_backups() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        Repository::open_or_make(Arc::clone(&store), folder(), 7, NOW).await.unwrap();
        let key = folder().join(layout::DESCRIPTOR).unwrap();
        store.delete(&key).await.unwrap();
        assert!(Repository::open(Arc::clone(&store), folder()).await.unwrap().is_none());
        let manifest = folder().join("backups/20260208T093316Z-0f8e7d6c.manifest").unwrap();
        store.put(&manifest, Bytes::from_static(b"of a backup")).await.unwrap();
        let error = Repository::open_or_make(store, folder(), 7, NOW).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("repository/repository"), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_descriptor_is_no_new_repository() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        Repository::open_or_make(Arc::clone(&store), folder(), 7, NOW).await.unwrap();
        let key = folder().join(layout::DESCRIPTOR).unwrap();
        let mut bytes = store.get(&key).await.unwrap().to_vec();
        bytes[20] ^= 1;
        store.put(&key, bytes.into()).await.unwrap();
        let error = Repository::open_or_make(store, folder(), 7, NOW).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("repository/repository"), "{error}");
    }
}
