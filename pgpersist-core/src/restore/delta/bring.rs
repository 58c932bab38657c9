//! Makes files what a backup says, in place: a chunk that is there already, by its identity, is neither fetched nor written.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::on_behalf::as_owner;
use crate::pg::control_file::CONTROL_FILE_PATH;
use crate::repo::contents::Contents;
use crate::repo::entry::{Entry, EntryKind, FileEntry};
use crate::repo::fault::Fault;
use crate::repo::identity::{HashKey, ItemId};
use crate::repo::leaf::Stretch;
use crate::repo::names::Place;
use crate::repo::repository::Repository;
use crate::repo::trailer::CHUNK_BYTES;
use crate::restore::crew::{self, Halt};
use crate::restore::tree::{self, Places};
use crate::workers;

/// How many chunks are compared at once: 1 MiB.
const AT_ONCE: u32 = 128;

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Only counts.
    Looking,
    /// Writes what differs.
    Writing,
}

/// What was as it should be, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Bytes that have been looked at.
    pub(crate) done: AtomicU64,
    pub(crate) kept_bytes: AtomicU64,
    /// Files of which nothing was written.
    pub(crate) kept_files: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
}

impl Tally {
    fn add(&self, bytes: u64, written: bool) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        let counted = if written { &self.written_bytes } else { &self.kept_bytes };
        counted.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Makes all files but `pg_control` what the backup says, so many at once; folders and links before them. What is not in the backup is gone already.
/// Nothing is durable when it returns.
///
/// # Errors
/// `Damaged` when something in the repository is not what was written; [`Error::File`]; what the store says.
pub(crate) async fn bring(
    repository: &Repository,
    entries: Arc<[Entry]>,
    places: &Places,
    at_once: usize,
    doing: Doing,
    tally: Arc<Tally>,
) -> Result<()> {
    if doing == Doing::Writing {
        let (made, below) = (Arc::clone(&entries), places.clone());
        workers::run(move || made.iter().try_for_each(|entry| folder(entry, &below))).await?;
    }
    let next = Arc::new(AtomicUsize::new(0));
    let halt = Halt::default();
    let writers = (0..at_once.max(1)).map(|_| {
        let (repository, entries, places) = (repository.clone(), Arc::clone(&entries), places.clone());
        let (next, tally, halt) = (Arc::clone(&next), Arc::clone(&tally), halt.clone());
        async move {
            let mut contents = Contents::new(&repository);
            loop {
                let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
                let EntryKind::File(file) = &entry.kind else { continue };
                if entry.path.as_bytes() == CONTROL_FILE_PATH.as_bytes() {
                    continue;
                }
                halt.pass()?;
                // Before the old log is set aside it is in the way of a look.
                let is_new = doing == Doing::Looking && entry.path.as_bytes().starts_with(b"pg_wal/");
                let mut one = One::open(places.of(&entry.path), file, doing, is_new, repository.hash_key().clone(), &tally).await?;
                one.bring(&mut contents, file, &halt).await?;
            }
        }
    });
    crew::work(writers, &halt).await
}

/// Makes a folder or a link where it is not, and sets its permissions.
fn folder(entry: &Entry, places: &Places) -> Result<()> {
    let path = places.of(&entry.path);
    match &entry.kind {
        EntryKind::File(_) => Ok(()),
        EntryKind::Link { .. } if path.symlink_metadata().is_ok() => Ok(()),
        EntryKind::Link { .. } => match tree::in_tablespace(&entry.path).and_then(|(oid, _)| places.location(oid)) {
            Some(location) => {
                as_owner(tree::above(&path), || symlink(location, &path).map_err(|error| Error::file("create the link", &path, error)))
            }
            None => Err(Error::damaged(
                format!("the backup has a link {}, and nothing tells what it stands for", path.display()),
                "choose another backup: see `pgpersist list`",
            )),
        },
        EntryKind::Directory { mode } => as_owner(tree::above(&path), || {
            let failed = |error| Error::file("create the folder", &path, error);
            if !path.is_dir() {
                fs::DirBuilder::new().mode(mode.bits()).create(&path).map_err(failed)?;
            }
            set_mode(&path, mode.bits())
        }),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let failed = |error| Error::file("set the permissions of", path, error);
    if fs::metadata(path).map_err(failed)?.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(failed)
}

/// What stood where a file is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    /// A file of the same length.
    There,
    /// One of another length.
    Otherwise,
    /// Nothing that could be used.
    Absent,
}

/// One file on its way.
struct One<'a> {
    path: PathBuf,
    /// Nothing where it is not there, and only looked for.
    file: Option<Arc<File>>,
    size: u64,
    was: Was,
    doing: Doing,
    key: HashKey,
    tally: &'a Tally,
}

impl<'a> One<'a> {
    async fn open(path: PathBuf, entry: &FileEntry, doing: Doing, is_new: bool, key: HashKey, tally: &'a Tally) -> Result<Self> {
        let (size, mode, at) = (entry.size, entry.mode.bits(), path.clone());
        let (file, was) = workers::run(move || open(&at, size, mode, doing, is_new)).await?;
        Ok(Self { path, file: file.map(Arc::new), size, was, doing, key, tally })
    }

    async fn bring(&mut self, contents: &mut Contents<'_>, entry: &FileEntry, halt: &Halt) -> Result<()> {
        let (mut chunk, mut changed) = (0_u64, self.was != Was::There);
        for leaf in &entry.leaves {
            let leaf = contents.leaf(*leaf).await?;
            for stretch in leaf.stretches() {
                for part in parts(*stretch) {
                    halt.pass()?;
                    changed |= self.part(contents, chunk, part).await?;
                    chunk += u64::from(part.chunks);
                }
            }
        }
        if chunk != entry.chunks() {
            return Err(self.wrong(Fault::CutOff));
        }
        self.tally.kept_files.fetch_add(u64::from(!changed), Ordering::Relaxed);
        Ok(())
    }

