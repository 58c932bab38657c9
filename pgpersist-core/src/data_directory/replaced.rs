//! [`Replaced`]: an old cluster that makes room for a restored one, and is kept whole beside it.
//!
//! It moves under the marker of a half-made directory, as a whole where the directory can be renamed, else entry by entry, `pg_control` first on
//! the way out and last on the way in: at no moment is there a mixture that a server would start in. As long as nothing was moved, whoever
//! comes after a kill leaves the old cluster as it is; from the first move on, the restored one is put into place.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data_directory::own_folder::{FOLDER_NAME, Whereabouts};
use crate::data_directory::staging::CONTROL_ASIDE;
use crate::error::{Error, Result};
use crate::fs::{durable, mounts};
use crate::pg::control_file::CONTROL_FILE_PATH;

/// What stands in the place of a cluster that waits in the staging folder, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    aside: PathBuf,
    /// Whether the directory moves as a whole.
    pub(super) whole: bool,
    /// Its entries, where it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<String>,
    /// Whether it has a control file.
    #[serde(default)]
    control: bool,
}

impl Replaced {
    /// What there is to be moved to `aside`, where nothing is. Moves nothing.
    pub(super) fn look(directory: &Path, whereabouts: Whereabouts, aside: &Path) -> Result<Self> {
        if exists(aside) {
            return Err(Error::conflict(format!("{} is there already", aside.display()), "run it again"));
        }
        let whole = whereabouts == Whereabouts::Beside;
        let entries = if whole { Vec::new() } else { movable(directory)? };
        Ok(Self { aside: aside.to_owned(), whole, entries, control: exists(&directory.join(CONTROL_FILE_PATH)) })
    }

    /// Whether anything was moved.
    pub(super) fn has_begun(&self) -> bool {
        if self.whole || !self.control { exists(&self.aside) } else { exists(&self.waiting()) || exists(&self.control_aside()) }
    }

    /// Moves it, or what of it was not moved yet.
    pub(super) fn set_aside(&self, directory: &Path) -> Result<()> {
        if self.whole {
            return if exists(&self.aside) { Ok(()) } else { durable::rename_new(directory, &self.aside) };
        }
        durable::create_directory(&self.aside, 0o700)?;
        if self.control && !self.has_begun() {
            durable::rename_new(&directory.join(CONTROL_FILE_PATH), &self.waiting())?;
        }
        // All of them are gone before the first one of the new cluster comes: one that is kept already is not moved twice.
        for name in self.entries.iter().filter(|name| !exists(&self.aside.join(name))) {
            durable::rename_new(&directory.join(name), &self.aside.join(name))?;
        }
        if exists(&self.waiting()) { durable::rename_new(&self.waiting(), &self.control_aside()) } else { Ok(()) }
    }

    fn waiting(&self) -> PathBuf {
        self.aside.join(CONTROL_ASIDE)
    }

    fn control_aside(&self) -> PathBuf {
        self.aside.join(CONTROL_FILE_PATH)
    }
}

/// The names of what is the cluster's. A file system that is mounted on one of them could not be moved, and half a cluster is none.
fn movable(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| Error::file("list", directory, error))? {
        let entry = entry.map_err(|error| Error::file("list", directory, error))?;
        let name = entry.file_name().into_string().map_err(|name| {
            Error::invalid(
                format!("{} holds a file with the strange name {}", directory.display(), name.to_string_lossy()),
                "move it away and repeat",
            )
        })?;
        if name == "lost+found" || name == FOLDER_NAME {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && mounts::is_mount_point(&entry.path())? {
            return Err(Error::refused(
                format!("{} is a mount point, which cannot be kept aside with its cluster", entry.path().display()),
                "restore into another directory (`-D`); nothing was touched",
            ));
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_directory::own_folder::OwnFolder;
    use crate::data_directory::staging;

    /// A directory with an old cluster, and a new one in staging; `inside` as if it were a mount point.
    fn scene(inside: bool) -> (tempfile::TempDir, PathBuf, OwnFolder, PathBuf) {
        let volume = tempfile::tempdir().unwrap();
        let directory = volume.path().join("pgdata");
        let cluster = |root: &Path, what: &[u8], more: &str| {
            fs::create_dir_all(root.join("global")).unwrap();
            for name in ["PG_VERSION", "global/pg_control", more] {
                durable::write(&root.join(name), what, 0o600).unwrap();
            }
        };
        cluster(&directory, b"old", "old_only");
        if inside {
            fs::create_dir(directory.join(FOLDER_NAME)).unwrap();
        }
        let own = OwnFolder::locate(&directory).unwrap();
        staging::begin(&own).unwrap();
        cluster(&own.staging(), b"new", "new_only");
        let aside = if inside { own.path().join("before") } else { volume.path().join("pgdata.before") };
        (volume, directory, own, aside)
    }

    fn is_replaced(directory: &Path, own: &OwnFolder, aside: &Path) {
        for name in ["PG_VERSION", "global/pg_control"] {
            assert_eq!(fs::read(directory.join(name)).unwrap(), b"new", "{name}");
            assert_eq!(fs::read(aside.join(name)).unwrap(), b"old", "{name}");
        }
        assert!(directory.join("new_only").exists() && !directory.join("old_only").exists() && aside.join("old_only").exists());
        assert!(!own.half_made_marker().exists() && !own.staging().exists());
    }

    #[test]
    fn the_old_cluster_is_kept_whole() {
        for inside in [false, true] {
            let (_volume, directory, own, aside) = scene(inside);
            staging::publish_replacing(&directory, &own, "restore", &aside).unwrap();
            is_replaced(&directory, &own, &aside);
        }
    }

    #[test]
    fn killed_before_the_first_move_the_old_cluster_stays() {
        for inside in [false, true] {
            let (_volume, directory, own, aside) = scene(inside);
            staging::mark_replacing(&directory, &own, "restore", &aside).unwrap();
            staging::recover(&directory, &own).unwrap();
            assert_eq!(fs::read(directory.join("global/pg_control")).unwrap(), b"old");
            assert!(directory.join("old_only").exists() && !directory.join("new_only").exists());
            assert!(!aside.exists() && !own.half_made_marker().exists() && !own.staging().exists());
        }
    }

    #[test]
    fn killed_between_the_moves_the_restored_one_comes_into_place() {
        let (_volume, directory, own, aside) = scene(false);
        staging::mark_replacing(&directory, &own, "restore", &aside).unwrap();
        durable::rename(&directory, &aside).unwrap();
        assert!(staging::recover(&directory, &own).unwrap());
        is_replaced(&directory, &own, &aside);
        for moved in 0..=3 {
            let (_volume, directory, own, aside) = scene(true);
            staging::mark_replacing(&directory, &own, "restore", &aside).unwrap();
            fs::create_dir(&aside).unwrap();
            durable::rename(&directory.join(CONTROL_FILE_PATH), &aside.join(CONTROL_ASIDE)).unwrap();
            for name in ["PG_VERSION", "global", "old_only"].iter().take(moved) {
                durable::rename(&directory.join(name), &aside.join(name)).unwrap();
            }
            assert!(staging::recover(&directory, &own).unwrap());
            is_replaced(&directory, &own, &aside);
        }
    }
}
