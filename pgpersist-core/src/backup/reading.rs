//! Reads the files of a [`Source`](crate::backup::source::Source) by several threads, each of which writes packs of its own.
//!
//! A unit of work is what one leaf tells of: up to 64 MiB of a file. In memory are, for each thread, a block that is read, a frame, and
//! what waits for the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::runtime::Handle;

use crate::backup::compaction::Compaction;
use crate::backup::pace::Pace;
use crate::backup::page_reader::{PageReader, SuspiciousPage};
use crate::backup::parent::{self, KnownChunks, Parent};
use crate::backup::source::SourceFile;
use crate::backup::summarized::{Changes, Summarized};
use crate::backup::unchanged::Unchanged;
use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::repo::contents::Contents;
use crate::repo::effort::{Effort, Work};
use crate::repo::entry::FileEntry;
use crate::repo::identity::{HashKey, ItemId};
use crate::repo::leaf::{LEAF_CHUNKS, Leaf, Stretch};
use crate::repo::names::{PackName, Place, RunName};
use crate::repo::pack_builder::Owner;
use crate::repo::pack_reader::glance_at;
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
    /// The same, taken over from the parent unread.
    Kept(u64, Option<Place>),
    Vanished,
}

/// What reading found.
#[derive(Debug, Default)]
pub struct Reading {
    /// What became of each file, in their order.
    pub files: Vec<ReadFile>,
    /// Pages that were wrong whenever they were read: which file, which page.
    pub suspicious: Vec<(usize, SuspiciousPage)>,
    /// The packs that are needed, and how much of them.
    pub used: HashMap<PackName, u64>,
}

/// What all threads share.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// Where the packs go, and where the parent's are.
    pub repository: &'a Repository,
    /// What is compared with.
    pub parent: Option<&'a Parent>,
    /// Which files the parent has as they are; without it, all are read.
    pub unchanged: Option<&'a Unchanged>,
    /// What changed in relations since the parent, where something tells; without it, they are read.
    pub summarized: Option<&'a Summarized>,
    /// What is stored anew although the parent has it.
    pub compaction: &'a Compaction,
    /// The name of the backup in the making.
    pub run: RunName,
    /// How fast, and whether at all any more.
    pub pace: &'a Pace,
    /// What the time is spent on.
    pub effort: &'a Effort,
    /// Counts bytes as they are read, and those that need not be.
    pub done: &'a AtomicU64,
    /// Counts those that need not be.
    pub unread: &'a AtomicU64,
}

impl<'a> Shared<'a> {
    /// What the parent says of a file that has not changed since.
    fn unchanged(&self, source: &SourceFile) -> Option<&'a FileEntry> {
        let before = self.parent?.file(&source.path)?;
        self.unchanged?.is(source, before).then_some(before)
    }

    /// Which pages of a file differ from what the parent has.
    fn changes(&self, source: &SourceFile) -> Option<Changes<'a>> {
        let before = self.parent?.file(&source.path)?;
        self.summarized?.changes(source, before).filter(|_| self.unchanged.is_some_and(|unchanged| unchanged.need_not_read(source, before)))
    }
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
    ids: Vec<Option<ItemId>>,
    suspicious: Vec<SuspiciousPage>,
    used: HashMap<PackName, u64>,
    /// Packs of the parent that were seen in the store.
    seen: HashSet<PackName>,
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
        let (suspicious, used, seen, ids) = (Vec::new(), HashMap::new(), HashSet::new(), Vec::new());
        let mut reader = Reader { shared, data_directory, key, writers, known, runtime: &runtime, buffer, ids, suspicious, used, seen };
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(unit) = units.get(at) else { break };
            let read = reader.read_unit(&files[unit.file], unit.leaf)?;
            let mut results = results.lock().expect("no code panics while it holds the results");
            results.0.insert(at, read);
            results.1.suspicious.extend(reader.suspicious.drain(..).map(|page| (unit.file, page)));
        }
        let mut results = results.lock().expect("no code panics while it holds the results");
        for (pack, bytes) in reader.used {
            *results.1.used.entry(pack).or_default() += bytes;
        }
        drop(results);
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
    let files = files.iter().zip(by_file).map(|(source, units)| whole(source, &units, shared)).collect();
    Ok(Reading { files, ..reading })
}

