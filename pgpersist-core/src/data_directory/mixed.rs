//! [`Mixed`]: a cluster whose files are being made those of a backup, in place.
//!
//! While that goes on the directory is neither the old cluster nor the new one. So before the first byte changes, a marker says whose it is, and
//! `pg_control`, without which no server starts, is moved to where the old log is kept. The new one comes last. In between only who goes on with
//! the work may touch it: there is no way back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data_directory::own_folder::OwnFolder;
use crate::data_directory::staging::{self, Marker};
use crate::data_directory::state;
use crate::error::Result;
use crate::fs::durable;
use crate::pg::control_file::CONTROL_FILE_PATH;

/// The operation, as a marker tells it.
pub const DELTA: &str = "restore --delta";
/// The name of the old control file where it is kept.
const OLD_CONTROL: &str = "pg_control";

/// A directory between two clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixed {
    /// Which cluster it was, and will be.
    pub system_identifier: u64,
    /// The folder where its old log and its old control file are kept, and what else makes room.
    pub aside: PathBuf,
}

impl Mixed {
    /// Begins: from here on no server starts in the directory. The caller holds the claim and the server's lock.
    ///
    /// # Errors
    /// [`Error::File`](crate::error::Error::File); the cluster is then as it was, or the work is to be gone on with.
    pub fn begin(&self, directory: &Path, own: &OwnFolder) -> Result<()> {
        own.create()?;
        durable::create_directory(&self.aside, 0o700)?;
        let marker = Marker {
            format: 1,
            operation: DELTA.to_owned(),
            entries: Vec::new(),
            folder: PathBuf::from("none"),
            replaces: None,
            mixed: Some(self.clone()),
        };
        staging::mark(own, &marker)?;
        durable::rename_new(&directory.join(CONTROL_FILE_PATH), &self.old_control())
    }

    /// One that was begun and not finished; nothing where there is none. What was interrupted before anything changed, or after everything had, is
    /// ended here. The caller holds the claim.
    ///
    /// # Errors
    /// [`Error::File`](crate::error::Error::File); `Damaged` when the marker cannot be read.
    pub fn interrupted(directory: &Path, own: &OwnFolder) -> Result<Option<Self>> {
        let Some(mixed) = Marker::read(&own.half_made_marker())?.and_then(|marker| marker.mixed) else { return Ok(None) };
        if !directory.join(CONTROL_FILE_PATH).exists() {
            return Ok(Some(mixed));
        }
        let unchanged = !mixed.old_control().exists();
        durable::remove_file(&own.half_made_marker())?;
        if unchanged {
            // Nothing is kept in it.
            durable::remove_directory(&mixed.aside)?;
        }
        Ok(None)
    }

    /// One that was begun. Looks only.
    ///
    /// # Errors
    /// As [`interrupted`](Self::interrupted).
    pub fn peek(own: &OwnFolder) -> Result<Option<Self>> {
        Ok(Marker::read(&own.half_made_marker())?.and_then(|marker| marker.mixed))
    }

    /// Ends it: all else of the new cluster is in its place, and durable.
    ///
    /// # Errors
    /// [`Error::File`](crate::error::Error::File).
    pub fn finish(&self, directory: &Path, own: &OwnFolder, control: &[u8], mode: u32) -> Result<()> {
        durable::write(&directory.join(CONTROL_FILE_PATH), control, mode)?;
        durable::remove_file(&own.half_made_marker())
    }

    fn old_control(&self) -> PathBuf {
        self.aside.join(OLD_CONTROL)
    }
}

/// For whoever prepares a directory and cannot go on with this.
pub(super) fn settle(directory: &Path, own: &OwnFolder) -> Result<()> {
    match Mixed::interrupted(directory, own)? {
        None => Ok(()),
        Some(_) => Err(state::interrupted_delta(directory)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::ErrorKind;

    fn scene() -> (tempfile::TempDir, PathBuf, OwnFolder, Mixed) {
        let volume = tempfile::tempdir().unwrap();
        let directory = volume.path().join("pgdata");
        fs::create_dir_all(directory.join("global")).unwrap();
        durable::write(&directory.join(CONTROL_FILE_PATH), b"old", 0o600).unwrap();
        let own = OwnFolder::locate(&directory).unwrap();
        let mixed = Mixed { system_identifier: 7, aside: volume.path().join("pgdata.before") };
        (volume, directory, own, mixed)
    }

    #[test]
    fn in_between_there_is_no_control_file_and_only_who_began_goes_on() {
        let (_volume, directory, own, mixed) = scene();
        mixed.begin(&directory, &own).unwrap();
        assert!(!directory.join(CONTROL_FILE_PATH).exists());
        assert_eq!(fs::read(mixed.old_control()).unwrap(), b"old");
        assert_eq!(staging::recover(&directory, &own).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(Mixed::interrupted(&directory, &own).unwrap(), Some(mixed.clone()));
        mixed.finish(&directory, &own, b"new", 0o600).unwrap();
        assert_eq!(fs::read(directory.join(CONTROL_FILE_PATH)).unwrap(), b"new");
        assert!(!staging::recover(&directory, &own).unwrap() && !own.half_made_marker().exists());
    }

    #[test]
    fn before_the_first_change_and_after_the_last_there_is_nothing_to_go_on_with() {
        let (_volume, directory, own, mixed) = scene();
        mixed.begin(&directory, &own).unwrap();
        // As if it had been killed before the rename.
        durable::rename(&mixed.old_control(), &directory.join(CONTROL_FILE_PATH)).unwrap();
        staging::recover(&directory, &own).unwrap();
        assert!(!own.half_made_marker().exists() && !mixed.aside.exists());
        // And before the marker went.
        mixed.begin(&directory, &own).unwrap();
        durable::write(&directory.join(CONTROL_FILE_PATH), b"new", 0o600).unwrap();
        assert_eq!(Mixed::interrupted(&directory, &own).unwrap(), None);
        assert!(!own.half_made_marker().exists());
        assert_eq!(fs::read(mixed.old_control()).unwrap(), b"old");
    }
}
