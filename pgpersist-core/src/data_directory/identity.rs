//! The identity card on the volume: which cluster belongs here, also when its directory is empty or gone.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::durable;

/// What the card says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityCard {
    /// The format of this file; 1.
    pub format: u32,
    /// The cluster's name in the stores.
    pub cluster: String,
    /// The system identifier, as PostgreSQL prints it.
    #[serde(with = "as_text")]
    pub system_identifier: u64,
    /// The major version.
    pub major: u32,
    /// Databases that are known to exist.
    #[serde(default)]
    pub databases: Vec<String>,
}

impl IdentityCard {
    /// Reads the card; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it cannot be understood: then nothing is known, and nothing may be assumed.
    pub fn read(own: &OwnFolder) -> Result<Option<Self>> {
        let path = own.identity_card();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                Error::damaged(
                    format!("the identity card {} cannot be read: {e}", path.display()),
                    "if you know which cluster lives here, remove the card and run `pgpersist init`",
                )
            }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(Error::file("read", path, error)),
        }
    }

    /// Writes the card durably, replacing an older one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, own: &OwnFolder) -> Result<()> {
        own.create()?;
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::Bug(format!("could not write an identity card: {e}")))?;
        durable::write(&own.identity_card(), &bytes, 0o600)
    }
}

/// System identifiers exceed what JSON numbers hold exactly, so they are text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
