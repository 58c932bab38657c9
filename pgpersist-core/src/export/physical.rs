//! [`export`]: a backup as a plain directory or one tar: all files, the log that makes them consistent, label and map, and a manifest.
//!
//! Tablespaces stand in place, as folders of `pg_tblspc`: what is exported hangs together by itself. `tablespace_map` tells where they lay; a server that
//! starts on it makes links to there, so whoever wants to start it moves each of them first. To start a cluster, restore it.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::export::archive::{Archive, Output};
use crate::export::carry::{self, Next, PIECE_BYTES, QUEUE};
use crate::export::folder::{self, Folder};
use crate::export::sink::{NextFile, Sink};
use crate::fs::durable::NewFile;
use crate::fs::space::Space;
use crate::pg::backup_manifest::{BACKUP_MANIFEST, BackupManifest, ManifestFile, ManifestWal};
use crate::progress::{Event, ProgressSink};
use crate::repo::contents::Contents;
use crate::repo::entry::{Entry, EntryKind, EntryPath, FileEntry};
use crate::repo::fault::Fault;
use crate::repo::manifest::Manifest;
use crate::repo::names::{Place, RunName};
use crate::repo::repository::Repository;
use crate::repo::trailer::CHUNK_BYTES;
use crate::workers;

/// What the folder of a tablespace may be used by: as PostgreSQL makes it.
const TABLESPACE_MODE: u32 = 0o700;
/// What label, map and manifest may be used by.
const FILE_MODE: u32 = 0o600;

/// Where an export goes.
pub enum Destination {
    /// A directory, absent or empty.
    Directory(PathBuf),
    /// A file of tar, which is not there yet.
    Archive(PathBuf),
    /// Somebody who reads tar.
    Stream(Box<dyn Write + Send>),
}

impl fmt::Debug for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => formatter.debug_tuple("Directory").field(path).finish(),
            Self::Archive(path) => formatter.debug_tuple("Archive").field(path).finish(),
            Self::Stream(_) => formatter.write_str("Stream"),
        }
    }
}

impl Destination {
    /// Where it is, if it has a place.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) | Self::Archive(path) => Some(path),
            Self::Stream(_) => None,
        }
    }

    /// Whether something stands in the way. Looks only; blocking.
    ///
    /// # Errors
    /// `Unsafe` when there is something; [`Error::File`].
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Directory(path) => folder::refuse_occupied(path),
            Self::Archive(path) if path.symlink_metadata().is_ok() => {
                Err(Error::refused(format!("{} is there already", path.display()), "name another file, or remove this one"))
            }
            Self::Archive(_) | Self::Stream(_) => Ok(()),
        }
    }

    /// `bytes` is what all files come to.
    fn open(self, bytes: u64) -> Result<Box<dyn Sink>> {
        self.check()?;
        if let Some(path) = self.path() {
            let free = Space::of(path)?.free_bytes;
            if free < bytes {
                return Err(Error::unavailable(
                    format!("the export takes {bytes} bytes, and {} has {free} free", path.display()),
                    "export to a larger disk, or stream it: `--tar -`",
                ));
            }
        }
        let sink: Box<dyn Sink> = match self {
            Self::Directory(path) => Box::new(Folder::at(&path)?),
            Self::Archive(path) => Box::new(Archive::to(Output::File(NewFile::create(&path, FILE_MODE)?), path)),
            Self::Stream(stream) => Box::new(Archive::to(Output::Stream(stream), PathBuf::from("the stream"))),
        };
        Ok(sink)
    }
}

/// What an export came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportReport {
    /// The backup.
    pub name: String,
    /// Where it is now; nothing where it went to somebody who read it.
    pub path: Option<PathBuf>,
    /// The length of all files of the backup.
    pub bytes: u64,
    /// How many, those that the export adds among them.
    pub files: u64,
    /// How long it took.
    pub duration_s: f64,
}

/// Exports a backup. A directory or a file appears when all of it is there, and durable.
///
/// # Errors
/// `NotFound` when there is no such backup; `Unsafe` when something stands at the destination; `Damaged` when something in the repository is
/// not what was written; `Unavailable` when there is no room; [`Error::File`]; what the store says.
pub async fn export(
    repository: &Repository,
    backup: RunName,
    destination: Destination,
    progress: &dyn ProgressSink,
) -> Result<ExportReport> {
    let began = Instant::now();
    let manifest = repository.manifest(backup).await.map_err(|error| missing(backup, error))?;
    // Who has public keys only reads names, and no file.
    repository.require_data(backup).await?;
    let path = destination.path().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let bytes = manifest.sizes.bytes;
    let mut sink = workers::run(move || destination.open(bytes)).await?;
    progress.event(Event::Step(format!("exporting {backup}")));
    let (queue, coming) = mpsc::channel(QUEUE);
    let told = manifest.clone();
    let writing = workers::run(move || {
        let files = carry::carry(coming, sink.as_mut())?;
        let count = files.len() as u64 + 1;
        write_manifest(&told, files, sink.as_mut())?;
        sink.finish()?;
        Ok(count)
    });
    let reading = async {
        // The queue ends with this: whoever writes then knows that nothing comes any more.
        let mut reading = Reading { contents: Contents::new(repository), queue, progress, done: 0, total: bytes };
        reading.all(&manifest).await
    };
    let (read, written) = tokio::join!(reading, writing);
    let files = match (read, written) {
        (Ok(()), written) => written?,
        // The reader only knows that nobody takes any more, and the writer that nothing comes.
        (Err(Error::Cancelled { .. }), Err(error)) | (Err(error), _) => return Err(error),
    };
    Ok(ExportReport { name: backup.to_string(), path, bytes, files, duration_s: began.elapsed().as_secs_f64() })
}

