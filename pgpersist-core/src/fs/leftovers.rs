//! What writers that were killed left: temporary files, by their names and by the locks that nobody holds on them any more.

use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::error::{Error, Result};
use crate::fs::durable::{TEMPORARY_SUFFIX, parent, remove_file};
use crate::fs::on_behalf::as_owner;

/// Leftovers younger than this are left alone: their writer may not have locked them yet.
const SWEEP_AGE: Duration = Duration::from_secs(60);

/// Removes what interrupted writes left in a folder: temporary files that nobody holds any more. Returns how many.
///
/// # Errors
/// [`Error::File`] when the folder cannot be listed.
pub fn sweep(folder: &Path) -> Result<usize> {
    as_owner(folder, || {
        let mut swept = 0;
        for entry in fs::read_dir(folder).map_err(|e| Error::file("list", folder, e))? {
            let entry = entry.map_err(|e| Error::file("list", folder, e))?;
            let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX));
            if ours && matches!(hold_of(&entry.path()), Hold::Nobody) {
                remove_file(&entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    })
}

/// What a temporary file would have been called; nothing for any other.
pub fn target_of_temporary(name: &str) -> Option<&str> {
    let (target, random) = name.strip_prefix('.')?.strip_suffix(TEMPORARY_SUFFIX)?.rsplit_once('.')?;
    (random.len() == 8 && random.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(target)
}

/// Removes a temporary file that nobody writes any more: whose writer no longer holds it, or where the file system knows no locks,
/// that was not written to for `idle`. Tells whether it did.
///
/// # Errors
/// [`Error::File`].
pub fn remove_left_over(path: &Path, idle: Duration) -> Result<bool> {
    as_owner(parent(path)?, || {
        let left_over = match hold_of(path) {
            Hold::Nobody => true,
            Hold::Unknown { age } => age > idle,
            Hold::Somebody => false,
        };
        if left_over { remove_file(path).map(|()| true) } else { Ok(false) }
    })
}

/// Who holds a temporary file.
enum Hold {
    /// Its writer, or who is about to.
    Somebody,
    /// Its writer has ended.
    Nobody,
    /// The file system knows no locks.
    Unknown { age: Duration },
}

fn hold_of(path: &Path) -> Hold {
    let opened = OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(path);
    let Ok(file) = opened else { return Hold::Somebody };
    let age = file.metadata().and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
    let Some(age) = age.filter(|age| *age > SWEEP_AGE) else { return Hold::Somebody };
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Hold::Nobody,
        Err(rustix::io::Errno::WOULDBLOCK) => Hold::Somebody,
        Err(_) => Hold::Unknown { age },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::fs::durable::NewFile;

    #[test]
    fn a_sweep_takes_leftovers_and_spares_work_in_progress() {
        let folder = tempfile::tempdir().unwrap();
        let living = NewFile::create(&folder.path().join("living"), 0o600).unwrap();
        let dead = folder.path().join(format!(".dead.00000000{TEMPORARY_SUFFIX}"));
        File::create(&dead).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        living.file().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(sweep(folder.path()).unwrap(), 1);
        assert!(!dead.exists());
        living.publish().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(folder.path().join("living").exists());
    }
}
