//! What a store knows of a cluster, and what it is told: which cluster it serves, and on which volume that lives.
//!
//! Beside the cluster's card lies `place.json`: where the file system was mounted that held the data directory. A volume that
//! failed to mount leaves its mount point behind, an empty folder on a disk that may well be persistent; only who knows that
//! something should be mounted there can tell it from a fresh volume.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backup::request::folder;
use crate::clock::{Clock, SystemClock};
use crate::data_directory::identity::IdentityCard;
use crate::data_directory::placement::Placement;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::all_stores::AllStores;
use crate::logical::cluster_card::{ClusterCard, FOLDER};
use crate::logical::name::folder_of;
use crate::logical::shelf::{DumpEntry, DumpState, Shelf};
use crate::progress::Silent;
use crate::repo::repository::Repository;
use crate::restore::newest::Newest;
use crate::store::write_probe::WriteProbe;
use crate::store::{ObjectKey, conditions};

/// The name of the object that says where a cluster lives.
const PLACE: &str = "place.json";
/// How long a copy may take to say which cluster it serves.
const COPY: Duration = Duration::from_secs(60);
/// More than what the store is told takes together.
const PROBE_BYTES: usize = 4096;

/// What is known about the cluster apart from its directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Knowledge {
    /// The card on the volume.
    pub card: Option<IdentityCard>,
    /// The system identifier of the card in the store.
    pub store_identifier: Option<u64>,
    /// The newest dump of each database, by name.
    pub newest_dumps: Vec<String>,
    /// Those of them that are known to be damaged, with the reason.
    pub damaged_dumps: Vec<(String, String)>,
    /// The newest good backup; asked for only where it may be restored.
    pub newest_backup: Option<KnownBackup>,
    /// On which volume it lived, as the store knows it.
    pub lived_on: Option<KnownPlace>,
}

/// A backup that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBackup {
    /// Its name.
    pub name: String,
    /// The major version of its cluster.
    pub major: u32,
    /// Why newer ones are not taken, for people.
    pub passed_over: Vec<String>,
}

impl Knowledge {
    /// What speaks for an earlier cluster, for people; `None` when nothing does.
    pub fn evidence(&self) -> Option<String> {
        if let Some(card) = &self.card {
            return Some(format!("the volume's card names system identifier {}", card.system_identifier));
        }
        if let Some(identifier) = self.store_identifier {
            return Some(format!("the store's card names system identifier {identifier}"));
        }
        let of_backup = self.newest_backup.as_ref().map(|backup| format!("the store holds backups of it, such as {}", backup.name));
        of_backup.or_else(|| self.newest_dumps.first().map(|name| format!("the store holds dumps of it, such as {name}")))
    }
}

/// Asks the store for the cluster's card and the newest dump of each database, good or not: an older one is never taken in its
/// place unseen. What the store does not know, its copies may: the machine that it was on can be lost as a whole.
///
/// # Errors
/// What the store says; `Unavailable` when nothing is known and a copy that may know something does not answer.
pub async fn ask(shelf: &Shelf) -> Result<Knowledge> {
    let mut card = ClusterCard::read(shelf.store().as_ref(), shelf.cluster()).await?;
    let (mut newest_dumps, mut damaged_dumps) = newest(&shelf.list().await?);
    // A copy that hangs is no reason to wait where it has nothing to say.
    if !shelf.copies().is_empty() && (newest_dumps.is_empty() || !damaged_dumps.is_empty()) {
        let all = AllStores::look(shelf, &Silent).await?;
        (newest_dumps, damaged_dumps) = newest(all.list());
        for copy in shelf.copies().iter().filter(|copy| all.answered(&copy.shelf)) {
            if card.is_none() {
                card = ClusterCard::read(copy.shelf.store().as_ref(), shelf.cluster()).await?;
            }
        }
        let silent = all.stores().find_map(|(_, shelf, why)| Some((shelf.store().to_string(), why?)));
        if let (None, true, Some((store, why))) = (&card, newest_dumps.is_empty(), silent) {
            return Err(Error::unavailable(
                format!("the primary store knows nothing of this cluster, and its copy in {store} cannot be asked: {why}"),
                "run it again when that store answers, or leave it out: `--store` with the first one alone",
            ));
        }
    }
    let lived_on = read_place(shelf).await?;
    let store_identifier = card.map(|card| card.system_identifier);
    Ok(Knowledge { card: None, store_identifier, newest_dumps, damaged_dumps, newest_backup: None, lived_on })
}

/// The repository of the cluster's backups, with what opens it; nothing where the store has none.
///
/// # Errors
/// As [`Repository::open`]; `Unsafe` when it is not encrypted where the store is.
pub async fn repository(shelf: &Shelf) -> Result<Option<Repository>> {
    let Some(found) = Repository::open(Arc::clone(shelf.store()), folder(shelf.cluster())?).await? else { return Ok(None) };
    let found = found.with_keys(shelf.repository_keys()?);
    found.refuse_downgrade()?;
    Ok(Some(found))
}

