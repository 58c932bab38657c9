//! A directory tree as it is on the disk, to be compared with another.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What lies at a path.
#[derive(Clone, PartialEq, Eq)]
enum Node {
    Folder(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
}

impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(mode) => write!(formatter, "folder {mode:o}"),
            Self::File(mode, content) => write!(formatter, "file {mode:o}, {} bytes", content.len()),
            Self::Link(target) => write!(formatter, "link to {}", target.display()),
        }
    }
}

/// All of a tree, by paths below its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<OsString, Node>);

impl Tree {
    /// Reads a tree; links are told, not followed, and the root counts.
    pub(crate) fn read(root: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(relative) = waiting.pop() {
            let path = root.join(&relative);
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let node = if metadata.is_dir() {
                waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| relative.join(entry.unwrap().file_name())));
                Node::Folder(mode)
            } else if metadata.is_symlink() {
                Node::Link(std::fs::read_link(&path).unwrap())
            } else {
                Node::File(mode, std::fs::read(&path).unwrap())
            };
            nodes.insert(relative.into_os_string(), node);
        }
        Self(nodes)
    }

    /// What a file holds.
    pub(crate) fn content(&self, path: &str) -> &[u8] {
        match self.0.get(&OsString::from(path)) {
            Some(Node::File(_, content)) => content,
            other => panic!("{path} is {other:?}"),
        }
    }

    /// The paths at which two trees differ.
    pub(crate) fn differences(&self, other: &Self) -> Vec<OsString> {
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        paths.filter(|path| self.0.get(*path) != other.0.get(*path)).cloned().collect()
    }
}
