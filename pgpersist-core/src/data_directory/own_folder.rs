//! Where pgpersist's own files of a data directory lie: locks, identity card, markers, staging, logs.
//!
//! Beside the directory, in `<parent>/.pgpersist/<name>/`, when that is on the same file system and ours to write: there
//! a finished cluster can be renamed into place whole. Inside it, in `DIR/.pgpersist/`, when the directory is itself a
//! mount point or its parent belongs to somebody else.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use crate::error::{Error, Result};
use crate::fs::os_user::OsUser;
use crate::fs::{durable, mounts, on_behalf};

/// The name of the folder that is ours.
pub const FOLDER_NAME: &str = ".pgpersist";

/// The name of the staging folder in it.
pub(crate) const STAGING: &str = "staging";

/// How the folder lies to the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the parent: the data directory can be put into place by one rename.
    Beside,
    /// In the data directory itself: it is filled entry by entry.
    Inside,
}

/// The folder of pgpersist's own files for one data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFolder {
    path: PathBuf,
    whereabouts: Whereabouts,
}

impl OwnFolder {
    /// Decides where the folder of this data directory lies; creates nothing. An existing folder decides, and of two the one
    /// in the directory, which is seen through every mount; else the mount table and the parent's permissions do.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path without a name; [`Error::File`] when the mount table cannot be read.
    pub fn locate(directory: &Path) -> Result<Self> {
        Self::locate_for(directory, None)
    }

    /// The same for root in place of the user whom the cluster is, or is to be: what root may write says nothing, and that user
    /// must find the same folder.
    ///
    /// # Errors
    /// As [`OwnFolder::locate`].
    pub fn locate_for(directory: &Path, user: Option<&OsUser>) -> Result<Self> {
        let name = directory.file_name().ok_or_else(|| {
            Error::invalid(format!("`{}` cannot be a data directory", directory.display()), "name a directory below the root")
        })?;
        let inside = Self { path: directory.join(FOLDER_NAME), whereabouts: Whereabouts::Inside };
        if directory.exists() && (inside.path.is_dir() || mounts::is_mount_point(directory)?) {
            return Ok(inside);
        }
        let parent = directory.parent().unwrap_or(Path::new("/"));
        let beside = Self { path: parent.join(FOLDER_NAME).join(name), whereabouts: Whereabouts::Beside };
        // Writable or not: a running server holds the lock in it, whatever became of the parent since.
        if beside.path.is_dir() {
            return Ok(beside);
        }
        let mut above = parent;
        while !above.exists() {
            above = above.parent().unwrap_or(Path::new("/"));
        }
        let shared = parent.join(FOLDER_NAME);
        let ours = on_behalf::as_user_or_owner(user, directory, || Ok(may_write(above) && (!shared.exists() || may_write(&shared))))?;
        // Root makes a directory that its user cannot make, and nothing else beside it.
        let can_be_inside = directory.exists() || (user.is_some() && rustix::process::geteuid().is_root());
        Ok(if ours || !can_be_inside { beside } else { inside })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it lies to the data directory.
    pub fn whereabouts(&self) -> Whereabouts {
        self.whereabouts
    }

    /// Creates the folder, durably, for its owner alone.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(&self) -> Result<()> {
        durable::create_directories(&self.path, 0o700)
    }

    /// Held by the pgpersist process that changes the directory.
    pub fn supervisor_lock(&self) -> PathBuf {
        self.path.join("supervisor.lock")
    }

    /// Held by the server and each of its backends, through an inherited descriptor.
    pub fn server_lock(&self) -> PathBuf {
        self.path.join("server.lock")
    }

    /// Which server process we started last.
    pub fn server_record(&self) -> PathBuf {
        self.path.join("server.json")
    }

    /// The identity card on the volume.
    pub fn identity_card(&self) -> PathBuf {
        self.path.join("identity.json")
    }

    /// Where a directory is made before it is put into place.
    pub fn staging(&self) -> PathBuf {
        self.path.join(STAGING)
    }

    /// Where a migration gathers its copy and what it knows about it, over as many runs as it takes.
    pub fn migration(&self) -> PathBuf {
        self.path.join("migration")
    }

    /// Says that a migration to this directory was begun and is not over.
    pub fn migration_marker(&self) -> PathBuf {
        self.migration().join("migration.json")
    }

    /// Says that the directory is half-made, and how to go on.
    pub fn half_made_marker(&self) -> PathBuf {
        self.path.join("half-made.json")
    }

    /// Reports of drills.
    pub fn drills(&self) -> PathBuf {
        self.path.join("drills")
    }

    /// The default folder of the server's log.
    pub fn log_directory(&self) -> PathBuf {
        self.path.join("log")
    }
}

fn may_write(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_beside_a_plain_folder_and_stays_inside_once_it_is_there() {
        let volume = tempfile::tempdir().unwrap();
        let directory = volume.path().join("pgdata");
        let beside = OwnFolder::locate(&directory).unwrap();
        assert_eq!(beside.whereabouts(), Whereabouts::Beside);
        assert_eq!(beside.path(), volume.path().join(".pgpersist/pgdata"));
        std::fs::create_dir_all(directory.join(FOLDER_NAME)).unwrap();
        assert_eq!(OwnFolder::locate(&directory).unwrap().whereabouts(), Whereabouts::Inside);
    }
}