    /// Compares some chunks and writes those that differ. Tells whether any did.
    async fn part(&self, contents: &mut Contents<'_>, first: u64, part: Stretch) -> Result<bool> {
        let begin = first * u64::from(CHUNK_BYTES);
        let bytes = (u64::from(part.chunks) * u64::from(CHUNK_BYTES)).min(self.size.saturating_sub(begin));
        let here = self.identities(begin, bytes).await?;
        let wanted: Vec<Option<ItemId>> = match part.place {
            None => vec![None; part.chunks as usize],
            Some(place) => {
                let pack = contents.pack(place.pack).await?;
                let from = place.item as usize;
                let ids = pack.trailer.ids.get(from..from + part.chunks as usize);
                ids.ok_or_else(|| self.wrong(Fault::Reference { what: "an item" }))?.iter().copied().map(Some).collect()
            }
        };
        let (mut at, mut changed, mut run) = (begin, false, Vec::new());
        for (nth, (wanted, here)) in wanted.iter().zip(&here).enumerate() {
            let length = u64::from(CHUNK_BYTES).min(self.size.saturating_sub(at));
            let same = match wanted {
                Some(wanted) => here.identity == Some(*wanted),
                None => here.is_zero,
            };
            self.tally.add(length, !same);
            if same || self.doing == Doing::Looking {
                changed |= !same;
                self.write(at, std::mem::take(&mut run)).await?;
                at += length;
                continue;
            }
            match part.place {
                None => run.resize(run.len() + length as usize, 0),
                Some(place) => {
                    let chunk = contents.item(Place { item: place.item + nth as u32, ..place }).await?;
                    // All chunks are whole but the last one of the file.
                    if chunk.len() as u64 != length {
                        return Err(self.wrong(Fault::CutOff));
                    }
                    run.extend_from_slice(&chunk);
                }
            }
            changed = true;
            at += length;
        }
        self.write(at, run).await?;
        Ok(changed)
    }

    /// What stands there now, chunk by chunk.
    async fn identities(&self, at: u64, bytes: u64) -> Result<Vec<Here>> {
        let chunks = bytes.div_ceil(CHUNK_BYTES.into()) as usize;
        // In a new file there are holes alone.
        let Some(file) = self.file.clone().filter(|_| self.was != Was::Absent) else {
            return Ok(vec![Here { identity: None, is_zero: true }; chunks]);
        };
        let (path, key) = (self.path.clone(), self.key.clone());
        workers::run(move || {
            let mut buffer = vec![0; bytes as usize];
            let read = read_up_to(&file, &mut buffer, at).map_err(|error| Error::file("read", &path, error))?;
            let here = |(nth, chunk): (usize, &[u8])| {
                let whole = nth * CHUNK_BYTES as usize + chunk.len() <= read;
                // Behind its end a file is as good as a hole.
                Here { identity: whole.then(|| key.identify(chunk)), is_zero: chunk.iter().all(|byte| *byte == 0) }
            };
            Ok(buffer.chunks(CHUNK_BYTES as usize).enumerate().map(here).collect())
        })
        .await
    }

    /// Writes what ends at `end`.
    async fn write(&self, end: u64, bytes: Vec<u8>) -> Result<()> {
        let (Some(file), false) = (self.file.clone(), bytes.is_empty()) else { return Ok(()) };
        let path = self.path.clone();
        workers::run(move || file.write_all_at(&bytes, end - bytes.len() as u64).map_err(|error| Error::file("write", &path, error))).await
    }

    fn wrong(&self, fault: Fault) -> Error {
        Error::damaged(format!("{} cannot be restored: {fault}", self.path.display()), "choose another backup: see `pgpersist list`")
    }
}

/// A chunk as it stands.
#[derive(Debug, Clone, Copy)]
struct Here {
    identity: Option<ItemId>,
    is_zero: bool,
}

fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// A stretch in pieces that are compared at once.
fn parts(stretch: Stretch) -> impl Iterator<Item = Stretch> {
    (0..stretch.chunks).step_by(AT_ONCE as usize).map(move |from| Stretch {
        chunks: AT_ONCE.min(stretch.chunks - from),
        place: stretch.place.map(|place| Place { item: place.item + from, ..place }),
    })
}

/// Opens what is there, or makes it where it is to be written.
fn open(path: &Path, size: u64, mode: u32, doing: Doing, is_new: bool) -> Result<(Option<File>, Was)> {
    let found = if is_new { None } else { fs::symlink_metadata(path).ok() };
    // Who shares a file's bytes under another name, as a copy made of links does, keeps them as they are.
    let usable = found.as_ref().is_some_and(|found| found.is_file() && (doing == Doing::Looking || found.nlink() == 1));
    if !usable {
        if doing == Doing::Looking {
            return Ok((None, Was::Absent));
        }
        if found.is_some() {
            durable::remove_tree(path)?;
        }
        return tree::create(path, mode, size).map(|file| (Some(file), Was::Absent));
    }
    as_owner(tree::above(path), || {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let opened = OpenOptions::new().read(true).write(doing == Doing::Writing).custom_flags(flags).open(path);
        let file = opened.map_err(|error| Error::file("open", path, error))?;
        let length = file.metadata().map_err(|error| Error::file("look at", path, error))?.len();
        if doing == Doing::Writing {
            if length != size {
                file.set_len(size).map_err(|error| Error::file("set the length of", path, error))?;
            }
            set_mode(path, mode)?;
        }
        Ok((Some(file), if length == size { Was::There } else { Was::Otherwise }))
    })
}
