//! Walks a directory in a fixed order; symbolic links are reported, never followed.
//!
//! A running server creates and removes files at any moment: what vanishes between being listed and being looked at is left
//! out, without an error.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// Something below the folder that is walked.
#[derive(Debug)]
pub struct Entry {
    /// The path below that folder.
    pub relative: PathBuf,
    /// The whole path.
    pub path: PathBuf,
    /// What it is; of a symbolic link, the link itself.
    pub metadata: Metadata,
}

/// The entries below a folder: each folder before what is in it, names in the order of their bytes. The folder itself is
/// none of them. Holds the names of the folders between the root and where it is, not of the whole tree.
#[derive(Debug)]
pub struct Walk {
    root: PathBuf,
    /// The folders that are open, outermost first: their relative path and the names still to come, last first.
    open: Vec<(PathBuf, Vec<OsString>)>,
    /// The folder that was returned last and is not listed yet.
    entering: Option<PathBuf>,
}

impl Walk {
    /// Begins a walk.
    ///
    /// # Errors
    /// [`Error::File`] when the folder does not exist or cannot be listed.
    pub fn new(root: &Path) -> Result<Self> {
        let names = names(root).map_err(|e| Error::file("list", root, e))?;
        Ok(Self { root: root.to_owned(), open: vec![(PathBuf::new(), names)], entering: None })
    }

    /// Leaves out what is in the folder that was returned last.
    pub fn skip_folder(&mut self) {
        self.entering = None;
    }
}

impl Iterator for Walk {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(folder) = self.entering.take() {
            match names(&self.root.join(&folder)) {
                Ok(names) => self.open.push((folder, names)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It is the file system's own, at the root of a volume, and root's alone.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && folder == Path::new("lost+found") => {}
                Err(error) => return Some(Err(Error::file("list", self.root.join(folder), error))),
            }
        }
        loop {
            let (folder, names) = self.open.last_mut()?;
            let Some(name) = names.pop() else {
                self.open.pop();
                continue;
            };
            let relative = folder.join(name);
            let path = self.root.join(&relative);
            match fs::symlink_metadata(&path) {
                Ok(metadata) => {
                    if metadata.is_dir() {
                        self.entering = Some(relative.clone());
                    }
                    return Some(Ok(Entry { relative, path, metadata }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It is the file system's own, at the root of a volume, and root's alone.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && folder == Path::new("lost+found") => {}
                Err(error) => return Some(Err(Error::file("look at", path, error))),
            }
        }
    }
}

/// How much a tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TreeSize {
    /// The lengths of all files together.
    pub bytes: u64,
    /// What they take on disk, which is less for files with holes.
    pub allocated_bytes: u64,
    /// How many files, a file with several names once.
    pub files: u64,
}

/// Adds up the files of a tree. What symbolic links point to, as tablespaces do, is not part of it.
///
/// # Errors
/// [`Error::File`].
pub fn tree_size(root: &Path) -> Result<TreeSize> {
    let mut size = TreeSize::default();
    let mut linked = HashSet::new();
    for entry in Walk::new(root)? {
        let metadata = entry?.metadata;
        if metadata.is_file() && (metadata.nlink() == 1 || linked.insert((metadata.dev(), metadata.ino()))) {
            size.bytes += metadata.len();
            size.allocated_bytes += metadata.blocks() * 512;
            size.files += 1;
        }
    }
    Ok(size)
}

/// The names in a folder, last first.
fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(folder)?.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/inner")).unwrap();
        fs::create_dir(root.join("a")).unwrap();
        for (name, length) in [("a/2", 10), ("a/10", 20), ("b/inner/x", 30), ("c", 5)] {
            File::create(root.join(name)).unwrap().write_all(&vec![b'x'; length]).unwrap();
        }
        std::os::unix::fs::symlink("..", root.join("b/up")).unwrap();
        fs::hard_link(root.join("c"), root.join("d")).unwrap();
        File::create(root.join(std::ffi::OsStr::from_bytes(b"\xFF"))).unwrap();
        folder
    }

    #[test]
    fn the_order_is_fixed_and_links_are_not_followed() {
        let folder = tree();
        let seen: Vec<_> = Walk::new(folder.path()).unwrap().map(|e| e.unwrap().relative.to_string_lossy().into_owned()).collect();
        assert_eq!(seen, ["a", "a/10", "a/2", "b", "b/inner", "b/inner/x", "b/up", "c", "d", "\u{FFFD}"]);
    }

    #[test]
    fn a_folder_can_be_skipped() {
        let folder = tree();
        let mut walk = Walk::new(folder.path()).unwrap();
        let mut seen = Vec::new();
        while let Some(entry) = walk.next() {
            let entry = entry.unwrap();
            if entry.relative == Path::new("a") || entry.relative == Path::new("b/inner") {
                walk.skip_folder();
            }
            seen.push(entry.relative);
        }
        assert_eq!(seen[..4], ["a", "b", "b/inner", "b/up"].map(PathBuf::from));
    }

    #[test]
    fn what_vanishes_meanwhile_is_left_out() {
        let folder = tree();
        let mut walk = Walk::new(folder.path()).unwrap();
        assert_eq!(walk.next().unwrap().unwrap().relative, Path::new("a"));
        fs::remove_file(folder.path().join("c")).unwrap();
        crate::fs::durable::remove_tree(&folder.path().join("a")).unwrap();
        let rest: Vec<_> = walk.map(|e| e.unwrap().relative).collect();
        assert_eq!(rest[..3], ["b", "b/inner", "b/inner/x"].map(PathBuf::from));
        assert!(!rest.contains(&PathBuf::from("c")));
    }

    #[test]
    fn a_size_counts_each_file_once() {
        let folder = tree();
        let size = tree_size(folder.path()).unwrap();
        assert_eq!((size.bytes, size.files), (65, 5));
        assert!(tree_size(&folder.path().join("absent")).is_err());
    }
}
