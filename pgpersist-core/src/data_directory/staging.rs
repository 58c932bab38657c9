//! Putting a finished directory into place, so that a kill at any moment leaves the old state or one that the next run
//! finishes.
//!
//! Whatever makes a cluster does it in the staging folder on the same volume and syncs it. Then, where the data directory
//! can be renamed, one rename publishes it whole. Into a mount point the entries go one by one under a marker that lists
//! them: as long as the marker is there the state is half-made; `global/pg_control`, without which no server starts, goes
//! last. Every step can be repeated.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data_directory::mixed::{self, Mixed};
use crate::data_directory::own_folder::{OwnFolder, STAGING, Whereabouts};
use crate::data_directory::replaced::Replaced;
use crate::data_directory::staged_tablespaces;
use crate::error::{Error, Result};
use crate::fs::{durable, leftovers};

/// Where `pg_control` waits while all else is moved.
pub(super) const CONTROL_ASIDE: &str = ".pg_control.last";

/// The marker of a half-made directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The format of this file; 1.
    pub(crate) format: u32,
    /// What was being done: `init`, `migrate`.
    pub(crate) operation: String,
    /// The entries of the finished folder, each of which is still there or already in place.
    pub(crate) entries: Vec<String>,
    /// The finished folder, below our own.
    #[serde(default = "staging_folder")]
    pub(crate) folder: PathBuf,
    /// The cluster that is in its place and makes room first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<Replaced>,
    /// The cluster whose files are being made those of a backup, in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mixed: Option<Mixed>,
}

fn staging_folder() -> PathBuf {
    PathBuf::from(STAGING)
}

impl Marker {
    /// Reads a marker; `None` where there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                Error::damaged(
                    format!("the marker {} cannot be read: {e}", path.display()),
                    "look at the directory by hand; pgpersist leaves it alone",
                )
            }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(Error::file("read", path, error)),
        }
    }
}

/// Makes an empty staging folder. One that an interrupted run left is ours and goes first.
///
/// # Errors
/// [`Error::File`].
pub fn begin(own: &OwnFolder) -> Result<()> {
    own.create()?;
    abandon(own)?;
    durable::create_directory(&own.staging(), 0o700)
}

/// Removes a staging folder that was never published, and what was staged elsewhere with it.
fn abandon(own: &OwnFolder) -> Result<()> {
    if own.staging().exists() {
        staged_tablespaces::undo(own)?;
    }
    durable::remove_tree(&own.staging())?;
    staged_tablespaces::settle(own)
}

/// Publishes the staging folder as the data directory. The caller holds the claim and knows that the data directory is
/// absent or empty.
///
/// # Errors
/// [`Error::File`]; the directory is then in its old state, or half-made and the next run finishes it.
pub fn publish(directory: &Path, own: &OwnFolder, operation: &str) -> Result<()> {
    publish_folder(directory, own, operation, Path::new(STAGING))
}

/// As [`publish`], for a finished cluster in another folder below our own, which [`recover`] never removes.
///
/// # Errors
/// As [`publish`].
pub fn publish_folder(directory: &Path, own: &OwnFolder, operation: &str, folder: &Path) -> Result<()> {
    let staging = own.path().join(folder);
    durable::sync_tree(&staging)?;
    match own.whereabouts() {
        Whereabouts::Beside => {
            durable::rename(&staging, directory)?;
            staged_tablespaces::settle(own)
        }
        Whereabouts::Inside => {
            let (entries, folder) = (names(&staging)?, folder.to_owned());
            mark(own, &Marker { format: 1, operation: operation.to_owned(), entries, folder, replaces: None, mixed: None })?;
            finish(directory, own)
        }
    }
}

/// As [`publish`], in the place of a cluster that no server runs in, and which is kept in `aside`: a folder that does not exist, on the same file
/// system.
///
/// # Errors
/// As [`publish`]; `Conflict` when `aside` exists; `Unsafe` when the old cluster cannot be moved.
pub fn publish_replacing(directory: &Path, own: &OwnFolder, operation: &str, aside: &Path) -> Result<()> {
    mark_replacing(directory, own, operation, aside)?;
    finish(directory, own)
}

