//! [`Queue`]: which part of which file is to be written next, for several writers.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::repo::entry::{Entry, EntryKind, EntryPath, FileEntry};
use crate::restore::tree::{self, Places};

/// How much one writer takes at once, at least, of small files: those that follow each other lie in the same frames, which two writers would
/// both read.
const GROUP_BYTES: u64 = 2 << 20;
/// What to make a file costs beside its bytes.
const FILE_BYTES: u64 = 4096;

/// The files that are not yet on their way.
#[derive(Debug)]
pub(super) struct Queue {
    entries: Arc<[Entry]>,
    places: Places,
    next: Mutex<Next>,
}

#[derive(Debug, Default)]
struct Next {
    entry: usize,
    /// Files of several leaves that were begun, one of each writer.
    large: Vec<Large>,
}

/// A file of several leaves.
#[derive(Debug)]
struct Large {
    target: Arc<Target>,
    /// Those that are left.
    leaves: Range<usize>,
    writer: usize,
}

/// Some leaves of a file, each 64 MiB of it.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) target: Arc<Target>,
    pub(super) leaves: Range<usize>,
}

/// A file that is made when the first writer comes to it.
#[derive(Debug)]
pub(super) struct Target {
    entries: Arc<[Entry]>,
    entry: usize,
    pub(super) path: PathBuf,
    file: Mutex<Option<Arc<File>>>,
}

impl Target {
    /// What the backup says of it.
    pub(super) fn file_entry(&self) -> Option<&FileEntry> {
        match &self.entries[self.entry].kind {
            EntryKind::File(file) => Some(file),
            _ => None,
        }
    }

    /// Where it lies in the data directory.
    pub(super) fn name(&self) -> &EntryPath {
        &self.entries[self.entry].path
    }

    /// The file, as long as it will be. Blocking.
    ///
    /// # Errors
    /// [`Error::File`](crate::error::Error::File).
    pub(super) fn open(&self) -> Result<Arc<File>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = file.as_ref() {
            return Ok(Arc::clone(file));
        }
        let (mode, size) = self.file_entry().map_or((0o600, 0), |entry| (entry.mode.bits(), entry.size));
        let made = Arc::new(tree::create(&self.path, mode, size)?);
        Ok(Arc::clone(file.insert(made)))
    }
}

impl Next {
    /// The next leaf of a large file, which is forgotten with its last one.
    fn leaf_of(&mut self, large: usize) -> Vec<Slice> {
        let one = &mut self.large[large];
        let leaf = one.leaves.start;
        one.leaves.start += 1;
        let slice = Slice { target: Arc::clone(&one.target), leaves: leaf..leaf + 1 };
        if one.leaves.is_empty() {
            self.large.swap_remove(large);
        }
        vec![slice]
    }
}

impl Queue {
    pub(super) fn new(entries: Arc<[Entry]>, places: Places) -> Self {
        Self { entries, places, next: Mutex::default() }
    }

