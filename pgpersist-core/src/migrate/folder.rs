//! The folder of one migration, in the target's own folder: the copy, the journal, and what is known about them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::durable;

/// How far a migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The copy grows; the source is untouched.
    Copying,
    /// The copy is complete and compared. Whether the source is already set aside, its own `pg_control` tells.
    Switching,
}

/// Says that a migration was begun and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MigrationMarker {
    /// The format of this file; 1.
    pub(crate) format: u32,
    /// The source.
    pub(crate) from: PathBuf,
    /// The cluster's system identifier, as PostgreSQL prints it.
    pub(crate) system_identifier: String,
    /// How far it has come.
    pub(crate) phase: Phase,
}

/// What is left of a migration when it is over: it tells a repeated one that there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MigrationRecord {
    /// The format of this file; 1.
    pub(crate) format: u32,
    /// The source.
    pub(crate) from: PathBuf,
    /// The cluster's system identifier, as PostgreSQL prints it.
    pub(crate) system_identifier: String,
    /// Bytes of the copy.
    pub(crate) bytes: u64,
    /// Files of the copy.
    pub(crate) files: u64,
    /// How to go back.
    pub(crate) undo: Vec<String>,
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct MigrationFolder {
    own: OwnFolder,
}

impl MigrationFolder {
    /// The copy's name below the target's own folder.
    pub(crate) const DATA: &'static str = "migration/data";

    /// Names it; creates nothing.
    pub(crate) fn of(own: &OwnFolder) -> Self {
        Self { own: own.clone() }
    }

    /// Creates it, with an empty copy.
    pub(crate) fn create(&self) -> Result<()> {
        self.own.create()?;
        durable::create_directory(&self.own.migration(), 0o700)?;
        durable::create_directory(&self.data(), 0o700)
    }

    /// The copy.
    pub(crate) fn data(&self) -> PathBuf {
        self.own.path().join(Self::DATA)
    }

    /// Where the copy of `pg_control` waits until the source is set aside.
    pub(crate) fn control_file(&self) -> PathBuf {
        self.own.migration().join("pg_control")
    }

    /// The journal of what is durable in the copy.
    pub(crate) fn journal(&self) -> PathBuf {
        self.own.migration().join("files.jsonl")
    }

    /// The whole folder, for people.
    pub(crate) fn path(&self) -> PathBuf {
        self.own.migration()
    }

    /// Reads the marker; `None` where there is none.
    pub(crate) fn marker(&self) -> Result<Option<MigrationMarker>> {
        read(&self.own.migration_marker())
    }

    /// Writes the marker.
    pub(crate) fn mark(&self, marker: &MigrationMarker) -> Result<()> {
        write(&self.own.migration_marker(), marker)
    }

    /// Reads what is left of a finished migration to this directory.
    pub(crate) fn record(&self) -> Result<Option<MigrationRecord>> {
        read(&self.record_path())
    }

    /// Ends the migration: the record stays, the rest goes, the marker last.
    pub(crate) fn finish(&self, record: &MigrationRecord) -> Result<()> {
        write(&self.record_path(), record)?;
        durable::remove_file(&self.journal())?;
        durable::remove_tree(&self.data())?;
        durable::remove_tree(&self.own.migration())
    }

    fn record_path(&self) -> PathBuf {
        self.own.path().join("migrated.json")
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::damaged(format!("{} cannot be read: {e}", path.display()), "look at its folder by hand; pgpersist leaves it alone")
        }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::Bug(format!("could not write {}: {e}", path.display())))?;
    durable::write(path, &bytes, 0o600)
}
