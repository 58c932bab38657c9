//! Reads the files of a [`Source`](crate::backup::source::Source) by several threads, each of which writes packs of its own.
//!
//! A unit of work is what one leaf tells of: up to 64 MiB of a file. In memory are, for each thread, a block that is read, a frame, and
//! what waits for the store.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::runtime::Handle;

use crate::backup::page_reader::{PageReader, SuspiciousPage};
use crate::backup::parent::{KnownChunks, Parent};
use crate::backup::source::SourceFile;
use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::repo::contents::Contents;
use crate::repo::entry::FileEntry;
use crate::repo::identity::HashKey;
use crate::repo::leaf::{LEAF_CHUNKS, Leaf, Stretch};
use crate::repo::names::{PackName, Place, RunName};
use crate::repo::pack_builder::Owner;
use crate::repo::pack_writer::PackWriter;
use crate::repo::repository::Repository;
use crate::repo::trailer::CHUNK_BYTES;

/// How much is read at once.
const BLOCK_BYTES: usize = 256 * 1024;
/// How much of a file a leaf tells of.
const LEAF_BYTES: u64 = LEAF_CHUNKS as u64 * CHUNK_BYTES as u64;

/// What one thread writes to.
#[derive(Debug)]
pub struct Writers {
    /// Chunks.
    pub chunks: PackWriter,
    /// Leaves.
    pub maps: PackWriter,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFile {
    /// It is in the repository.
    Read(FileEntry),
    /// It was gone before it was read, as recovery will have it.
    Vanished,
}

/// A unit of work.
#[derive(Debug, Clone, Copy)]
struct Unit {
    file: usize,
    leaf: u64,
}

/// What became of a unit.
#[derive(Debug, Clone, Copy)]
enum ReadUnit {
    /// So many bytes, and the leaf, where there were any.
    Read(u64, Option<Place>),
    Vanished,
}

/// What reading found.
#[derive(Debug, Default)]
pub struct Reading {
    /// What became of each file, in their order.
    pub files: Vec<ReadFile>,
    /// Pages that were wrong whenever they were read: which file, which page.
    pub suspicious: Vec<(usize, SuspiciousPage)>,
    /// The packs of the parent that are needed still.
    pub needed: HashSet<PackName>,
}

/// What all threads share.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// Where the packs go, and where the parent's are.
    pub repository: &'a Repository,
    /// What is compared with.
    pub parent: Option<&'a Parent>,
    /// The name of the backup in the making.
    pub run: RunName,
    /// Counts bytes as they are read.
    pub done: &'a AtomicU64,
}

/// What one thread has.
struct Reader<'a> {
    shared: Shared<'a>,
    data_directory: &'a Path,
    key: &'a HashKey,
    writers: Writers,
    /// What the parent holds, as far as this thread looked.
    known: Contents<'a>,
    runtime: &'a Handle,
    buffer: Vec<u8>,
    suspicious: Vec<SuspiciousPage>,
    needed: HashSet<PackName>,
}

