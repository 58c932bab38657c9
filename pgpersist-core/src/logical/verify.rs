//! Whether dumps are whole: quickly, by their size and ends, or fully, by reading every byte.
//!
//! A full verification compares the SHA-256 with the side file, unpacks every gzip member to its end, which checks their
//! CRC-32, reads the SQL up to pg_dump's last line, and compares the rows of each table. An encrypted dump is decrypted for that,
//! and must say that it belongs where it lies; without a key its bytes are compared, and what is in them stays unknown. In
//! memory are at most three ranges of 4 MiB and those that are read ahead, as many as the store has on their way at once.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::encryption::header;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::copy_scan::{CopyScan, Scanned};
use crate::logical::opening::Opening;
use crate::logical::sealed;
use crate::logical::shelf::{DumpEntry, DumpState};
use crate::logical::side_file::SideFile;
use crate::progress::{Event, ProgressSink};
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

/// How much is read at a time: 4 MiB.
const RANGE: u64 = 4 << 20;
/// How many ranges may wait for the one that unpacks.
const WAITING: usize = 2;
/// The smallest gzip member: a header of 10 bytes, an empty block of 2, a trailer of 8.
const SMALLEST_GZIP: u64 = 20;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Existence, size, first and last bytes: milliseconds. Without a side file a dump that was cut off passes.
    Quick,
    /// Everything.
    Full,
}

/// A dump to be verified, and what is known about it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its path in the store.
    pub name: ObjectKey,
    /// What it must be like, where that is known.
    pub side_file: Option<SideFile>,
    /// What is wrong with it already.
    pub damage: Option<String>,
    /// What opens it, where it is encrypted: see [`Shelf::open_subjects`](crate::logical::shelf::Shelf::open_subjects).
    pub opening: Opening,
}

impl Subject {
    /// A dump of which nothing is known, such as one of roles.
    pub fn new(name: ObjectKey) -> Self {
        Self { name, side_file: None, damage: None, opening: Opening::default() }
    }
}

impl From<&DumpEntry> for Subject {
    fn from(entry: &DumpEntry) -> Self {
        let damage = if let DumpState::Damaged { reason } = &entry.state { Some(reason.clone()) } else { None };
        Self { name: entry.name.clone(), side_file: entry.side_file.clone(), damage, opening: Opening::default() }
    }
}

/// What was found. As JSON it is what `verify` reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// How many dumps were looked at.
    pub objects: u64,
    /// Their sizes together, as they lie in the store.
    pub bytes: u64,
    /// Those that are not what was written.
    pub damaged: Vec<DamagedDump>,
    /// Those of which nobody knows, since they could not be read.
    pub unreadable: Vec<UnreadableDump>,
    /// Those that are encrypted and that no key at hand opens: their bytes were compared where a side file tells them, and nobody looked
    /// into them.
    pub unopened: Vec<ObjectKey>,
}

/// A dump that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadableDump {
    /// Its path in the store.
    pub name: ObjectKey,
    /// What the store said.
    pub reason: String,
    /// What that means.
    #[serde(serialize_with = "kind_word")]
    pub kind: ErrorKind,
    /// The store that it lies in, where several were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

fn kind_word<S: serde::Serializer>(kind: &ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// A dump that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedDump {
    /// Its path in the store.
    pub name: ObjectKey,
    /// What is wrong, and where that is known, where.
    pub reason: String,
    /// The store that it lies in, where several were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The stores that have the same dump and were found to have it whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub whole_in: Vec<String>,
}

impl VerifyReport {
    /// Adds what was found in another store.
    pub(super) fn take(&mut self, other: Self, store: Option<String>) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.unopened.extend(other.unopened);
        self.damaged.extend(other.damaged.into_iter().map(|damaged| DamagedDump { store: store.clone(), ..damaged }));
        self.unreadable.extend(other.unreadable.into_iter().map(|unread| UnreadableDump { store: store.clone(), ..unread }));
    }
}

