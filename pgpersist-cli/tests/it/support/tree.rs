//! What stands in a folder, as a value to compare: that nothing changed is then one assertion.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Every entry below a folder, the folder included, with kind, mode, owner and content.
#[derive(PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// Reads a folder; an absent one is an empty tree.
    pub(crate) fn of(path: &Path) -> Self {
        Self::without(path, &[])
    }

    /// The same without entries that end like one of `names`: logs, and lock files that carry nothing.
    pub(crate) fn without(path: &Path, names: &[&str]) -> Self {
        let mut entries = BTreeMap::new();
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if names.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            let content = match metadata.file_type() {
                kind if kind.is_dir() => {
                    waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                    "folder".to_owned()
                }
                kind if kind.is_symlink() => format!("link to {}", fs::read_link(&path).unwrap().display()),
                kind if kind.is_socket() => "socket".to_owned(),
                _ => Sha256::digest(fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect(),
            };
            entries.insert(path, format!("{:o} {} {} {content}", metadata.mode(), metadata.uid(), metadata.gid()));
        }
        Self(entries)
    }

    /// The paths in it.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Fails with the differences, when there are any.
    #[track_caller]
    pub(crate) fn assert_same(&self, later: &Self) {
        let told = |one: &Self, other: &Self| -> Vec<String> {
            one.0
                .iter()
                .filter(|(path, entry)| other.0.get(*path) != Some(entry))
                .map(|(path, entry)| format!("{} {entry}", path.display()))
                .collect()
        };
        let (before, after) = (told(self, later), told(later, self));
        assert!(before.is_empty() && after.is_empty(), "something changed: before {before:#?}, after {after:#?}");
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(&self.0).finish()
    }
}
