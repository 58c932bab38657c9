//! Ballast: a file of zeros that takes room on the volume while there is plenty, so that there is some to give back when the
//! volume is full. A server that a full volume has ended can start again then, and somebody can clean up.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::durable::{self, NewFile};
use crate::fs::space::Space;

/// The name of the file in the folder of our own files.
const FILE_NAME: &str = "ballast";

/// The ballast is only taken in where so many times its size is free: else it would fill the volume itself.
const ROOM_FACTOR: u64 = 4;

/// What a piece is written of where the file system knows no way to allocate.
const PIECE_BYTES: usize = 1024 * 1024;

/// How many bytes the ballast of a directory takes; none where there is none. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn size_bytes(own: &OwnFolder) -> Result<Option<u64>> {
    let path = path(own);
    match fs::symlink_metadata(&path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::file("look at", path, error)),
    }
}

/// Takes in so many bytes of ballast, where there is room; true when it is there afterwards. Ballast of another size is
/// replaced. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn take_in(own: &OwnFolder, bytes: u64) -> Result<bool> {
    let before = size_bytes(own)?;
    if before == Some(bytes) {
        return Ok(true);
    }
    let free = Space::of(own.path())?.free_bytes.saturating_add(before.unwrap_or(0));
    if free < bytes.saturating_mul(ROOM_FACTOR) {
        return Ok(false);
    }
    // Both at once may be more than there is.
    give_back(own)?;
    own.create()?;
    let path = path(own);
    let mut file = NewFile::create(&path, 0o600)?;
    fill(&mut file, bytes).map_err(|e| Error::file("write", &path, e))?;
    file.publish()?;
    Ok(true)
}

/// Gives the ballast back; returns how many bytes that were. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn give_back(own: &OwnFolder) -> Result<Option<u64>> {
    let path = path(own);
    let taken = match fs::symlink_metadata(&path) {
        // What it really takes: blocks of 512 bytes; see *stat(2)*.
        Ok(metadata) => metadata.blocks().saturating_mul(512),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(Error::file("look at", path, error)),
    };
    durable::remove_file(&path)?;
    Ok(Some(taken))
}

/// Makes a file take so many bytes of its volume.
fn fill(file: &mut NewFile, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file.file(), FallocateFlags::empty(), 0, bytes) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    // A file system that compresses would store zeros in no room at all.
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        piece.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&rand::random::<u64>().to_le_bytes()));
        let count = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        file.write_all(&piece[..count])?;
        left -= count as u64;
    }
    Ok(())
}

fn path(own: &OwnFolder) -> PathBuf {
    own.path().join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_the_room_that_it_gives_back() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnFolder::locate(&folder.path().join("data")).unwrap();
        assert_eq!((size_bytes(&own).unwrap(), give_back(&own).unwrap()), (None, None));
        let bytes = 3 << 20;
        assert!(take_in(&own, bytes).unwrap() && take_in(&own, bytes).unwrap());
        assert_eq!(size_bytes(&own).unwrap(), Some(bytes));
        assert!(take_in(&own, 2 * bytes).unwrap());
        assert!(give_back(&own).unwrap().is_some_and(|taken| taken >= 2 * bytes));
        assert_eq!(size_bytes(&own).unwrap(), None);
    }

    #[test]
    fn a_volume_is_never_filled_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnFolder::locate(&folder.path().join("data")).unwrap();
        let free = Space::of(folder.path()).unwrap().free_bytes;
        assert!(!take_in(&own, free / 2).unwrap());
        assert_eq!(size_bytes(&own).unwrap(), None);
    }
}
