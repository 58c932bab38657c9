//! Free bytes and inodes of the file system behind a path.

use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::fs::mounts::nearest_existing;

/// Room on a file system, as far as it is ours: what is reserved for root counts neither as free nor as part of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Bytes in use and free.
    pub total_bytes: u64,
    /// Bytes that we may still write.
    pub free_bytes: u64,
    /// Files in use and free; `None` where the file system has no such limit (btrfs).
    pub total_inodes: Option<u64>,
    /// Files that we may still create; `None` likewise.
    pub free_inodes: Option<u64>,
}

impl Space {
    /// Asks the file system that a path lies on, or would lie on if it existed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn of(path: &Path) -> Result<Self> {
        let existing = nearest_existing(path)?;
        let seen = rustix::fs::statvfs(&existing).map_err(|e| Error::file("ask for the free space of", &existing, e.into()))?;
        let used_blocks = seen.f_blocks.saturating_sub(seen.f_bfree);
        let used_inodes = seen.f_files.saturating_sub(seen.f_ffree);
        let has_inodes = seen.f_files > 0;
        Ok(Self {
            total_bytes: used_blocks.saturating_add(seen.f_bavail).saturating_mul(seen.f_frsize),
            free_bytes: seen.f_bavail.saturating_mul(seen.f_frsize),
            total_inodes: has_inodes.then(|| used_inodes.saturating_add(seen.f_favail)),
            free_inodes: has_inodes.then_some(seen.f_favail),
        })
    }

    /// The part in use, from 0 to 1, as `df` shows it.
    pub fn used_fraction(&self) -> f64 {
        if self.total_bytes == 0 {
            1.0
        } else {
            (self.total_bytes - self.free_bytes.min(self.total_bytes)) as f64 / self.total_bytes as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_yet_has_the_space_of_where_it_would_be() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::of(folder.path()).unwrap();
        assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
        assert!((0.0..=1.0).contains(&space.used_fraction()));
        assert_eq!(Space::of(&folder.path().join("a/b")).unwrap().total_inodes.is_some(), space.total_inodes.is_some());
    }

    #[test]
    fn a_file_system_without_room_is_full() {
        let nothing = Space { total_bytes: 0, free_bytes: 0, total_inodes: None, free_inodes: None };
        assert!((nothing.used_fraction() - 1.0).abs() < f64::EPSILON);
    }
}
