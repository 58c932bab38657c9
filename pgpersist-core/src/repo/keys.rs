//! [`RepositoryKeys`]: what this machine has at hand for an encrypted repository: whom it writes for, and what opens what was written.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::encryption::header::Header;
use crate::encryption::identity::Identity;
use crate::encryption::recipient::Recipient;
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::index_key::IndexKey;
use crate::key_ring::memory::KeyMemory;
use crate::key_ring::ring::KeyRing;
use crate::key_ring::writer::WriteKey;
use crate::repo::names::RunName;
use crate::repo::run_key::WrappedRunKeys;
use crate::repo::sealing::RunKeys;
use crate::workers;

/// The keys for an encrypted repository: those of the store, as its dumps have them.
pub struct RepositoryKeys {
    ring: KeyRing,
    settings: EncryptionSettings,
    memory: Option<KeyMemory>,
    accepts_unencrypted: bool,
    /// For whom is written, found once.
    writer: OnceCell<(WriteKey, IndexKey)>,
    /// What reads, read from its files once.
    identities: OnceCell<Vec<Identity>>,
    /// The keys of runs that were begun or opened.
    runs: Mutex<HashMap<RunName, Arc<RunKeys>>>,
    /// Data keys that nothing at hand opens, so that a passphrase is not derived from for each run.
    foreign: Mutex<HashSet<Recipient>>,
    /// Whether something was to be opened for which there is no key.
    lacked: AtomicBool,
    /// One run is opened at a time: a passphrase takes memory.
    opening: tokio::sync::Mutex<()>,
}