pub(super) fn mark_replacing(directory: &Path, own: &OwnFolder, operation: &str, aside: &Path) -> Result<()> {
    let staging = own.staging();
    durable::sync_tree(&staging)?;
    let replaces = Some(Replaced::look(directory, own.whereabouts(), aside)?);
    let entries = names(&staging)?;
    mark(own, &Marker { format: 1, operation: operation.to_owned(), entries, folder: staging_folder(), replaces, mixed: None })
}

pub(super) fn mark(own: &OwnFolder, marker: &Marker) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(marker).map_err(|e| Error::Bug(format!("could not write a marker: {e}")))?;
    durable::write(&own.half_made_marker(), &bytes, 0o600)
}

fn names(staging: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(staging).map_err(|e| Error::file("list", staging, e))? {
        let entry = entry.map_err(|e| Error::file("list", staging, e))?;
        names.push(entry.file_name().into_string().map_err(|name| Error::Bug(format!("a cluster's file has the name {name:?}")))?);
    }
    names.sort();
    Ok(names)
}

/// Finishes what the marker says was begun, or removes a staging folder that was never finished, and removes temporary files
/// that nobody holds any more. Returns whether there was anything to do. The caller holds the claim.
///
/// # Errors
/// [`Error::File`]; [`Error::Damaged`] when an entry is neither in staging nor in place.
pub fn recover(directory: &Path, own: &OwnFolder) -> Result<bool> {
    if let Some(marker) = Marker::read(&own.half_made_marker())? {
        if marker.mixed.is_some() {
            return mixed::settle(directory, own).map(|()| true);
        }
        if marker.replaces.is_none_or(|replaced| replaced.has_begun()) {
            finish(directory, own)?;
            return Ok(true);
        }
        // The old cluster is as it was, and may have been used since.
        durable::remove_file(&own.half_made_marker())?;
    }
    let leftover = own.staging().exists();
    abandon(own)?;
    for folder in [own.path(), directory] {
        if folder.is_dir() {
            leftovers::sweep(folder)?;
        }
    }
    Ok(leftover)
}

fn finish(directory: &Path, own: &OwnFolder) -> Result<()> {
    let Some(marker) = Marker::read(&own.half_made_marker())? else {
        return Ok(());
    };
    let staging = own.path().join(&marker.folder);
    if let Some(replaced) = &marker.replaces {
        replaced.set_aside(directory)?;
        if replaced.whole {
            if staging.symlink_metadata().is_ok() {
                durable::rename_new(&staging, directory)?;
            }
            return end(directory, own, &marker);
        }
    }
    take_mode(directory, &staging)?;
    let aside = staging.join(CONTROL_ASIDE);
    let staged_control = staging.join("global/pg_control");
    if staged_control.exists() {
        durable::rename(&staged_control, &aside)?;
    }
    for name in &marker.entries {
        let (from, to) = (staging.join(name), directory.join(name));
        match (from.symlink_metadata().is_ok(), to.symlink_metadata().is_ok()) {
            (true, false) => durable::rename_new(&from, &to)?,
            (false, true) => {}
            (true, true) => {
                return Err(Error::conflict(
                    format!("{} appeared while the directory was being filled", to.display()),
                    "move it away and run `pgpersist init` again; nothing of it was touched",
                ));
            }
            (false, false) => {
                return Err(Error::damaged(
                    format!("`{name}` is neither in {} nor in {}", staging.display(), directory.display()),
                    "look at the directory by hand; pgpersist leaves it alone",
                ));
            }
        }
    }
    if aside.exists() {
        durable::rename_new(&aside, &directory.join("global/pg_control"))?;
    }
    end(directory, own, &marker)
}

