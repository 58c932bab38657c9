//! Removes scratch folders whose owner is proven dead and whose undertaker died as well: a container that was killed as a
//! whole, a machine that lost power.
//!
//! The proof is a lock: the kernel lets it go when its holder ends, however that happens, and never before.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};

use crate::error::{Error, Result};
use crate::fs::os_user::OsUser;
use crate::temporary::scratch::{Afterwards, OWNER, PREFIX, Undertaker};

/// A folder is made a moment before its owner has locked it.
const NEWBORN: Duration = Duration::from_secs(10);

/// Removes what dead owners left in a folder, and returns the paths of what was removed. What another user made is left
/// alone. Blocking.
///
/// # Errors
/// [`Error::File`] when the folder cannot be listed; the `Deadline` of a folder that resists.
pub fn sweep(folder: &Path, os_user: Option<&OsUser>) -> Result<Vec<PathBuf>> {
    sweep_named(folder, PREFIX, os_user)
}

/// The same for folders whose names begin otherwise.
pub(crate) fn sweep_named(folder: &Path, prefix: &str, os_user: Option<&OsUser>) -> Result<Vec<PathBuf>> {
    let mut dead = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::file("list", folder, e))? {
        let entry = entry.map_err(|e| Error::file("list", folder, e))?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) && is_orphan(&entry.path(), os_user) {
            dead.push(entry.path());
        }
    }
    // All at once: each may have to wait for its servers.
    let mut undertakers = Vec::new();
    for path in dead {
        undertakers.push((Undertaker::engage(&path, Afterwards::Remove)?, path));
    }
    for (undertaker, path) in &mut undertakers {
        undertaker.bury(path)?;
    }
    Ok(undertakers.into_iter().map(|(_, path)| path).collect())
}

fn is_orphan(path: &Path, os_user: Option<&OsUser>) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let me = rustix::process::geteuid().as_raw();
    let ours =
        metadata.is_dir() && metadata.mode() & 0o077 == 0 && (metadata.uid() == me || os_user.is_some_and(|u| u.uid == metadata.uid()));
    let grown_up = metadata.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > NEWBORN);
    ours && match open_owner(path) {
        Ok(Some(owner)) => {
            let free = rustix::fs::flock(&owner, FlockOperation::NonBlockingLockShared).is_ok();
            // An empty file was never locked: its owner is just about to, or died that very moment.
            free && (grown_up || owner.metadata().is_ok_and(|metadata| metadata.len() > 0))
        }
        // Without such a file it was kept on purpose, or its owner died before it could make one.
        Ok(None) => grown_up && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()),
        Err(_) => false,
    }
}

fn open_owner(path: &Path) -> std::io::Result<Option<File>> {
    match OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path.join(OWNER)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