impl RepositoryKeys {
    /// With the data keys of a store, and what the machine remembers of those that it made.
    pub fn new(ring: KeyRing, settings: EncryptionSettings, memory: Option<KeyMemory>) -> Self {
        Self {
            ring,
            settings,
            memory,
            accepts_unencrypted: false,
            writer: OnceCell::new(),
            identities: OnceCell::new(),
            runs: Mutex::default(),
            foreign: Mutex::default(),
            lacked: AtomicBool::new(false),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// The same, and a repository that is not encrypted is read, too. Who can write into the store could have put it there.
    #[must_use]
    pub fn accepting_unencrypted(self) -> Self {
        Self { accepts_unencrypted: true, ..self }
    }

    /// Whether what is written is to be encrypted.
    pub fn encrypts(&self) -> bool {
        self.settings.encrypts()
    }

    /// Whether a repository that is not encrypted is one to read from.
    pub fn accepts_plain(&self) -> bool {
        !self.encrypts() || self.accepts_unencrypted
    }

    /// Finds for whom is written.
    pub(super) async fn prepare(&self, now: OffsetDateTime) -> Result<()> {
        let find = || self.ring.index_write_key(&self.settings, self.memory.as_ref(), now);
        self.writer.get_or_try_init(find).await.map(|_| ())
    }

    /// The data key that is written for, which only this machine or its passphrase can have made, and the index key that belongs to it.
    pub(super) fn writer(&self) -> Result<&(WriteKey, IndexKey)> {
        self.writer.get().ok_or_else(|| Error::Bug("nobody asked yet for whom to encrypt".to_owned()))
    }

    /// New keys for a run, and the same wrapped.
    pub(super) async fn begin(&self, run: RunName) -> Result<(Arc<RunKeys>, WrappedRunKeys)> {
        let (write_key, index_key) = self.writer()?.clone();
        workers::run(move || {
            let keys = RunKeys::begin(index_key.for_run(&run.to_string()))?;
            let wrapped = WrappedRunKeys::wrap(&keys, write_key.data_key, &write_key.recipients)?;
            Ok((Arc::new(keys), wrapped))
        })
        .await
    }

    /// Keeps the keys of a run that has begun.
    pub(super) fn keep(&self, run: RunName, keys: Arc<RunKeys>) {
        self.runs().insert(run, keys);
    }

    /// The keys of a run that was begun or opened before.
    pub(super) fn known(&self, run: RunName) -> Option<Arc<RunKeys>> {
        self.runs().get(&run).cloned()
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunName, Arc<RunKeys>>> {
        self.runs.lock().expect("no code panics while it holds the keys of runs")
    }

    /// The keys of a run, both where an identity opens them, else the index key where it belongs to a data key that this machine made.
    /// `None` where nothing at hand opens any of it.
    ///
    /// # Errors
    /// `Damaged`; what is wrong with the files of keys; what the store says.
    pub(super) async fn open(&self, run: RunName, wrapped: WrappedRunKeys) -> Result<Option<Arc<RunKeys>>> {
        let _one_at_a_time = self.opening.lock().await;
        if let Some(known) = self.known(run) {
            return Ok(Some(known));
        }
        let Some(opened) = self.opened(run, wrapped).await? else { return Ok(None) };
        let opened = Arc::new(opened);
        self.keep(run, Arc::clone(&opened));
        Ok(Some(opened))
    }

    async fn opened(&self, run: RunName, wrapped: WrappedRunKeys) -> Result<Option<RunKeys>> {
        let of_index = |index_key: &IndexKey| RunKeys::of_index(index_key.for_run(&run.to_string()));
        // A writer reads what it builds on with its own key, and so nothing that somebody else made up.
        if let Some((write_key, index_key)) = self.writer.get()
            && write_key.data_key == wrapped.data_key
        {
            return Ok(Some(of_index(index_key)));
        }
        let damaged = |what: &dyn std::fmt::Display| {
            Error::damaged(format!("the keys of the run {run} cannot be opened: {what}"), "choose another backup: see `pgpersist list`")
        };
        let header = wrapped.header().map_err(|fault| damaged(&fault))?;
        match self.identity_for(&header, wrapped.data_key).await {
            Ok(Some(identity)) => {
                let unwrapped = workers::run(move || Ok(wrapped.unwrap(&[identity]))).await?;
                return unwrapped.map(Some).map_err(|fault| damaged(&fault));
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Damaged => return Err(damaged(&error)),
            Err(error) => return Err(error),
        }
        let Some(memory) = &self.memory else { return Ok(None) };
        Ok(memory.index_key(wrapped.data_key).await?.as_ref().map(of_index))
    }

    /// What unwraps the keys of a run: a private key that they are wrapped for, else the data key, where that can be opened.
    async fn identity_for(&self, header: &Header, data_key: Recipient) -> Result<Option<Identity>> {
        let identities = self.identities().await?;
        let direct = identities.iter().find(|identity| matches!(identity, Identity::Key(_)) && header.is_for(identity));
        if direct.is_some() || self.foreign().contains(&data_key) {
            return Ok(direct.cloned());
        }
        let found = self.ring.find(header, Some(data_key), identities).await?;
        if found.is_none() {
            self.foreign().insert(data_key);
        }
        Ok(found)
    }

    fn foreign(&self) -> MutexGuard<'_, HashSet<Recipient>> {
        self.foreign.lock().expect("no code panics while it holds the names of keys")
    }

    /// Whether something was to be opened, and no key at hand did.
    pub(super) fn lacked_one(&self) -> bool {
        self.lacked.load(Ordering::Relaxed)
    }

    async fn identities(&self) -> Result<&[Identity]> {
        let settings = &self.settings;
        let read = self.identities.get_or_try_init(|| {
            let settings = settings.clone();
            workers::run(move || settings.identities())
        });
        read.await.map(Vec::as_slice)
    }

    /// The error that nothing at hand opens what a run wrote, or not so far as it takes.
    pub(super) async fn no_key(&self, run: RunName) -> Error {
        self.lacked.store(true, Ordering::Relaxed);
        let why = match self.identities().await {
            Ok([]) => "no key is at hand",
            Ok(_) => "none of the keys at hand opens it",
            Err(error) => return error,
        };
        let recipients: Vec<String> = self.settings.recipients.iter().map(ToString::to_string).collect();
        let whose =
            if recipients.is_empty() { String::new() } else { format!("; backups here are encrypted to {}", recipients.join(", ")) };
        Error::denied(
            format!("{run} is encrypted, and {why}"),
            format!("give the file of the private key with `--identity FILE`, or as `identity_file` of the store's `encryption`{whose}"),
        )
    }
}

impl std::fmt::Debug for RepositoryKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RepositoryKeys").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::encryption::identity::PrivateIdentity;
    use crate::repo::layout;
    use crate::repo::repository::Repository;
    use crate::store::BackupStore;
    use crate::store::memory::MemoryBackupStore;

    const NOW: OffsetDateTime = datetime!(2026-02-08 09:33:16 UTC);

    fn run(last: u8) -> RunName {
        RunName::new(NOW, [1, 2, 3, last])
    }

    fn keys(store: &Arc<dyn BackupStore>, settings: &EncryptionSettings) -> Arc<RepositoryKeys> {
        let ring = KeyRing::new(Arc::clone(store), ".pgpersist/main/keys".parse().unwrap());
        Arc::new(RepositoryKeys::new(ring, settings.clone(), None))
    }

    #[tokio::test]
    async fn a_run_is_begun_once_by_one_writer_and_nothing_is_written_before() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let alice = PrivateIdentity::generate().unwrap();
        let settings = EncryptionSettings { recipients: vec![alice.recipient()], ..EncryptionSettings::default() };
        let folder = || ".pgpersist/main/repository".parse().unwrap();
        let open = async || Repository::open_or_make_with(Arc::clone(&store), folder(), 7, keys(&store, &settings), NOW).await.unwrap();
        let (repository, another) = (open().await, open().await);
        assert_eq!(repository.begin_run(run(1)).await.unwrap_err().kind(), ErrorKind::Bug, "nobody asked for whom");
        for writer in [&repository, &another] {
            writer.prepare_writing(NOW).await.unwrap();
        }
        assert_eq!(repository.begun(run(1)).unwrap_err().kind(), ErrorKind::Bug);
        repository.begin_run(run(1)).await.unwrap();
        assert!(repository.begun(run(1)).unwrap().is_some_and(|keys| keys.open_data()));
        assert_eq!(another.begin_run(run(1)).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(another.begun(run(1)).unwrap_err().kind(), ErrorKind::Bug);
        // Without a memory each of them has a data key of its own, which the other does not believe.
        assert!(repository.can_build_on(run(1)).await.unwrap() && !another.can_build_on(run(1)).await.unwrap());
        assert!(!repository.can_build_on(run(2)).await.unwrap());

        let object = store.get(&repository.key(&layout::run_key(run(1))).unwrap()).await.unwrap();
        let opened = WrappedRunKeys::parse(run(1), &object).unwrap().unwrap(&[Identity::Key(alice)]).unwrap();
        assert_eq!(*opened.expose().unwrap(), *repository.begun(run(1)).unwrap().unwrap().expose().unwrap());
        let closed = another.keys_of(run(1)).await.unwrap_err();
        assert!(closed.kind() == ErrorKind::Denied && another.is_closed(&closed), "{closed}");
    }
}