/// The file that its units make. It ends where the first of them ended early: what was cut off meanwhile, recovery cuts off.
fn whole(source: &SourceFile, units: &[ReadUnit], shared: Shared<'_>) -> ReadFile {
    let (mut size, mut leaves, mut read_fully) = (0, Vec::new(), shared.run);
    for unit in units {
        let (bytes, leaf) = match *unit {
            ReadUnit::Read(bytes, leaf) => (bytes, leaf),
            ReadUnit::Kept(bytes, leaf) => {
                let before = shared.parent.and_then(|parent| parent.file(&source.path));
                read_fully = before.map_or(read_fully, |before| before.read_fully);
                (bytes, leaf)
            }
            ReadUnit::Vanished => return ReadFile::Vanished,
        };
        size += bytes;
        leaves.extend(leaf);
        if bytes < LEAF_BYTES {
            break;
        }
    }
    ReadFile::Read(FileEntry { mode: source.mode, size, leaves, stamp: source.stamp, read_fully })
}

/// Which pages of a stretch of a file are taken over from the parent.
#[derive(Clone, Copy)]
struct Unread<'a> {
    changes: Option<Changes<'a>>,
    known: Option<&'a KnownChunks>,
    /// The stretch's first page.
    first: u64,
}

impl Unread<'_> {
    /// Where the parent has a page that did not change.
    fn kept(&self, page: u64) -> Option<Option<Place>> {
        let within = usize::try_from(page - self.first).ok()?;
        self.known.zip(self.changes.filter(|changes| !changes.has(page)))?.0.place_of(within)
    }

    /// Puts the pages from `from` on into the leaf that need not be read, and tells how many there are before one that must be.
    fn take_over(&self, from: u64, end: u64, map: &mut Leaf) -> u64 {
        let mut page = from;
        while page < end
            && let Some(place) = self.kept(page)
        {
            map.push(Stretch { chunks: 1, place });
            page += 1;
        }
        page - from
    }

    /// How many pages from there on must be read, at most as many as are read at once.
    fn pages_to_read(&self, from: u64) -> u64 {
        let most = BLOCK_BYTES as u64 / u64::from(CHUNK_BYTES);
        (1..most).find(|nth| self.kept(from + nth).is_some()).unwrap_or(most)
    }
}

