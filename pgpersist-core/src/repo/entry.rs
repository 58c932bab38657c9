//! [`Entry`]: a file, a directory or a link of a backup; and lists of them.

use serde::{Deserialize, Serialize};

use crate::repo::fault::Fault;
use crate::repo::leaf::LEAF_CHUNKS;
use crate::repo::names::{Place, RunName};
use crate::repo::trailer::CHUNK_BYTES;

/// How long a path may be: what the kernel takes, less its end.
const LONGEST_PATH: usize = 4095;

/// What a backup says of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it lies, relative to the data directory.
    #[serde(flatten)]
    pub path: EntryPath,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// A path as a file system has it, which need not be text. Relative; no part is empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "PathText", into = "PathText")]
pub struct EntryPath(Vec<u8>);

/// How a path stands in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PathText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl EntryPath {
    /// Takes a path that leads nowhere but below.
    ///
    /// # Errors
    /// `Reference` for all others.
    pub fn new(bytes: &[u8]) -> Result<Self, Fault> {
        let wrong = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
        if bytes.len() > LONGEST_PATH || bytes.contains(&0) || bytes.split(|byte| *byte == b'/').any(wrong) {
            return Err(Fault::Reference { what: "a path" });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<EntryPath> for PathText {
    fn from(path: EntryPath) -> Self {
        match String::from_utf8(path.0) {
            Ok(text) => Self { path: Some(text), path_hex: None },
            Err(error) => {
                let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                Self { path: None, path_hex: Some(hex) }
            }
        }
    }
}

impl TryFrom<PathText> for EntryPath {
    type Error = Fault;

    fn try_from(text: PathText) -> Result<Self, Fault> {
        match (text.path, text.path_hex) {
            (Some(path), None) => Self::new(path.as_bytes()),
            (None, Some(hex)) => {
                let digit = |byte: u8| match byte {
                    b'0'..=b'9' => Some(byte - b'0'),
                    b'a'..=b'f' => Some(byte - b'a' + 10),
                    _ => None,
                };
                let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return Err(Fault::NotCanonical) };
                let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<Vec<u8>>>();
                let path = Self::new(&bytes.ok_or(Fault::NotCanonical)?)?;
                // What is text is written as text.
                if std::str::from_utf8(&path.0).is_ok() { Err(Fault::NotCanonical) } else { Ok(path) }
            }
            _ => Err(Fault::NotCanonical),
        }
    }
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EntryKind {
    /// A file.
    File(FileEntry),
    /// A directory, which may be empty.
    Directory {
        /// Its permissions.
        mode: Mode,
    },
    /// A symbolic link.
    Link {
        /// Where it points to.
        target: String,
    },
}

/// What a backup says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its permissions.
    pub mode: Mode,
    /// Its length.
    pub size: u64,
    /// Where its leaves lie, in order: one for each 64 MiB that were begun.
    pub leaves: Vec<Place>,
    /// What `stat` told when it was read.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// Which run last read all of it.
    pub read_fully: RunName,
}

impl FileEntry {
    /// How many chunks a file of this length has.
    pub fn chunks(&self) -> u64 {
        self.size.div_ceil(CHUNK_BYTES.into())
    }

    /// Whether the leaves are as many as they must be.
    ///
    /// # Errors
    /// `NotCanonical`.
    pub fn check(&self) -> Result<(), Fault> {
        let leaves = self.chunks().div_ceil(LEAF_CHUNKS.into());
        if self.leaves.len() as u64 == leaves { Ok(()) } else { Err(Fault::NotCanonical) }
    }
}

/// What tells that a file is the same as before, as far as a file system can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When its content changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything about it changed.
    pub changed_ns: i64,
    /// Its inode.
    pub inode: u64,
    /// The file system that it lies on.
    pub device: u64,
}

/// Permission bits, at most 0777: no entry makes a file that runs as somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u32);

impl Mode {
    /// The permissions among the bits of a mode.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & 0o777)
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Mode {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o777).ok_or(Fault::Bound { what: "a mode" })?;
        let mode = Self(bits);
        if String::from(mode) == text { Ok(mode) } else { Err(Fault::NotCanonical) }
    }
}

/// Appends an entry to a list.
///
/// # Errors
/// `NotCanonical` for a file whose leaves do not fit its size.
pub fn append(list: &mut Vec<u8>, entry: &Entry) -> Result<(), Fault> {
    if let EntryKind::File(file) = &entry.kind {
        file.check()?;
    }
    serde_json::to_writer(&mut *list, entry).map_err(|_| Fault::NotCanonical)?;
    list.push(b'\n');
    Ok(())
}

