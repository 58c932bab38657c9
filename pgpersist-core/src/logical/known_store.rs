//! What a cluster remembers of the stores that took its dumps, on its own volume: `stores.json` in our folder.
//!
//! A store whose volume is not mounted is an empty folder, and looks like a new one. Dumps would fill the disk below the
//! mount point and vanish from sight once the volume is back. A new store and one that lost everything differ in nothing but
//! what the cluster remembers: the card that it left there.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::data_directory::own_folder::OwnFolder;
use crate::data_directory::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{durable, leftovers};
use crate::logical::cluster_card::ClusterCard;
use crate::logical::system_identifier;
use crate::server::cluster::Cluster;
use crate::store::BackupStore;
use crate::workers;

/// The format that this version writes.
const FORMAT: u32 = 1;
/// The name of the file in the folder of our own files.
const FILE_NAME: &str = "stores.json";

/// The memory of one cluster.
#[derive(Debug, Clone)]
pub struct KnownStores {
    path: PathBuf,
    own: OwnFolder,
    /// The cluster's name in the stores.
    name: String,
    system_identifier: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    format: u32,
    stores: Vec<Known>,
}

/// One store that took a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    store: String,
    cluster: String,
    #[serde(with = "system_identifier")]
    system_identifier: u64,
    /// When the card was written that the store had: one that was written later is not the one that we knew.
    #[serde(with = "time::serde::rfc3339")]
    card_created_at: OffsetDateTime,
}

impl KnownStores {
    /// The memory of a cluster that has this name in the stores; `None` where no cluster's files are at hand.
    ///
    /// # Errors
    /// As [`DataDirectory::state`](crate::data_directory::DataDirectory::state).
    pub async fn of(cluster: &Cluster, name: &str) -> Result<Option<Self>> {
        let State::Cluster(files) = cluster.directory().state().await? else { return Ok(None) };
        let own = cluster.directory().own_folder().clone();
        Ok(Some(Self { path: own.path().join(FILE_NAME), own, name: name.to_owned(), system_identifier: files.control.system_identifier }))
    }

    /// Refuses a store that took dumps of this very cluster and has no trace of it any more.
    ///
    /// # Errors
    /// `Unsafe` with the ways out; what the store says.
    pub async fn check(&self, store: &dyn BackupStore) -> Result<()> {
        let (place, memory) = (store.to_string(), self.read().await?);
        let Some(known) = memory.stores.iter().find(|known| self.is_ours(known, &place)) else { return Ok(()) };
        match ClusterCard::read(store, &self.name).await? {
            Some(card) if card.created_at == known.card_created_at || card.system_identifier != self.system_identifier => Ok(()),
            _ => Err(Error::refused(
                format!("the store {place} took dumps of this cluster, and what it holds now is not that store"),
                "if its volume is not mounted, mount it; if it was emptied on purpose, `pgpersist dump --yes` begins anew in it",
            )),
        }
    }

    /// Remembers a store that has just taken a dump. May be repeated.
    ///
    /// # Errors
    /// `Denied` for whoever may not write beside the data; what the store says.
    pub async fn remember(&self, store: &dyn BackupStore) -> Result<()> {
        let Some(card) = ClusterCard::read(store, &self.name).await? else { return Ok(()) };
        let known = Known {
            store: store.to_string(),
            cluster: self.name.clone(),
            system_identifier: self.system_identifier,
            card_created_at: card.created_at,
        };
        let mut memory = self.read().await?;
        if memory.stores.contains(&known) {
            return Ok(());
        }
        memory.format = FORMAT;
        memory.stores.retain(|other| (&other.store, &other.cluster) != (&known.store, &known.cluster));
        memory.stores.push(known);
        let bytes = serde_json::to_vec_pretty(&memory).map_err(|e| Error::Bug(format!("could not write {FILE_NAME}: {e}")))?;
        let (own, path) = (self.own.clone(), self.path.clone());
        workers::run(move || {
            own.create()?;
            // A dump that was killed here left its temporary file, and a server that runs for years sweeps only when it starts.
            leftovers::sweep(own.path())?;
            durable::write(&path, &bytes, 0o600)
        })
        .await
    }

    fn is_ours(&self, known: &Known, place: &str) -> bool {
        known.store == place && known.cluster == self.name && known.system_identifier == self.system_identifier
    }

    /// What is remembered. A file that cannot be understood says nothing: it only warns, and must not stand in a dump's way.
    async fn read(&self) -> Result<Memory> {
        let path = self.path.clone();
        workers::run(move || match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(|memory: &Memory| memory.format == FORMAT).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Memory::default()),
            Err(error) => match Error::file("read", &path, error) {
                // Somebody else who dumps a cluster need not see what lies beside its data.
                error if error.kind() == ErrorKind::Denied => Ok(Memory::default()),
                error => Err(error),
            },
        })
        .await
    }
}
