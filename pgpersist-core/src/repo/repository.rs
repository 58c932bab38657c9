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
use crate::repo::keys::RepositoryKeys;
use crate::repo::layout;
use crate::repo::manifest::Manifest;
use crate::repo::names::{PackName, RunName};
use crate::repo::rescue;
use crate::repo::run_key::WrappedRunKeys;
use crate::repo::sealing::RunKeys;
use crate::store::{BackupStore, ObjectKey};

/// The repository of one cluster in one store.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn BackupStore>,
    folder: ObjectKey,
    descriptor: Descriptor,
    hash_key: HashKey,
    /// What opens it and what is written with, for one that is encrypted.
    keys: Option<Arc<RepositoryKeys>>,
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
        Ok(Some(Self { store, folder, descriptor, hash_key, keys: None }))
    }

    /// The same with what opens it, and what is written with, where it is encrypted.
    #[must_use]
    pub fn with_keys(self, keys: Arc<RepositoryKeys>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// The repository whose objects lie below `folder`, made now where there is none, not encrypted. Two who make it at once get the same one.
    ///
    /// # Errors
    /// `Unsafe` when it is of another cluster, or encrypted; as [`open`](Self::open).
    pub async fn open_or_make(store: Arc<dyn BackupStore>, folder: ObjectKey, system_identifier: u64, now: OffsetDateTime) -> Result<Self> {
        let found = Self::found_or_made(store, folder, system_identifier, false, now).await?;
        if found.is_encrypted() {
            return Err(Error::refused(
                format!("the repository in {} is encrypted, and nothing tells whom to encrypt to", found.store),
                "configure the store's `encryption` as it was",
            ));
        }
        Ok(found)
    }

    /// The same to write to with these keys: encrypted where they encrypt.
    ///
    /// # Errors
    /// As [`open_or_make`](Self::open_or_make); `Unsafe` when it is not encrypted and should be.
    pub async fn open_or_make_with(
        store: Arc<dyn BackupStore>,
        folder: ObjectKey,
        system_identifier: u64,
        keys: Arc<RepositoryKeys>,
        now: OffsetDateTime,
    ) -> Result<Self> {
        if !keys.encrypts() {
            return Self::open_or_make(store, folder, system_identifier, now).await;
        }
        let found = Self::found_or_made(store, folder, system_identifier, true, now).await?;
        if !found.is_encrypted() {
            return Err(Error::refused(
                format!("the repository in {} is not encrypted, and what is written there is to be", found.store),
                format!("give backups another store, or move {} away: an encrypted repository is then begun", found.folder),
            ));
        }
        Ok(found.with_keys(keys))
    }

    async fn found_or_made(
        store: Arc<dyn BackupStore>,
        folder: ObjectKey,
        system_identifier: u64,
        encrypted: bool,
        now: OffsetDateTime,
    ) -> Result<Self> {
        let found = match Self::open(Arc::clone(&store), folder.clone()).await? {
            Some(found) => found,
            None => {
                let key = folder.join(layout::DESCRIPTOR)?;
                let descriptor = Descriptor::new(rand::random(), rand::random(), system_identifier, now);
                let descriptor = if encrypted { descriptor.encrypted() } else { descriptor };
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

    /// Whether what is in it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.descriptor.encrypted
    }

    /// Refuses to read from a repository that is not encrypted where it should be: who can write into the store could have put it there.
    ///
    /// # Errors
    /// `Unsafe` with the way to insist.
    pub fn refuse_downgrade(&self) -> Result<()> {
        if self.is_encrypted() || self.keys.as_ref().is_none_or(|keys| keys.accepts_plain()) {
            return Ok(());
        }
        Err(Error::refused(
            format!("the repository in {} is not encrypted, and what lies there should be", self.store),
            "if it is from before it was, and nobody else could have put it there, go on with `--unencrypted`",
        ))
    }

    /// Finds for whom is written, before a writer does anything else; nothing to do where nothing is encrypted.
    ///
    /// # Errors
    /// What is wrong with the keys; what the store says.
    pub async fn prepare_writing(&self, now: OffsetDateTime) -> Result<()> {
        match self.writing_keys()? {
            Some(keys) => keys.prepare(now).await,
            None => Ok(()),
        }
    }

    fn writing_keys(&self) -> Result<Option<&RepositoryKeys>> {
        match &self.keys {
            _ if !self.is_encrypted() => Ok(None),
            Some(keys) => Ok(Some(keys)),
            None => Err(Error::Bug("an encrypted repository was to be written to without keys".to_owned())),
        }
    }

    /// Makes and puts the keys of a run, before anything that it encrypts; nothing to do where nothing is.
    ///
    /// # Errors
    /// `Conflict` when there is such a run; `Bug` when nobody [prepared](Self::prepare_writing); what the store says.
    pub async fn begin_run(&self, run: RunName) -> Result<()> {
        let Some(keys) = self.writing_keys()? else { return Ok(()) };
        let (run_keys, wrapped) = keys.begin(run).await?;
        // Only whoever put them may seal with them: two runs of one name would seal two things at one place.
        self.store.put_if_absent(&self.key(&layout::run_key(run))?, wrapped.encode(run).into()).await?;
        keys.keep(run, run_keys);
        Ok(())
    }

    /// The keys of a run that was begun here; nothing where it is not encrypted.
    ///
    /// # Errors
    /// `Bug` when it was not begun.
    pub fn begun(&self, run: RunName) -> Result<Option<Arc<RunKeys>>> {
        if !self.is_encrypted() {
            return Ok(None);
        }
        let known = self.keys.as_ref().and_then(|keys| keys.known(run)).filter(|keys| keys.open_data());
        known.map(Some).ok_or_else(|| Error::Bug(format!("{run} was to be written without keys")))
    }

    /// Whether the next backup may build on this one: with the data key of this writer, so that nobody else can have made it up, and who was
    /// taken out of the configuration neither.
    ///
    /// # Errors
    /// `Bug` when nobody [prepared](Self::prepare_writing); what the store says, but for what is damaged or missing there.
    pub async fn can_build_on(&self, backup: RunName) -> Result<bool> {
        let Some(keys) = self.writing_keys()? else { return Ok(true) };
        let data_key = keys.writer()?.0.data_key;
        match self.wrapped_keys(backup).await {
            Ok(wrapped) => Ok(wrapped.data_key == data_key),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What opens that which a run wrote; nothing where it is not encrypted.
    ///
    /// # Errors
    /// `Denied` when nothing at hand does; `Damaged`, also when the keys are missing; what the store says.
    pub async fn keys_of(&self, run: RunName) -> Result<Option<Arc<RunKeys>>> {
        if !self.is_encrypted() {
            return Ok(None);
        }
        let Some(keys) = &self.keys else { return Err(no_keys(run)) };
        if let Some(known) = keys.known(run) {
            return Ok(Some(known));
        }
        match keys.open(run, self.wrapped_keys(run).await?).await? {
            Some(opened) => Ok(Some(opened)),
            None => Err(keys.no_key(run).await),
        }
    }

    /// Refuses what nothing at hand can read: the files of a backup.
    ///
    /// # Errors
    /// `Denied`; as [`keys_of`](Self::keys_of).
    pub async fn require_data(&self, run: RunName) -> Result<()> {
        match self.keys_of(run).await? {
            Some(keys) if !keys.open_data() => Err(self.no_key(run).await),
            _ => Ok(()),
        }
    }

    /// Whether an error says that no key at hand opens something, rather than that the store refuses.
    pub fn is_closed(&self, error: &Error) -> bool {
        self.is_encrypted() && error.kind() == ErrorKind::Denied && self.keys.as_ref().is_none_or(|keys| keys.lacked_one())
    }

    /// The error that no key at hand opens the files that a run wrote.
    pub(super) async fn no_key(&self, run: RunName) -> Error {
        match &self.keys {
            Some(keys) => keys.no_key(run).await,
            None => no_keys(run),
        }
    }

    /// The keys of a run as they lie in the store.
    ///
    /// # Errors
    /// `Damaged`, also when they are missing: without them nothing that the run wrote can be read. What the store says.
    pub async fn wrapped_keys(&self, run: RunName) -> Result<WrappedRunKeys> {
        let below = layout::run_key(run);
        let key = self.key(&below)?;
        let bytes = match self.store.get(&key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::damaged(
                    format!("{key} in {} is missing: without it nothing that {run} wrote can be read", self.store),
                    "bring a copy from another store, or choose another backup: see `pgpersist list`",
                ));
            }
            got => got?,
        };
        WrappedRunKeys::parse(run, &bytes).map_err(|fault| self.wrong(&below, fault))
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
        self.listed(layout::BACKUPS, layout::parse_manifest).await
    }

    /// All packs, in the order of their names.
    ///
    /// # Errors
    /// What the store says.
    pub async fn packs(&self) -> Result<Vec<PackName>> {
        self.listed(layout::PACKS, layout::parse_pack).await
    }

    async fn listed<T>(&self, below: &str, parse: fn(&str) -> Option<T>) -> Result<Vec<T>> {
        let prefix = self.key(below.trim_end_matches('/'))?;
        let prefix = format!("{prefix}/");
        let folder = format!("{}/", self.folder);
        let mut listed = self.store.list(&prefix);
        let mut found = Vec::new();
        while let Some(meta) = listed.try_next().await? {
            found.extend(meta.key.as_str().strip_prefix(&folder).and_then(parse));
        }
        Ok(found)
    }

    /// A backup's manifest.
    ///
    /// # Errors
    /// `NotFound`; `Damaged`; `Invalid` when a newer pgpersist wrote it; what the store says.
    pub async fn manifest(&self, backup: RunName) -> Result<Manifest> {
        let below = layout::manifest(backup);
        let bytes = self.store.get(&self.key(&below)?).await?;
        // Damage is told without a key.
        Manifest::look_at(&below, &bytes).map_err(|fault| self.wrong(&below, fault))?;
        let parsed = match self.keys_of(backup).await? {
            Some(keys) => Manifest::parse_sealed(&below, &bytes, backup, &keys),
            None => Manifest::parse(&below, &bytes),
        };
        parsed.map_err(|fault| self.wrong(&below, fault))
    }

    /// Publishes a backup: from here on there is one. All that it names must be in the store.
    ///
    /// # Errors
    /// `Conflict` when there is one of this name; what the store says.
    pub async fn publish(&self, manifest: &Manifest) -> Result<()> {
        let below = layout::manifest(manifest.backup);
        let bytes = match self.begun(manifest.backup)? {
            Some(keys) => manifest.encode_sealed(&below, &keys),
            None => manifest.encode(&below),
        };
        let bytes = bytes.map_err(|fault| self.wrong(&below, fault))?;
        self.store.put_if_absent(&self.key(&below)?, Bytes::from(bytes)).await
    }
}

fn no_keys(run: RunName) -> Error {
    Error::denied(format!("{run} is encrypted, and no key is at hand"), "give the file of the private key with `--identity FILE`")
}

fn wrong(store: &dyn BackupStore, key: &ObjectKey, fault: Fault) -> Error {
    match fault {
        Fault::Version(_) => Error::invalid(format!("{key} in {store} cannot be read: {fault}"), "take a newer pgpersist"),
        _ => Error::damaged(
            format!("{key} in {store} is damaged: {fault}"),
            "`pgpersist verify` tells which backups need it; take another one, or bring this object back from a copy of the store",
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