/// Looks at each of the dumps. Damage is a finding, not an error, and so is a dump that cannot be read: the others are looked
/// at all the same.
///
/// # Errors
/// [`Error::Bug`].
pub async fn verify(store: &dyn BackupStore, subjects: &[Subject], depth: Depth, progress: &dyn ProgressSink) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    for subject in subjects {
        progress.event(Event::Step(format!("verifying {}", subject.name)));
        report.objects += 1;
        let found = match look(store, subject, depth, progress, &mut report.bytes).await {
            Ok(looked) => subject.damage.clone().map_or(Ok(looked), |damage| Err(Fault::Damaged(damage))),
            fault => fault,
        };
        match found {
            Ok(Looked::Whole) => {}
            Ok(Looked::Sealed) => report.unopened.push(subject.name.clone()),
            Err(Fault::Damaged(reason)) => report.damaged.push(damaged(subject, reason)),
            Err(Fault::Failed(error)) if error.kind() == ErrorKind::Bug => return Err(error),
            Err(Fault::Failed(error)) => {
                let unreadable = UnreadableDump { name: subject.name.clone(), reason: told(&error), kind: error.kind(), store: None };
                report.unreadable.push(unreadable);
            }
        }
    }
    Ok(report)
}

fn damaged(subject: &Subject, reason: String) -> DamagedDump {
    DamagedDump { name: subject.name.clone(), reason, store: None, whole_in: Vec::new() }
}

/// How far a dump was looked at that is not damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// As far as was asked for.
    Whole,
    /// From outside.
    Sealed,
}

/// Why a verification ended: the dump, or the way to it.
enum Fault {
    Damaged(String),
    Failed(Error),
}

/// An error with its causes, on one line.
pub(super) fn told(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Damaged("it is not in the store".to_owned()),
            ErrorKind::Damaged => Self::Damaged(told(&error)),
            _ => Self::Failed(error),
        }
    }
}

async fn look(
    store: &dyn BackupStore,
    subject: &Subject,
    depth: Depth,
    progress: &dyn ProgressSink,
    bytes: &mut u64,
) -> Result<Looked, Fault> {
    let size = store.head(&subject.name).await?.size_bytes;
    *bytes += size;
    if let Some(side_file) = subject.side_file.as_ref().filter(|side_file| side_file.size_bytes != size) {
        return Err(Fault::Damaged(format!("it has {size} bytes, and its side file tells {}", side_file.size_bytes)));
    }
    if size < SMALLEST_GZIP {
        return Err(Fault::Damaged(format!("it has {size} bytes, which is too short for gzip")));
    }
    match depth {
        Depth::Quick => ends(store, subject, size).await.map(|()| Looked::Whole),
        Depth::Full => whole(store, subject, size, progress).await,
    }
}

/// The first bytes and the last ones; see RFC 1952.
async fn ends(store: &dyn BackupStore, subject: &Subject, size: u64) -> Result<(), Fault> {
    if sealed::is_encrypted(subject.name.as_str(), &[]) {
        let start = store.get_range(&subject.name, 0..header::FIRST_LINE.len() as u64).await?;
        return if start == header::FIRST_LINE {
            Ok(())
        } else {
            Err(Fault::Damaged("it is not encrypted, though its name says so".to_owned()))
        };
    }
    let header = store.get_range(&subject.name, 0..10).await?;
    if !header.starts_with(&[0x1f, 0x8b, 8]) || header.get(3).is_none_or(|flags| flags & 0xe0 != 0) {
        return Err(Fault::Damaged("it does not begin like gzip".to_owned()));
    }
    let mut last = store.get_range(&subject.name, size - 4..size).await?;
    if last.len() != 4 {
        return Err(Fault::Damaged("it became shorter while it was looked at".to_owned()));
    }
    // The size of the last member's text, modulo 2^32: it cannot be more than the whole text has.
    let member = u64::from(last.get_u32_le());
    match &subject.side_file {
        Some(side_file) if member > side_file.uncompressed_bytes => {
            Err(Fault::Damaged("it does not end like gzip of that length".to_owned()))
        }
        _ => Ok(()),
    }
}

/// What reading the whole dump told.
struct Content {
    sha256: String,
    uncompressed_bytes: u64,
    text: Text,
}

/// What is in it.
enum Text {
    Read(Scanned),
    /// It could not be read to its end.
    Broken(String),
    /// No key opens it.
    Sealed,
}

