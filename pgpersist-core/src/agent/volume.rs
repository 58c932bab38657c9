//! Whether the place of the data is still there, and can still be written to.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Error, Result};

/// What a file system says whose device is gone or fails.
const BROKEN: [Errno; 5] = [Errno::IO, Errno::NXIO, Errno::NODEV, Errno::SHUTDOWN, Errno::STALE];

/// The directory that a server was started in.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    path: PathBuf,
    identity: (u64, u64),
}

impl Volume {
    /// Remembers the directory as it is now. Blocking.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path).map_err(|e| Error::file("look at", path, e))? })
    }

    /// Looks again. Blocking, for as long as the file system does.
    ///
    /// # Errors
    /// `Unavailable` when another directory, or none, stands under this path, or when nothing can be written any more.
    pub(crate) fn check(&self) -> Result<()> {
        let path = self.path.display();
        let remedy = "look at the volume (`findmnt`, `dmesg`), mount it again, and start again: the next start recovers";
        match identity(&self.path) {
            Ok(now) if now == self.identity => {}
            Ok(_) => {
                return Err(Error::unavailable(
                    format!("another directory stands at {path}: its volume was unmounted or exchanged"),
                    remedy,
                ));
            }
            Err(error) => return Err(Error::unavailable(format!("{path} is gone ({error})"), remedy)),
        }
        // Opening to write is enough to be told, and changes nothing. An ext4 that found an error says only this way that it
        // takes no writes any more; the flags of its mount stay as they are.
        match OpenOptions::new().write(true).open(self.path.join("PG_VERSION")) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Err(Error::unavailable(format!("the file system of {path} turned read-only"), remedy))
            }
            Err(error) if error.raw_os_error().is_some_and(|code| BROKEN.contains(&Errno::from_raw_os_error(code))) => {
                Err(Error::unavailable(format!("the file system of {path} is broken ({error})"), remedy))
            }
            _ => Ok(()),
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_exchanged_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let volume = Volume::of(&data).unwrap();
        volume.check().unwrap();
        // The old one is kept, so that its number is not given away again.
        let moved = std::process::Command::new("mv").arg(&data).arg(folder.path().join("old")).status().unwrap();
        assert!(moved.success());
        assert!(volume.check().unwrap_err().to_string().contains("is gone"));
        fs::create_dir(&data).unwrap();
        assert!(volume.check().unwrap_err().to_string().contains("another directory"));
    }
}
