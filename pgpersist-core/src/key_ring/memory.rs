//! [`KeyMemory`]: which data keys this machine made, in `keys.json` beside the data. It holds public halves, and the index keys, with which
//! the next backup is compared with the last one: nothing that opens a row of what lies in a store.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::data_directory::own_folder::OwnFolder;
use crate::encryption::recipient::Recipient;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable;
use crate::key_ring::index_key::IndexKey;
use crate::workers;

/// The format that this version writes.
const FORMAT: u32 = 1;
/// The name of the file in the folder of our own files.
const FILE_NAME: &str = "keys.json";

/// How many index keys are kept: a new one comes when recipients do, or at a rotation.
const MOST_INDEX_KEYS: usize = 256;

/// Several stores share a file, and are written to at the same time.
static WRITING: Mutex<()> = Mutex::const_new(());

/// What a machine remembers of the data keys that it made.
#[derive(Debug, Clone)]
pub struct KeyMemory {
    own: OwnFolder,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    format: u32,
    keys: Vec<Made>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    index_keys: Vec<Indexed>,
}

/// The data key of one ring: of several that were made for it the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    store: String,
    folder: String,
    public_key: Recipient,
}

/// The index key of a data key, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Indexed {
    public_key: Recipient,
    index_key: IndexKey,
}

impl KeyMemory {
    /// The memory in the folder of our own files.
    pub fn new(own: OwnFolder) -> Self {
        Self { own }
    }

    /// The data key that was made last for this ring.
    ///
    /// # Errors
    /// [`Error::File`]. A file that cannot be understood, or that we may not read, says nothing.
    pub(super) async fn recall(&self, store: &str, folder: &str) -> Result<Option<Recipient>> {
        let known = self.read().await?.keys;
        Ok(known.into_iter().find(|made| made.store == store && made.folder == folder).map(|made| made.public_key))
    }

    /// The index key of a data key that was made here.
    ///
    /// # Errors
    /// [`Error::File`]. A file that cannot be understood, or that we may not read, says nothing.
    pub async fn index_key(&self, data_key: Recipient) -> Result<Option<IndexKey>> {
        let known = self.read().await?.index_keys;
        Ok(known.into_iter().find(|indexed| indexed.public_key == data_key).map(|indexed| indexed.index_key))
    }

    /// Remembers a data key that was just made. Whoever may not write beside the data remembers nothing, and makes another one
    /// the next time.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) async fn remember(&self, store: &str, folder: &str, public_key: Recipient, index_key: IndexKey) -> Result<()> {
        let _alone = WRITING.lock().await;
        let mut content = self.read().await?;
        content.format = FORMAT;
        content.keys.retain(|made| (made.store.as_str(), made.folder.as_str()) != (store, folder));
        content.keys.push(Made { store: store.to_owned(), folder: folder.to_owned(), public_key });
        content.index_keys.push(Indexed { public_key, index_key });
        let surplus = content.index_keys.len().saturating_sub(MOST_INDEX_KEYS);
        content.index_keys.drain(..surplus);
        let bytes = serde_json::to_vec_pretty(&content).map_err(|e| Error::Bug(format!("could not write {FILE_NAME}: {e}")))?;
        let own = self.own.clone();
        let written = workers::run(move || {
            own.create()?;
            durable::write(&own.path().join(FILE_NAME), &bytes, 0o600)
        });
        match written.await {
            Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
            written => written,
        }
    }

    async fn read(&self) -> Result<Content> {
        let path = self.own.path().join(FILE_NAME);
        workers::run(move || match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(|content: &Content| content.format == FORMAT).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Content::default()),
            Err(error) => match Error::file("read", &path, error) {
                error if error.kind() == ErrorKind::Denied => Ok(Content::default()),
                error => Err(error),
            },
        })
        .await
    }
}