    /// What a writer takes at once: a leaf of its own large file, or small files that follow each other. One who finds nothing left to begin with
    /// helps another one: only then, since a kernel lets one at a time write to a file.
    pub(super) fn take(&self, writer: usize) -> Option<Vec<Slice>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = next.large.iter().position(|large| large.writer == writer) {
            return Some(next.leaf_of(own));
        }
        let (mut slices, mut bytes) = (Vec::new(), 0);
        while bytes < GROUP_BYTES {
            let Some(entry) = self.entries.get(next.entry) else { break };
            let EntryKind::File(file) = &entry.kind else {
                next.entry += 1;
                continue;
            };
            let leaves = 0..file.leaves.len();
            let is_large = leaves.len() > 1;
            if is_large && !slices.is_empty() {
                break;
            }
            let target = self.target(next.entry);
            next.entry += 1;
            if is_large {
                next.large.push(Large { target, leaves, writer });
                let own = next.large.len() - 1;
                return Some(next.leaf_of(own));
            }
            slices.push(Slice { target, leaves });
            bytes += file.size + FILE_BYTES;
        }
        if slices.is_empty() {
            let longest = (0..next.large.len()).max_by_key(|at| next.large[*at].leaves.len())?;
            return Some(next.leaf_of(longest));
        }
        Some(slices)
    }

    fn target(&self, entry: usize) -> Arc<Target> {
        let path = self.places.of(&self.entries[entry].path);
        Arc::new(Target { entries: Arc::clone(&self.entries), entry, path, file: Mutex::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt;

    use time::macros::datetime;

    use super::*;
    use crate::repo::entry::{Mode, Stamp};
    use crate::repo::names::{PackName, Place, RunName};

    fn file(path: &str, size: u64) -> Entry {
        let run = RunName::new(datetime!(2026-02-08 09:33:16 UTC), [0; 4]);
        let place = Place { pack: PackName { run, number: 0 }, item: 0 };
        let leaves = vec![place; size.div_ceil(64 << 20) as usize];
        let stamp = Stamp { modified_ns: 0, changed_ns: 0, device: 0, inode: 0 };
        let entry = FileEntry { mode: Mode::from_bits(0o640), size, leaves, stamp, read_fully: run };
        Entry { path: EntryPath::new(path.as_bytes()).unwrap(), kind: EntryKind::File(entry) }
    }

    fn folder(path: &str) -> Entry {
        Entry { path: EntryPath::new(path.as_bytes()).unwrap(), kind: EntryKind::Directory { mode: Mode::from_bits(0o700) } }
    }

    fn queue(root: &str, entries: Vec<Entry>) -> Queue {
        Queue::new(entries.into(), Places::new(root.into(), BTreeMap::new()))
    }

    fn told(slices: &[Slice]) -> Vec<(String, Range<usize>)> {
        slices.iter().map(|slice| (slice.target.path.to_str().unwrap().to_owned(), slice.leaves.clone())).collect()
    }

    fn one(path: &str, leaves: Range<usize>) -> Vec<(String, Range<usize>)> {
        vec![(path.to_owned(), leaves)]
    }

    #[test]
    fn small_files_that_follow_each_other_are_for_one_and_a_large_one_goes_leaf_by_leaf() {
        let queue = queue(
            "/data",
            vec![
                file("a", 0),
                file("b", 8192),
                folder("base"),
                file("base/1", 150 << 20),
                file("base/2", 3 << 20),
                file("base/3", 1),
                file("c", 64 << 20),
            ],
        );
        let taken: Vec<Vec<_>> = std::iter::from_fn(|| queue.take(0)).map(|slices| told(&slices)).collect();
        assert_eq!(
            taken,
            [
                [one("/data/a", 0..0), one("/data/b", 0..1)].concat(),
                one("/data/base/1", 0..1),
                one("/data/base/1", 1..2),
                one("/data/base/1", 2..3),
                one("/data/base/2", 0..1),
                [one("/data/base/3", 0..1), one("/data/c", 0..1)].concat(),
            ]
        );
        assert!(queue.take(0).is_none() && queue.take(1).is_none());
    }

    #[test]
    fn each_has_a_large_file_of_its_own_until_there_is_nothing_else_to_begin_with() {
        let queue = queue("/data", vec![file("a", 130 << 20), file("b", 250 << 20), file("c", 1)]);
        let take = |writer| queue.take(writer).map(|slices| told(&slices));
        for (writer, path, leaf) in [(0, "a", 0), (1, "b", 0), (0, "a", 1), (0, "a", 2), (0, "c", 0), (0, "b", 1), (1, "b", 2), (0, "b", 3)]
        {
            assert_eq!(take(writer), Some(one(&format!("/data/{path}"), leaf..leaf + 1)), "{writer}");
        }
        assert!(take(0).is_none() && take(1).is_none());
    }

    #[test]
    fn all_who_write_a_file_have_the_same_one_and_it_is_made_once() {
        let root = tempfile::tempdir().unwrap();
        let queue = queue(root.path().to_str().unwrap(), vec![file("large", 130 << 20)]);
        let slices: Vec<Slice> = std::iter::from_fn(|| queue.take(0)).flatten().collect();
        let files: Vec<_> = slices.iter().map(|slice| slice.target.open().unwrap()).collect();
        assert!(files.len() == 3 && files.iter().all(|file| Arc::ptr_eq(file, &files[0])));
        let made = root.path().join("large").metadata().unwrap();
        assert_eq!((made.len(), made.mode() & 0o777), (130 << 20, 0o640));
    }
}
