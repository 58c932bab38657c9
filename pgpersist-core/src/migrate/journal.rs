//! Which files of the copy are durable, as what they were read: appended to after each batch, read again by the next run.
//!
//! One JSON object a line. A line that a crash cut off, and all after it, counts as never written.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fs::on_behalf::as_owner;

/// Names may hold any bytes; in the journal they are text.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(b'"').add(b'\\');

/// What the source's file was when it was copied, and what was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    /// Bytes read, and written.
    pub(crate) size: u64,
    /// Modification time, in nanoseconds since 1970.
    pub(crate) mtime: i64,
    /// Change time, likewise.
    pub(crate) ctime: i64,
    /// Inode number.
    pub(crate) inode: u64,
    /// When its copy began, by the wall clock, likewise.
    pub(crate) started: i64,
    /// SHA-256 of the bytes read, in hexadecimal digits.
    pub(crate) sha256: String,
    /// Whether the copy was read back and found equal, in this run.
    #[serde(skip)]
    pub(crate) compared: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    #[serde(flatten)]
    copied: Copied,
}

/// The journal, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    entries: HashMap<PathBuf, Copied>,
}

impl Journal {
    /// Opens a journal, or begins one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::file("read", path, error)),
        };
        let (entries, good) = parse(&bytes);
        let file = as_owner(path.parent().unwrap_or(path), || {
            OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|e| Error::file("open", path, e))
        })?;
        file.set_len(good as u64).map_err(|e| Error::file("cut", path, e))?;
        Ok(Self { file, path: path.to_owned(), entries })
    }

    /// What is known about one file.
    pub(crate) fn get(&self, path: &Path) -> Option<&Copied> {
        self.entries.get(path)
    }

    /// A known file that is none of these.
    pub(crate) fn not_in(&self, files: &HashSet<&Path>) -> Option<PathBuf> {
        self.entries.keys().filter(|path| !files.contains(path.as_path())).min().cloned()
    }

    /// Writes down a batch whose copies are durable.
    pub(crate) fn append(&mut self, batch: Vec<(PathBuf, Copied)>) -> Result<()> {
        let mut text = Vec::new();
        for (path, copied) in &batch {
            let line = Line { path: percent_encode(path.as_os_str().as_bytes(), ESCAPED).to_string(), copied: copied.clone() };
            serde_json::to_writer(&mut text, &line).map_err(|e| Error::Bug(format!("could not write a journal: {e}")))?;
            text.push(b'\n');
        }
        self.file.write_all(&text).map_err(|e| Error::file("write", &self.path, e))?;
        self.file.sync_data().map_err(|e| Error::file("fsync", &self.path, e))?;
        self.entries.extend(batch);
        Ok(())
    }

    /// Forgets files that the source has no more. The journal's own lines stay: a file without a copy is copied anyway.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let gone: Vec<PathBuf> = self.entries.keys().filter(|path| !keep(path)).cloned().collect();
        for path in &gone {
            self.entries.remove(path);
        }
        gone
    }

    /// The files that were not read back in this run, in the order of their names.
    pub(crate) fn not_compared(&self) -> Vec<(PathBuf, Copied)> {
        let mut list: Vec<_> = self.entries.iter().filter(|(_, c)| !c.compared).map(|(p, c)| (p.clone(), c.clone())).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    /// Notes that a copy was read back and is what was read from the source.
    pub(crate) fn mark_compared(&mut self, path: &Path) {
        if let Some(copied) = self.entries.get_mut(path) {
            copied.compared = true;
        }
    }

    /// Forgets one file, so that it is copied again.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.entries.remove(path);
    }
}

/// The entries of a journal, later lines before earlier ones, and how many of its bytes are whole lines.
fn parse(bytes: &[u8]) -> (HashMap<PathBuf, Copied>, usize) {
    let (mut entries, mut good) = (HashMap::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        let Ok(Line { path, copied }) = serde_json::from_slice(whole) else { break };
        good += line.len();
        entries.insert(PathBuf::from(OsString::from_vec(percent_decode_str(&path).collect())), copied);
    }
    (entries, good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn copied(size: u64) -> Copied {
        Copied { size, mtime: 1, ctime: 2, inode: 3, started: 4, sha256: "ab".into(), compared: false }
    }

    #[test]
    fn a_torn_tail_counts_as_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files.jsonl");
        let odd = PathBuf::from(OsString::from_vec(b"base/\xFF\n%41 \"x".to_vec()));
        let mut journal = Journal::open(&path).unwrap();
        journal.append(vec![(odd.clone(), copied(1)), ("b".into(), copied(2))]).unwrap();
        let whole = fs::read(&path).unwrap();
        journal.append(vec![("c".into(), copied(3))]).unwrap();
        drop(journal);
        let longer = fs::read(&path).unwrap();
        for cut in whole.len()..longer.len() {
            File::create(&path).unwrap().write_all(&longer[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!((journal.get(&odd), journal.get(Path::new("c"))), (Some(&copied(1)), None));
            journal.append(vec![("b".into(), copied(9))]).unwrap();
            assert_eq!(Journal::open(&path).unwrap().get(Path::new("b")), Some(&copied(9)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let (_, good) = parse(&bytes);
            prop_assert!(good <= bytes.len());
        }
    }
}