/// All is in its place: what told of the work goes, the marker before the staging folder that it names.
fn end(directory: &Path, own: &OwnFolder, marker: &Marker) -> Result<()> {
    let control = directory.join("global/pg_control");
    if !control.exists() {
        return Err(Error::damaged(
            format!("{} is missing at the end of `{}`", control.display(), marker.operation),
            "look at the directory by hand; pgpersist leaves it alone",
        ));
    }
    // Without the marker they would be taken for what was never published.
    staged_tablespaces::settle(own)?;
    durable::remove_file(&own.half_made_marker())?;
    durable::remove_tree(&own.path().join(&marker.folder))
}

/// The root of a fresh volume is open to all, and PostgreSQL refuses a data directory that is. Of a directory that is not
/// ours alone the mode stays: the server will say what is wrong with it.
fn take_mode(directory: &Path, staging: &Path) -> Result<()> {
    let Ok(wanted) = fs::metadata(staging) else { return Ok(()) };
    let now = fs::metadata(directory).map_err(|e| Error::file("look at", directory, e))?;
    let me = rustix::process::geteuid();
    if now.mode() & 0o7777 == wanted.mode() & 0o7777 || !(me.is_root() || me.as_raw() == now.uid()) {
        return Ok(());
    }
    durable::set_permissions(directory, wanted.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::data_directory::own_folder::FOLDER_NAME;

    fn mount_point() -> (tempfile::TempDir, PathBuf, OwnFolder) {
        let volume = tempfile::tempdir().unwrap();
        let directory = volume.path().join("pgdata");
        fs::create_dir_all(directory.join(FOLDER_NAME)).unwrap();
        let own = OwnFolder::locate(&directory).unwrap();
        (volume, directory, own)
    }

    fn stage(own: &OwnFolder) {
        begin(own).unwrap();
        fs::create_dir_all(own.staging().join("global")).unwrap();
        fs::create_dir_all(own.staging().join("base")).unwrap();
        for name in ["PG_VERSION", "global/pg_control", "global/1262"] {
            durable::write(&own.staging().join(name), name.as_bytes(), 0o600).unwrap();
        }
    }

    #[test]
    fn fills_a_mount_point_and_leaves_no_marker() {
        let (_volume, directory, own) = mount_point();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o775)).unwrap();
        stage(&own);
        publish(&directory, &own, "init").unwrap();
        assert_eq!(fs::read(directory.join("global/pg_control")).unwrap(), b"global/pg_control");
        assert!(!own.half_made_marker().exists() && !own.staging().exists());
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_interrupted_move_is_finished_from_any_step() {
        // The steps of `finish`, each undone in turn as if the process had died before it.
        for done in 0..=4_usize {
            let (_volume, directory, own) = mount_point();
            stage(&own);
            let marker = Marker {
                format: 1,
                operation: "init".into(),
                entries: ["PG_VERSION", "base", "global"].map(String::from).into(),
                folder: staging_folder(),
                replaces: None,
                mixed: None,
            };
            durable::write(&own.half_made_marker(), &serde_json::to_vec(&marker).unwrap(), 0o600).unwrap();
            if done >= 1 {
                durable::rename(&own.staging().join("global/pg_control"), &own.staging().join(CONTROL_ASIDE)).unwrap();
            }
            for name in marker.entries.iter().take(done.saturating_sub(1)) {
                durable::rename(&own.staging().join(name), &directory.join(name)).unwrap();
            }
            assert!(recover(&directory, &own).unwrap());
            assert_eq!(fs::read(directory.join("global/pg_control")).unwrap(), b"global/pg_control", "after {done} steps");
            assert!(directory.join("global/1262").exists() && !own.half_made_marker().exists());
            assert!(!recover(&directory, &own).unwrap());
        }
    }

    #[test]
    fn a_foreign_entry_that_appeared_is_never_replaced() {
        let (_volume, directory, own) = mount_point();
        stage(&own);
        fs::create_dir(directory.join("base")).unwrap();
        assert!(publish(&directory, &own, "init").is_err());
        assert!(!directory.join("global/pg_control").exists());
    }
}