/// Reads all files, opened as the owner of `data_directory`, by as many threads as there are writers. Blocking, and within a runtime.
///
/// # Errors
/// [`Error::File`] when a file cannot be read; as [`PackWriter::add`]; what the store says of the parent.
pub fn read(files: &[SourceFile], data_directory: &Path, shared: Shared<'_>, writers: Vec<Writers>) -> Result<Reading> {
    let units: Vec<Unit> = files
        .iter()
        .enumerate()
        .flat_map(|(file, source)| (0..source.size.div_ceil(LEAF_BYTES).max(1)).map(move |leaf| Unit { file, leaf }))
        .collect();
    let (next, failed, runtime) = (AtomicUsize::new(0), AtomicBool::new(false), Handle::current());
    let results = Mutex::new((BTreeMap::new(), Reading::default()));
    let work = |writers: Writers| -> Result<()> {
        let known = Contents::new(shared.repository);
        let (key, buffer) = (shared.repository.hash_key(), vec![0; BLOCK_BYTES]);
        let (suspicious, needed) = (Vec::new(), HashSet::new());
        let mut reader = Reader { shared, data_directory, key, writers, known, runtime: &runtime, buffer, suspicious, needed };
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(unit) = units.get(at) else { break };
            let read = reader.read_unit(&files[unit.file], unit.leaf)?;
            let mut results = results.lock().expect("no code panics while it holds the results");
            results.0.insert(at, read);
            results.1.suspicious.extend(reader.suspicious.drain(..).map(|page| (unit.file, page)));
        }
        results.lock().expect("no code panics while it holds the results").1.needed.extend(reader.needed);
        reader.writers.chunks.finish()?;
        reader.writers.maps.finish()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .map(|writers| {
                let (work, failed) = (&work, &failed);
                scope.spawn(move || {
                    let result = work(writers);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // All of them are waited for, and the first that failed says why.
        results.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
    })?;
    let (read, reading) = results.into_inner().expect("no code panics while it holds the results");
    let mut by_file: Vec<Vec<ReadUnit>> = files.iter().map(|_| Vec::new()).collect();
    for (at, unit) in read {
        by_file[units[at].file].push(unit);
    }
    let files = files.iter().zip(by_file).map(|(source, units)| whole(source, &units, shared.run)).collect();
    Ok(Reading { files, ..reading })
}

/// The file that its units make. It ends where the first of them ended early: what was cut off meanwhile, recovery cuts off.
fn whole(source: &SourceFile, units: &[ReadUnit], run: RunName) -> ReadFile {
    let (mut size, mut leaves) = (0, Vec::new());
    for unit in units {
        let ReadUnit::Read(bytes, leaf) = *unit else { return ReadFile::Vanished };
        size += bytes;
        leaves.extend(leaf);
        if bytes < LEAF_BYTES {
            break;
        }
    }
    ReadFile::Read(FileEntry { mode: source.mode, size, leaves, stamp: source.stamp, read_fully: run })
}

impl Reader<'_> {
    fn read_unit(&mut self, source: &SourceFile, leaf: u64) -> Result<ReadUnit> {
        // Opening is what takes the owner's rights. All else stays ours: a thread that the runtime makes for us would inherit them.
        let opened = on_behalf::as_owner(self.data_directory, || match File::open(&source.location) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &source.location, error)),
        });
        let Some(file) = opened? else { return Ok(ReadUnit::Vanished) };
        let mut known = self.known_chunks(source, leaf)?;
        let pages = PageReader::new(&file, source.first_block);
        let start = leaf * LEAF_BYTES;
        let end = source.size.min(start + LEAF_BYTES);
        let (mut at, mut map) = (start, Leaf::default());
        let mut buffer = std::mem::take(&mut self.buffer);
        while at < end {
            let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let read = pages.read(at, &mut buffer[..wanted], &mut self.suspicious);
            let read = read.map_err(|error| Error::file("read", &source.location, error))?;
            for (nth, chunk) in buffer[..read].chunks(CHUNK_BYTES as usize).enumerate() {
                let number = at / u64::from(CHUNK_BYTES) + nth as u64;
                let place = self.chunk(source, number, chunk, known.as_mut())?;
                map.push(Stretch { chunks: 1, place });
            }
            at += read as u64;
            self.shared.done.fetch_add(read as u64, Ordering::Relaxed);
            if read < wanted {
                break;
            }
        }
        self.buffer = buffer;
        if map.chunks() == 0 {
            return Ok(ReadUnit::Read(0, None));
        }
        Ok(ReadUnit::Read(at - start, Some(self.map(&map, known.as_ref())?)))
    }

    /// What the parent has of this stretch of a file.
    fn known_chunks(&mut self, source: &SourceFile, leaf: u64) -> Result<Option<KnownChunks>> {
        let file = self.shared.parent.and_then(|parent| parent.file(&source.path));
        let place = file.and_then(|file| file.leaves.get(usize::try_from(leaf).ok()?));
        match place {
            Some(place) => self.runtime.block_on(KnownChunks::read(&mut self.known, *place)),
            None => Ok(None),
        }
    }

    /// Where a chunk lies: nowhere if it is all zero, where the parent has it if it is the same, else among what is new.
    fn chunk(&mut self, source: &SourceFile, number: u64, chunk: &[u8], known: Option<&mut KnownChunks>) -> Result<Option<Place>> {
        if chunk.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let id = self.key.identify(chunk);
        if let Some(known) = known {
            let within = (number % u64::from(LEAF_CHUNKS)) as usize;
            if let Some(place) = self.runtime.block_on(known.same(&mut self.known, within, id))? {
                self.needed.insert(place.pack);
                return Ok(Some(place));
            }
        }
        self.writers.chunks.add(chunk, id, Some(Owner { path: source.path.as_bytes(), chunk: number })).map(Some)
    }

    /// Where the leaf lies: where the parent has it, if nothing changed.
    fn map(&mut self, map: &Leaf, known: Option<&KnownChunks>) -> Result<Place> {
        if let Some(known) = known.filter(|known| known.leaf == *map) {
            self.needed.insert(known.place.pack);
            return Ok(known.place);
        }
        let bytes = map.encode();
        self.writers.maps.add(&bytes, self.key.identify(&bytes), None)
    }
}