async fn whole(store: &dyn BackupStore, subject: &Subject, size: u64, progress: &dyn ProgressSink) -> Result<Looked, Fault> {
    let (send, receive) = mpsc::channel::<Bytes>(WAITING);
    // A task of its own, so that unpacking goes on while this waits for the store. It ends with the channel.
    let (name, opening) = (subject.name.to_string(), subject.opening.clone());
    let ranges = Ranges { receive, current: Bytes::new(), hash: Sha256::new() };
    let reading = tokio::spawn(workers::run(move || Ok(read_all(ranges, &name, &opening))));
    let starts = (0..size).step_by(RANGE as usize);
    let mut ranges = stream::iter(starts)
        .map(|from| store.get_range(&subject.name, from..(from + RANGE).min(size)))
        .buffered(store.reads_at_once().max(1));
    let mut place = 0;
    while let Some(range) = ranges.try_next().await? {
        let expected = RANGE.min(size - place);
        if range.len() as u64 != expected {
            return Err(Fault::Damaged("it became shorter while it was read".to_owned()));
        }
        place += expected;
        if send.send(range).await.is_err() {
            // The reader reads to the end whatever it finds, so it has panicked, which is told below.
            break;
        }
        progress.event(Event::Bytes { done: place, total: Some(size) });
    }
    drop(send);
    let read = reading.await.map_err(|error| Error::Bug(format!("reading a dump failed: {error}")))??;
    judge(read, subject.side_file.as_ref()).map_err(Fault::Damaged)
}

fn judge(read: Content, side_file: Option<&SideFile>) -> Result<Looked, String> {
    // The hash first: when it is right, whatever else is wrong was so when the dump was written.
    let hash_is_wrong = side_file.is_some_and(|side_file| side_file.sha256 != read.sha256);
    let scanned = match read.text {
        Text::Read(scanned) => scanned,
        Text::Broken(error) if hash_is_wrong => {
            return Err(format!("its SHA-256 is not that of its side file, and it cannot be unpacked: {error}"));
        }
        Text::Broken(error) => return Err(format!("it cannot be unpacked: {error}")),
        Text::Sealed if hash_is_wrong => return Err("its SHA-256 is not that of its side file".to_owned()),
        Text::Sealed => return Ok(Looked::Sealed),
    };
    if hash_is_wrong {
        return Err("its SHA-256 is not that of its side file".to_owned());
    }
    if !scanned.has_trailer || scanned.is_cut_off {
        return Err("it ends before the last line of pg_dump".to_owned());
    }
    let Some(side_file) = side_file else { return Ok(Looked::Whole) };
    if side_file.uncompressed_bytes != read.uncompressed_bytes {
        return Err(format!("its text has {} bytes, and its side file tells {}", read.uncompressed_bytes, side_file.uncompressed_bytes));
    }
    for (table, rows) in &side_file.tables {
        let found = scanned.tables.get(table).copied().unwrap_or(0);
        if found != *rows {
            return Err(format!("it holds {found} rows of {table}, and its side file tells {rows}"));
        }
    }
    Ok(Looked::Whole)
}

fn read_all(mut ranges: Ranges, name: &str, opening: &Opening) -> Content {
    let (uncompressed_bytes, text) =
        if sealed::is_encrypted(name, &[]) { read_sealed(&mut ranges, name, opening) } else { read_gzip(&mut ranges) };
    Content { sha256: ranges.finish(), uncompressed_bytes, text }
}

fn read_sealed(ranges: &mut Ranges, name: &str, opening: &Opening) -> (u64, Text) {
    let mut content = match sealed::open(name, ranges, opening) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::Denied => return (0, Text::Sealed),
        Err(error) => return (0, Text::Broken(told(&error))),
    };
    let (uncompressed_bytes, text) = read_gzip(&mut content);
    match (text, sealed::finish(name, content)) {
        (Text::Read(_), Err(error)) => (uncompressed_bytes, Text::Broken(told(&error))),
        (text, _) => (uncompressed_bytes, text),
    }
}

fn read_gzip(source: &mut impl Read) -> (u64, Text) {
    let mut decoder = MultiGzDecoder::new(source);
    let mut scan = CopyScan::new();
    let mut uncompressed_bytes = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return (uncompressed_bytes, Text::Read(scan.finish())),
            Ok(length) => {
                uncompressed_bytes += length as u64;
                scan.feed(&buffer[..length]);
            }
            Err(error) => return (uncompressed_bytes, Text::Broken(format!("{error} after {uncompressed_bytes} bytes of text"))),
        }
    }
}

/// The ranges as they come, as one reader that hashes what passes.
struct Ranges {
    receive: mpsc::Receiver<Bytes>,
    current: Bytes,
    hash: Sha256,
}

impl Ranges {
    /// Whether there is more; takes the next range when the current one is used up.
    fn fill(&mut self) -> bool {
        while self.current.is_empty() {
            match self.receive.blocking_recv() {
                Some(range) => {
                    self.hash.update(&range);
                    self.current = range;
                }
                None => return false,
            }
        }
        true
    }

    /// Reads what the decoder left, and returns the SHA-256 of everything.
    fn finish(mut self) -> String {
        while self.fill() {
            self.current.clear();
        }
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Read for Ranges {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.fill() {
            return Ok(0);
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