fn missing(backup: RunName, error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::not_found(format!("there is no backup {backup}"), "see `pgpersist list` for those that there are")
    } else {
        error
    }
}

fn write_manifest(manifest: &Manifest, files: Vec<ManifestFile>, sink: &mut dyn Sink) -> Result<()> {
    let strange = || Error::damaged(format!("the manifest of {} has positions that are none", manifest.backup), "choose another backup");
    let wal = ManifestWal {
        timeline: manifest.wal.timeline,
        start: manifest.wal.start_lsn.parse().map_err(|_| strange())?,
        end: manifest.wal.stop_lsn.parse().map_err(|_| strange())?,
    };
    let system_identifier = manifest.cluster.system_identifier.parse().map_err(|_| strange())?;
    let text = BackupManifest { major: manifest.cluster.major, system_identifier, files, wal }.text();
    sink.begin(&added(BACKUP_MANIFEST, text.len() as u64, manifest.stopped_at)?)?;
    sink.write(text.as_bytes())?;
    sink.end()
}

/// A file that is in no list of entries.
fn added(name: &str, size: u64, modified_at: OffsetDateTime) -> Result<NextFile> {
    let path = EntryPath::new(name.as_bytes()).map_err(|fault| Error::Bug(format!("{name} is no path: {fault}")))?;
    Ok(NextFile { path, mode: FILE_MODE, size, modified_at })
}

/// A backup that is read from beginning to end.
struct Reading<'a> {
    contents: Contents<'a>,
    queue: mpsc::Sender<Next>,
    progress: &'a dyn ProgressSink,
    done: u64,
    total: u64,
}

impl Reading<'_> {
    async fn all(&mut self, manifest: &Manifest) -> Result<()> {
        for entry in self.contents.all_entries(manifest).await? {
            let Entry { path, kind } = entry;
            match kind {
                EntryKind::Directory { mode } => self.send(Next::Folder(path, mode.bits())).await?,
                EntryKind::Link { target } => {
                    if !path.as_bytes().starts_with(b"pg_tblspc/") {
                        let shown = String::from_utf8_lossy(path.as_bytes()).into_owned();
                        return Err(Error::refused(
                            format!("{shown} is a link to {target}, and no tablespace"),
                            "restore the backup with a pgpersist that knows what it is",
                        ));
                    }
                    self.send(Next::Folder(path, TABLESPACE_MODE)).await?;
                }
                EntryKind::File(file) => self.file(path, &file).await?,
            }
            self.progress.event(Event::Bytes { done: self.done, total: Some(self.total) });
        }
        self.text("backup_label", &manifest.backup_label, manifest.stopped_at).await?;
        if let Some(map) = &manifest.tablespace_map {
            self.text("tablespace_map", map, manifest.stopped_at).await?;
        }
        self.send(Next::End).await
    }

    async fn send(&self, next: Next) -> Result<()> {
        self.queue.send(next).await.map_err(|_| Error::Cancelled { what: "exporting a backup".to_owned() })
    }

    async fn text(&self, name: &str, text: &str, modified_at: OffsetDateTime) -> Result<()> {
        self.send(Next::File(added(name, text.len() as u64, modified_at)?)).await?;
        self.send(Next::Bytes(Bytes::copy_from_slice(text.as_bytes()))).await
    }

    async fn file(&mut self, path: EntryPath, file: &FileEntry) -> Result<()> {
        let wrong = |fault: Fault| {
            let shown = String::from_utf8_lossy(path.as_bytes()).into_owned();
            Error::damaged(format!("{shown} cannot be exported: {fault}"), "choose another backup: see `pgpersist list`")
        };
        let modified_at = OffsetDateTime::from_unix_timestamp_nanos(file.stamp.modified_ns.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        self.send(Next::File(NextFile { path: path.clone(), mode: file.mode.bits(), size: file.size, modified_at })).await?;
        let (mut left, mut piece) = (file.size, BytesMut::with_capacity(PIECE_BYTES.min(file.size as usize)));
        for leaf in &file.leaves {
            let leaf = self.contents.leaf(*leaf).await?;
            for stretch in leaf.stretches() {
                let Some(first) = stretch.place else {
                    let zeros = left.min(u64::from(stretch.chunks) * u64::from(CHUNK_BYTES));
                    self.hand_on(&mut piece).await?;
                    self.send(Next::Zeros(zeros)).await?;
                    (left, self.done) = (left - zeros, self.done + zeros);
                    continue;
                };
                for nth in 0..stretch.chunks {
                    let chunk = self.contents.item(Place { item: first.item + nth, ..first }).await?;
                    // All chunks are whole but the last one of the file.
                    if chunk.is_empty() || chunk.len() as u64 != left.min(CHUNK_BYTES.into()) {
                        return Err(wrong(Fault::CutOff));
                    }
                    piece.extend_from_slice(&chunk);
                    (left, self.done) = (left - chunk.len() as u64, self.done + chunk.len() as u64);
                    if piece.len() >= PIECE_BYTES {
                        self.hand_on(&mut piece).await?;
                    }
                }
            }
        }
        if left > 0 {
            return Err(wrong(Fault::CutOff));
        }
        self.hand_on(&mut piece).await
    }

    /// Sends what was gathered.
    async fn hand_on(&self, piece: &mut BytesMut) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(piece, BytesMut::with_capacity(PIECE_BYTES));
        self.send(Next::Bytes(full.freeze())).await
    }
}