/// The newest good backup of the cluster that is known; nothing where there is none. Backups of a cluster that had the name before are not its.
///
/// # Errors
/// `Damaged` when there are backups and none is good; what the store says.
pub async fn newest_backup(shelf: &Shelf, knowledge: &Knowledge) -> Result<Option<KnownBackup>> {
    let Some(repository) = repository(shelf).await? else { return Ok(None) };
    let known = knowledge.card.as_ref().map(|card| card.system_identifier).or(knowledge.store_identifier);
    if known.is_some_and(|known| known.to_string() != repository.descriptor().system_identifier) {
        return Ok(None);
    }
    let newest = match Newest::find(&repository).await {
        Ok(newest) => newest,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let major = repository.manifest(newest.backup).await?.cluster.major;
    Ok(Some(KnownBackup { name: newest.backup.to_string(), major, passed_over: newest.passed_over }))
}

/// Of dumps in their order, newest first: the newest of each database, and those of them that are damaged.
fn newest(dumps: &[DumpEntry]) -> (Vec<String>, Vec<(String, String)>) {
    let (mut newest, mut damaged, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for entry in dumps {
        if seen.contains(&&entry.database) {
            continue;
        }
        seen.push(&entry.database);
        newest.push(entry.name.to_string());
        if let DumpState::Damaged { reason } = &entry.state {
            damaged.push((entry.name.to_string(), reason.clone()));
        }
    }
    (newest, damaged)
}

/// Proves that the store can be written, before anything is made that it must know of. What is written is taken away again, where
/// that is allowed: credentials that can neither delete nor replace are good ones. Returns what is to be said of a store that keeps
/// names less well than it should.
///
/// # Errors
/// What the store says to a write.
pub async fn prove_writable(shelf: &Shelf) -> Result<Option<String>> {
    let store = shelf.store().as_ref();
    let probe = WriteProbe::new(key(shelf, "probe")?, SystemClock.now())?;
    probe.write(store, vec![b'x'; PROBE_BYTES].into()).await?;
    let weak = conditions::warning(store, &probe.key, vec![b'x'; PROBE_BYTES].into()).await;
    match store.delete(&probe.key).await {
        Err(error) if error.kind() == ErrorKind::Denied => Ok(weak),
        deleted => deleted.map(|()| weak),
    }
}

/// What is to be said of keys that open what is encrypted, and that nobody was seen to hold. A copy that does not answer is passed
/// over: its health says so.
///
/// # Errors
/// What the store says.
pub async fn untested_keys(shelf: &Shelf) -> Result<Vec<String>> {
    let now = SystemClock.now();
    let mut warnings: Vec<String> =
        shelf.recovery_key().await?.advice(now).map(|(what, remedy)| format!("{what}; {remedy}")).into_iter().collect();
    for (place, copy) in shelf.copies().iter().enumerate().filter(|_| !shelf.encrypts()) {
        if let Ok(Ok(known)) = tokio::time::timeout(COPY, copy.shelf.recovery_key()).await
            && let Some((what, remedy)) = known.advice(now)
        {
            warnings.push(format!("in {}, {what}; {remedy}, with `--store {}`", copy.shelf.store(), place + 2));
        }
    }
    Ok(warnings)
}

/// Tells the store which cluster it serves under this name, and where that lives. A new beginning takes the name over and
/// keeps the old card. Returns what is to be said where the store goes on to name another place, since that may not be replaced.
///
/// # Errors
/// `Unsafe` when the store serves another cluster under this name; what the store says.
pub async fn tell(shelf: &Shelf, card: &ClusterCard, takes_over: bool, place: &KnownPlace) -> Result<Option<String>> {
    if takes_over {
        card.renew(shelf.store().as_ref()).await?;
        // A copy serves the cluster before until it is brought up to date, which it is only where the primary store knows that one.
        for copy in shelf.copies() {
            let there = ClusterCard::read(copy.shelf.store().as_ref(), shelf.cluster());
            if let Ok(Ok(Some(old))) = tokio::time::timeout(COPY, there).await {
                card.follow(&old, shelf.store().as_ref()).await?;
            }
        }
    } else {
        card.claim(shelf.store().as_ref()).await?;
    }
    // A device may have another name after each boot.
    let known = read_place(shelf).await?;
    if known.as_ref().is_some_and(|known| known.mount_point == place.mount_point) {
        return Ok(None);
    }
    let bytes = serde_json::to_vec_pretty(place).map_err(|e| Error::Bug(format!("a place is no JSON: {e}")))?;
    match (shelf.store().put(&key(shelf, PLACE)?, bytes.into()).await, known) {
        // No reason not to start.
        (Err(error), Some(known)) if error.kind() == ErrorKind::Denied => Ok(Some(format!(
            "{} still says that the cluster lives on {}: these credentials may not replace that; run `pgpersist init` once with some that may",
            shelf.store(),
            known.mount_point
        ))),
        (told, _) => told.map(|()| None),
    }
}

/// On which volume a cluster lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPlace {
    /// The format of this object; 1.
    pub format: u32,
    /// Where the file system is mounted.
    pub mount_point: String,
    /// Its type, such as `ext4`.
    pub fs_type: String,
    /// What is mounted, such as `/dev/nvme0n1`.
    pub source: String,
}

impl From<&Placement> for KnownPlace {
    fn from(placement: &Placement) -> Self {
        let Placement { mount_point, fs_type, source, .. } = placement.clone();
        Self { format: 1, mount_point, fs_type, source }
    }
}

async fn read_place(shelf: &Shelf) -> Result<Option<KnownPlace>> {
    let key = key(shelf, PLACE)?;
    match shelf.store().get(&key).await {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::damaged(format!("{key} in {} says no place: {e}", shelf.store()), "look at it, and remove it if it is worth nothing")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn key(shelf: &Shelf, name: &str) -> Result<ObjectKey> {
    format!("{FOLDER}/{}/{name}", folder_of(shelf.cluster())).parse()
}
