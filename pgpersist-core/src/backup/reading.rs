//! Reads the files of a [`Source`](crate::backup::source::Source) by several threads, each of which writes packs of its own.
//!
//! A unit of work is what one leaf tells of: up to 64 MiB of a file. In memory are, for each thread, a block that is read, a frame, and
//! what waits for the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::backup::page_reader::{PageReader, SuspiciousPage};
use crate::backup::source::SourceFile;
use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::repo::entry::FileEntry;
use crate::repo::identity::HashKey;
use crate::repo::leaf::{LEAF_CHUNKS, Leaf, Stretch};
use crate::repo::names::{Place, RunName};
use crate::repo::pack_builder::Owner;
use crate::repo::pack_writer::PackWriter;
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
}

/// Reads all files, as the owner of `data_directory`. `done` counts bytes as they are read. Blocking.
///
/// # Errors
/// [`Error::File`] when a file cannot be read; as [`PackWriter::add`].
pub fn read(
    files: &[SourceFile],
    data_directory: &Path,
    run: RunName,
    key: &HashKey,
    writers: Vec<Writers>,
    done: &AtomicU64,
) -> Result<Reading> {
    let units: Vec<Unit> = files
        .iter()
        .enumerate()
        .flat_map(|(file, source)| (0..source.size.div_ceil(LEAF_BYTES).max(1)).map(move |leaf| Unit { file, leaf }))
        .collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new((BTreeMap::new(), Vec::new()));
    let work = |mut writers: Writers| -> Result<()> {
        let mut buffer = vec![0; BLOCK_BYTES];
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(unit) = units.get(at) else { break };
            let mut suspicious = Vec::new();
            let read = read_unit(&files[unit.file], unit.leaf, key, &mut writers, &mut buffer, &mut suspicious, done)?;
            let mut results = results.lock().expect("no code panics while it holds the results");
            results.0.insert(at, read);
            results.1.extend(suspicious.into_iter().map(|page| (unit.file, page)));
        }
        writers.chunks.finish()?;
        writers.maps.finish()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .map(|writers| {
                let (work, failed) = (&work, &failed);
                scope.spawn(move || {
                    let result = on_behalf::as_owner(data_directory, || work(writers));
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // The first that failed says why; the others say that they were stopped.
        results.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
    })?;
    let (read, suspicious) = results.into_inner().expect("no code panics while it holds the results");
    let mut by_file: Vec<Vec<ReadUnit>> = files.iter().map(|_| Vec::new()).collect();
    for (at, unit) in read {
        by_file[units[at].file].push(unit);
    }
    let files = files.iter().zip(by_file).map(|(source, units)| whole(source, &units, run)).collect();
    Ok(Reading { files, suspicious })
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

#[expect(clippy::too_many_arguments, reason = "it is the inside of a loop, and each is a thing of its own")]
fn read_unit(
    source: &SourceFile,
    leaf: u64,
    key: &HashKey,
    writers: &mut Writers,
    buffer: &mut [u8],
    suspicious: &mut Vec<SuspiciousPage>,
    done: &AtomicU64,
) -> Result<ReadUnit> {
    let file = match File::open(&source.location) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ReadUnit::Vanished),
        Err(error) => return Err(Error::file("read", &source.location, error)),
    };
    let reader = PageReader::new(&file, source.first_block);
    let start = leaf * LEAF_BYTES;
    let end = source.size.min(start + LEAF_BYTES);
    let (mut at, mut map) = (start, Leaf::default());
    while at < end {
        let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        // Whole pages are read, so that a page at the end of a file that grew meanwhile is not half a page.
        let read = reader.read(at, &mut buffer[..wanted], suspicious).map_err(|error| Error::file("read", &source.location, error))?;
        for (nth, chunk) in buffer[..read].chunks(CHUNK_BYTES as usize).enumerate() {
            let number = at / u64::from(CHUNK_BYTES) + nth as u64;
            let place = if chunk.iter().all(|byte| *byte == 0) {
                None
            } else {
                let owner = Owner { path: source.path.as_bytes(), chunk: number };
                Some(writers.chunks.add(chunk, key.identify(chunk), Some(owner))?)
            };
            map.push(Stretch { chunks: 1, place });
        }
        at += read as u64;
        done.fetch_add(read as u64, Ordering::Relaxed);
        if read < wanted {
            break;
        }
    }
    if map.chunks() == 0 {
        return Ok(ReadUnit::Read(0, None));
    }
    let bytes = map.encode();
    let place = writers.maps.add(&bytes, key.identify(&bytes), None)?;
    Ok(ReadUnit::Read(at - start, Some(place)))
}
