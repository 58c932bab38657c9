//! [`RestoreRecord`]: what was restored last to a data directory, and how fast; beside it, in our own folder.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::durable;

/// Its name in our own folder.
const NAME: &str = "restored.json";

/// A restore that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// The format of this file; 1.
    pub format: u32,
    /// The backup.
    pub name: String,
    /// When it was done.
    #[serde(with = "time::serde::rfc3339")]
    pub restored_at: OffsetDateTime,
    /// The bytes that were written.
    pub bytes: u64,
    /// How long that took.
    pub duration_s: f64,
    /// Where the cluster is kept that was in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_aside: Option<PathBuf>,
}

impl RestoreRecord {
    /// Reads it; nothing where there is none, or none that makes sense: it is only a memory. Blocking.
    pub fn read(own: &OwnFolder) -> Option<Self> {
        fs::read(own.path().join(NAME)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// Writes it durably. Blocking.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, own: &OwnFolder) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::Bug(format!("could not tell of a restore: {error}")))?;
        durable::write(&own.path().join(NAME), &bytes, 0o600)
    }

    /// Bytes a second; nothing where the record makes no sense.
    pub fn speed(&self) -> Option<f64> {
        Some(self.bytes as f64 / self.duration_s).filter(|speed| speed.is_finite() && *speed > 0.0)
    }
}