impl<'a> Reader<'a> {
    fn read_unit(&mut self, source: &SourceFile, leaf: u64) -> Result<ReadUnit> {
        if let Some(before) = self.shared.unchanged(source)
            && let Some(kept) = self.keep(source, before, leaf)?
        {
            return Ok(kept);
        }
        // Opening is what takes the owner's rights. All else stays ours: a thread that the runtime makes for us would inherit them.
        let opened = on_behalf::as_owner(self.data_directory, || match File::open(&source.location) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &source.location, error)),
        });
        let Some(file) = opened? else { return Ok(ReadUnit::Vanished) };
        let mut known = self.known_chunks(source, leaf)?;
        let changes = self.changes(source, known.as_ref())?;
        let mut pages = PageReader::new(&file, source.first_block);
        let start = leaf * LEAF_BYTES;
        let end = source.size.min(start + LEAF_BYTES);
        let (mut at, mut map) = (start, Leaf::default());
        let (mut buffer, mut ids) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.ids));
        while at < end {
            let stretch = Unread { changes, known: known.as_ref(), first: start / u64::from(CHUNK_BYTES) };
            let kept = stretch.take_over(at / u64::from(CHUNK_BYTES), end / u64::from(CHUNK_BYTES), &mut map);
            if kept > 0 {
                let bytes = kept * u64::from(CHUNK_BYTES);
                at += bytes;
                self.shared.done.fetch_add(bytes, Ordering::Relaxed);
                self.shared.unread.fetch_add(bytes, Ordering::Relaxed);
                continue;
            }
            let most = stretch.pages_to_read(at / u64::from(CHUNK_BYTES)).saturating_mul(u64::from(CHUNK_BYTES));
            let wanted = buffer.len().min(usize::try_from((end - at).min(most)).unwrap_or(usize::MAX));
            self.shared.pace.pass(wanted as u64)?;
            let read = pages.read(at, &mut buffer[..wanted], &mut self.suspicious);
            let read = read.map_err(|error| Error::file("read", &source.location, error))?;
            self.identify(&buffer[..read], &mut ids);
            for (nth, (chunk, id)) in buffer[..read].chunks(CHUNK_BYTES as usize).zip(&ids).enumerate() {
                let number = at / u64::from(CHUNK_BYTES) + nth as u64;
                let place = self.chunk(source, number, chunk, *id, known.as_mut())?;
                map.push(Stretch { chunks: 1, place });
            }
            at += read as u64;
            self.shared.done.fetch_add(read as u64, Ordering::Relaxed);
            if read < wanted {
                break;
            }
        }
        (self.buffer, self.ids) = (buffer, ids);
        let (reading, verifying) = pages.spent();
        self.shared.effort.add(Work::Read, reading);
        self.shared.effort.add(Work::Verify, verifying);
        if map.chunks() == 0 {
            return Ok(ReadUnit::Read(0, None));
        }
        let map = self.moved(source, &mut pages, start..at, map)?;
        let place = Some(self.map(&map, known.as_ref())?);
        Ok(if changes.is_some() { ReadUnit::Kept(at - start, place) } else { ReadUnit::Read(at - start, place) })
    }

    /// Which pages of a stretch of a file need be read, where something tells, and the store has the others.
    fn changes(&mut self, source: &SourceFile, known: Option<&KnownChunks>) -> Result<Option<Changes<'a>>> {
        let Some((changes, known)) = self.shared.changes(source).zip(known) else { return Ok(None) };
        Ok(self.are_in_the_store(&known.leaf, known.place)?.then_some(changes))
    }

    /// The leaf of what was read, when what lies too thinly in older packs is stored anew: read again, as it is now.
    fn moved(&mut self, source: &SourceFile, pages: &mut PageReader<'_>, read: Range<u64>, map: Leaf) -> Result<Leaf> {
        let run = self.shared.run;
        let emptied = self.shared.compaction.take(&map, |pack| pack.run == run, CHUNK_BYTES.into());
        if emptied.is_empty() {
            return Ok(map);
        }
        let (mut moved, mut page, mut at) = (Leaf::default(), vec![0; CHUNK_BYTES as usize], read.start);
        for stretch in map.stretches() {
            let Some(first) = stretch.place.filter(|place| emptied.contains(&place.pack)) else {
                moved.push(*stretch);
                at += u64::from(stretch.chunks) * u64::from(CHUNK_BYTES);
                continue;
            };
            for nth in 0..stretch.chunks {
                let length = usize::try_from(read.end - at).unwrap_or(usize::MAX).min(CHUNK_BYTES as usize);
                self.shared.pace.pass(length as u64)?;
                let again = pages.read(at, &mut page[..length], &mut self.suspicious);
                let again = again.map_err(|error| Error::file("read", &source.location, error))?;
                // What was cut off meanwhile stays where it is: recovery cuts it off.
                let place = if again == length {
                    let mut ids = std::mem::take(&mut self.ids);
                    self.identify(&page[..length], &mut ids);
                    let place = self.chunk(source, at / u64::from(CHUNK_BYTES), &page[..length], ids[0], None)?;
                    self.ids = ids;
                    place
                } else {
                    Some(Place { item: first.item + nth, ..first })
                };
                moved.push(Stretch { chunks: 1, place });
                at += length as u64;
            }
        }
        Ok(moved)
    }

    /// Takes this stretch of a file over from the parent, if all that it needs is seen in the store; nothing else is said of it then.
    fn keep(&mut self, source: &SourceFile, before: &FileEntry, leaf: u64) -> Result<Option<ReadUnit>> {
        self.shared.pace.pass(0)?;
        let start = leaf * LEAF_BYTES;
        let bytes = source.size.min(start + LEAF_BYTES).saturating_sub(start);
        if bytes == 0 {
            return Ok(Some(ReadUnit::Kept(0, None)));
        }
        let Some(place) = usize::try_from(leaf).ok().and_then(|leaf| before.leaves.get(leaf)).copied() else { return Ok(None) };
        let known = match self.runtime.block_on(self.known.leaf(place)) {
            Ok(known) if u64::from(known.chunks()) == bytes.div_ceil(CHUNK_BYTES.into()) => known,
            Ok(_) => return Ok(None),
            Err(error) if parent::is_gone(error.kind()) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.shared.compaction.wants(&known) {
            return Ok(None);
        }
        if !self.are_in_the_store(&known, place)? {
            return Ok(None);
        }
        self.shared.done.fetch_add(bytes, Ordering::Relaxed);
        self.shared.unread.fetch_add(bytes, Ordering::Relaxed);
        Ok(Some(ReadUnit::Kept(bytes, Some(self.store_map(&known, Some(place))?))))
    }

    /// Whether all packs are there that a leaf of the parent needs, and that it lies in.
    fn are_in_the_store(&mut self, leaf: &Leaf, place: Place) -> Result<bool> {
        for pack in leaf.packs().into_iter().chain([place.pack]) {
            if !self.is_in_the_store(pack)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a pack of the parent is there, and is the one that was put.
    fn is_in_the_store(&mut self, pack: PackName) -> Result<bool> {
        if self.seen.contains(&pack) {
            return Ok(true);
        }
        let Some(record) = self.shared.parent.and_then(|parent| parent.packs.get(&pack)) else { return Ok(false) };
        let seen = match self.runtime.block_on(glance_at(self.shared.repository, pack)) {
            Ok(seen) => seen,
            Err(error) if parent::is_gone(error.kind()) => return Ok(false),
            Err(error) => return Err(error),
        };
        let same = seen == (record.size, record.digest);
        if same {
            self.seen.insert(pack);
        }
        Ok(same)
    }

    /// The identities of chunks; of one that is all zero none.
    fn identify(&self, chunks: &[u8], ids: &mut Vec<Option<ItemId>>) {
        let began = Instant::now();
        let is_zero = |chunk: &[u8]| chunk.iter().all(|byte| *byte == 0);
        ids.clear();
        ids.extend(chunks.chunks(CHUNK_BYTES as usize).map(|chunk| (!is_zero(chunk)).then(|| self.key.identify(chunk))));
        self.shared.effort.add(Work::Hash, began.elapsed());
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
    fn chunk(
        &mut self,
        source: &SourceFile,
        number: u64,
        chunk: &[u8],
        id: Option<ItemId>,
        known: Option<&mut KnownChunks>,
    ) -> Result<Option<Place>> {
        let Some(id) = id else { return Ok(None) };
        if let Some(known) = known {
            let within = (number % u64::from(LEAF_CHUNKS)) as usize;
            if let Some(place) = self.runtime.block_on(known.same(&mut self.known, within, id))? {
                return Ok(Some(place));
            }
        }
        self.writers.chunks.add(chunk, id, Some(Owner { path: source.path.as_bytes(), chunk: number })).map(Some)
    }

    /// Where the leaf lies: where the parent has it, if nothing changed.
    fn map(&mut self, map: &Leaf, known: Option<&KnownChunks>) -> Result<Place> {
        self.store_map(map, known.filter(|known| known.leaf == *map).map(|known| known.place))
    }

    /// Where a leaf lies that is stored in `place` already, if it is; and counts what it uses.
    fn store_map(&mut self, map: &Leaf, place: Option<Place>) -> Result<Place> {
        for stretch in map.stretches() {
            if let Some(place) = stretch.place {
                *self.used.entry(place.pack).or_default() += u64::from(stretch.chunks) * u64::from(CHUNK_BYTES);
            }
        }
        let bytes = map.encode();
        let place = match place.filter(|place| !self.shared.compaction.empties(place.pack)) {
            Some(place) => place,
            None => self.writers.maps.add(&bytes, self.key.identify(&bytes), None)?,
        };
        *self.used.entry(place.pack).or_default() += bytes.len() as u64;
        Ok(place)
    }
}