/// Reads a list of entries, in the order of their paths.
///
/// # Errors
/// What is wrong with the bytes.
pub fn parse(list: &[u8]) -> Result<Vec<Entry>, Fault> {
    let mut entries: Vec<Entry> = Vec::new();
    let body = list.strip_suffix(b"\n").ok_or(Fault::CutOff)?;
    for line in body.split(|byte| *byte == b'\n') {
        let entry: Entry = serde_json::from_slice(line).map_err(|_| Fault::NotCanonical)?;
        if let EntryKind::File(file) = &entry.kind {
            file.check()?;
        }
        if entries.last().is_some_and(|last| last.path >= entry.path) {
            return Err(Fault::NotCanonical);
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::repo::names::PackName;

    fn run() -> RunName {
        RunName::new(datetime!(2026-02-08 09:33:16 UTC), [15, 142, 125, 108])
    }

    fn file(path: &[u8], size: u64) -> Entry {
        let leaves =
            (0..size.div_ceil(64 << 20)).map(|item| Place { pack: PackName { run: run(), number: 1 }, item: item as u32 }).collect();
        let stamp = Stamp { modified_ns: 1_770_543_196_123_456_789, changed_ns: 1, inode: 12, device: 34 };
        let entry = FileEntry { mode: Mode::from_bits(0o100_600), size, leaves, stamp, read_fully: run() };
        Entry { path: EntryPath::new(path).unwrap(), kind: EntryKind::File(entry) }
    }

    #[test]
    fn a_list_reads_as_it_is_documented() {
        let mut list = Vec::new();
        append(&mut list, &Entry { path: EntryPath::new(b"base").unwrap(), kind: EntryKind::Directory { mode: Mode::from_bits(0o700) } })
            .unwrap();
        append(&mut list, &file(b"base/5/1259", 8192)).unwrap();
        append(&mut list, &Entry { path: EntryPath::new(b"pg_wal").unwrap(), kind: EntryKind::Link { target: "/wal".to_owned() } })
            .unwrap();
        let text = String::from_utf8(list.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r#"{"path":"base","kind":"directory","mode":"0700"}"#);
        let of_file = r#"{"path":"base/5/1259","kind":"file","mode":"0600","size":8192,"leaves":[["20260208T093316Z-0f8e7d6c",1,0]],"#
            .to_owned()
            + r#""modified_ns":1770543196123456789,"changed_ns":1,"inode":12,"device":34,"read_fully":"20260208T093316Z-0f8e7d6c"}"#;
        assert_eq!(lines[1], of_file);
        assert_eq!(lines[2], r#"{"path":"pg_wal","kind":"link","target":"/wal"}"#);
        assert_eq!(parse(&list).unwrap().len(), 3);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for wrong in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a/./b", "a\0b"] {
            assert_eq!(EntryPath::new(wrong.as_bytes()), Err(Fault::Reference { what: "a path" }), "{wrong:?}");
            let line = format!("{{\"path\":{},\"kind\":\"directory\",\"mode\":\"0700\"}}\n", serde_json::to_string(wrong).unwrap());
            assert!(parse(line.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(EntryPath::new(&[b'a'; 5000]).is_err());
    }

    #[test]
    fn what_no_writer_would_write_is_refused() {
        let mut list = Vec::new();
        append(&mut list, &file(b"b", 1)).unwrap();
        append(&mut list, &file(b"a", 1)).unwrap();
        assert_eq!(parse(&list), Err(Fault::NotCanonical), "out of order");
        let mut twice = Vec::new();
        append(&mut twice, &file(b"b", 1)).unwrap();
        twice.extend_from_within(..);
        assert_eq!(parse(&twice), Err(Fault::NotCanonical), "one path twice");
        for (from, to) in
            [("0600", "4755"), ("0600", "600"), ("\"size\":1", "\"size\":67108865"), ("\"path\":\"b\"", "\"path_hex\":\"62\"")]
        {
            let mut good = Vec::new();
            append(&mut good, &file(b"b", 1)).unwrap();
            let bad = String::from_utf8(good).unwrap().replace(from, to);
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(parse(b""), Err(Fault::CutOff));
    }

    proptest! {
        #[test]
        fn paths_of_any_bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 1..20), size in 0..(200_u64 << 20)) {
            if let Ok(path) = EntryPath::new(&bytes) {
                let mut list = Vec::new();
                append(&mut list, &file(&bytes, size)).unwrap();
                let read = parse(&list).unwrap();
                prop_assert_eq!(&read[0].path, &path);
                prop_assert_eq!(read, vec![file(&bytes, size)]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "\\{\"path(_hex)?\":\"[a-f0-9]{0,5}\",\"kind\":\"(file|link)\".{0,40}\\}\n") {
            let _ = (parse(&bytes), parse(text.as_bytes()));
        }
    }
}
