//! [`PackWriter`]: items in, packs in the store out. Blocking code adds the items; a task of its own puts the packs, so neither waits for the
//! other longer than a queue of a few pieces.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::repo::effort::{Effort, Work};
use crate::repo::fault::Fault;
use crate::repo::frame::{Compression, Compressor};
use crate::repo::identity::ItemId;
use crate::repo::layout;
use crate::repo::names::{PackName, Place, RunName};
use crate::repo::pack_builder::{Owner, PackBuilder, PackRecord};
use crate::repo::repository::Repository;
use crate::repo::sealing::RunKeys;
use crate::repo::trailer::PackKind;

/// How long a pack's frames are when it is closed.
pub const PACK_TARGET_BYTES: u64 = 32 << 20;
/// How many bytes go to the store at once.
const PIECE_BYTES: usize = 1 << 20;
/// How many pieces wait for the store, at most: 4 MiB a writer.
const QUEUE: usize = 4;

/// What the writers of a run share: numbers for its packs, and the count of what their time was spent on.
#[derive(Debug, Clone)]
pub struct PackNumbers {
    run: RunName,
    next: Arc<AtomicU32>,
    effort: Arc<Effort>,
}

impl PackNumbers {
    /// From the beginning.
    pub fn new(run: RunName) -> Self {
        Self { run, next: Arc::default(), effort: Arc::default() }
    }

    /// What the time of all that has to do with the run was spent on.
    pub fn effort(&self) -> &Arc<Effort> {
        &self.effort
    }

    fn next(&self) -> PackName {
        PackName { run: self.run, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

/// What goes to the task that speaks to the store.
enum Message {
    Begin(PackName),
    Bytes(Bytes),
    End(PackRecord),
}

/// Writes packs of one kind, one after another.
pub struct PackWriter {
    numbers: PackNumbers,
    kind: PackKind,
    compressor: Compressor,
    keys: Option<Arc<RunKeys>>,
    pack: Option<PackBuilder>,
    piece: Vec<u8>,
    store: mpsc::Sender<Message>,
}

/// The packs that a [`PackWriter`] has written, once it was finished and all of them are in the store.
#[derive(Debug)]
pub struct WrittenPacks(JoinHandle<Result<Vec<PackRecord>>>);

impl PackWriter {
    /// Begins; must be called within a runtime, and everything else outside of its threads.
    ///
    /// # Errors
    /// `Bug` when the compression cannot be had, or the run was not [begun](Repository::begin_run).
    pub fn begin(repository: &Repository, numbers: PackNumbers, kind: PackKind, compression: Compression) -> Result<(Self, WrittenPacks)> {
        let keys = repository.begun(numbers.run)?;
        let (store, messages) = mpsc::channel(QUEUE);
        let task = tokio::spawn(put(repository.clone(), messages, Arc::clone(numbers.effort())));
        let compressor = Compressor::new(compression).map_err(bug)?;
        Ok((Self { numbers, kind, compressor, keys, pack: None, piece: Vec::new(), store }, WrittenPacks(task)))
    }

    /// Takes an item and tells where it will lie. Waits while the store is behind.
    ///
    /// # Errors
    /// `Cancelled` when the store failed: [`WrittenPacks::wait`] tells why.
    pub fn add(&mut self, item: &[u8], id: ItemId, owner: Option<Owner<'_>>) -> Result<Place> {
        if self.pack.as_ref().is_some_and(|pack| pack.stored_bytes() >= PACK_TARGET_BYTES) {
            self.end_pack()?;
        }
        let pack = match &mut self.pack {
            Some(pack) => pack,
            empty => {
                let name = self.numbers.next();
                send(&self.store, &self.numbers.effort, Message::Begin(name))?;
                empty.insert(PackBuilder::begin_sealed(name, self.kind, self.keys.clone(), &mut self.piece))
            }
        };
        let (began, before) = (Instant::now(), pack.stored_bytes());
        let place = pack.add(item, id, owner, &mut self.compressor, &mut self.piece).map_err(bug)?;
        if pack.stored_bytes() > before {
            self.count_frame(began);
        }
        if self.piece.len() >= PIECE_BYTES {
            self.send_piece()?;
        }
        Ok(place)
    }

    /// Ends the last pack.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn finish(mut self) -> Result<()> {
        self.end_pack()
    }

    fn end_pack(&mut self) -> Result<()> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let began = Instant::now();
        let record = pack.finish(&mut self.compressor, &mut self.piece).map_err(bug)?;
        self.count_frame(began);
        self.send_piece()?;
        send(&self.store, &self.numbers.effort, Message::End(record))
    }

    /// Counts a frame that was closed since then. What was not compressing was its digest.
    fn count_frame(&mut self, began: Instant) {
        let (spent, compressing) = (began.elapsed(), self.compressor.take_spent());
        self.numbers.effort.add(Work::Compress, compressing);
        self.numbers.effort.add(Work::Hash, spent.saturating_sub(compressing));
    }

    fn send_piece(&mut self) -> Result<()> {
        let piece = mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4));
        send(&self.store, &self.numbers.effort, Message::Bytes(piece.into()))
    }
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PackWriter").field("kind", &self.kind).field("pack", &self.pack).finish_non_exhaustive()
    }
}

fn send(store: &mpsc::Sender<Message>, effort: &Effort, message: Message) -> Result<()> {
    let began = Instant::now();
    let sent = store.blocking_send(message).map_err(|_| Error::Cancelled { what: "writing packs".to_owned() });
    effort.add(Work::Wait, began.elapsed());
    sent
}

impl WrittenPacks {
    /// Waits until all packs are in the store.
    ///
    /// # Errors
    /// What the store said, or `Cancelled` when the writer was dropped unfinished.
    pub async fn wait(self) -> Result<Vec<PackRecord>> {
        self.0.await.unwrap_or_else(|error| Err(Error::Bug(format!("the task that puts packs failed: {error}"))))
    }
}

async fn put(repository: Repository, mut messages: mpsc::Receiver<Message>, effort: Arc<Effort>) -> Result<Vec<PackRecord>> {
    let mut records = Vec::new();
    while let Some(message) = messages.recv().await {
        let Message::Begin(name) = message else { return Err(Error::Bug("a pack does not begin".to_owned())) };
        let mut upload = repository.store().upload(&repository.key(&layout::pack(name))?).await?;
        let record = loop {
            match messages.recv().await {
                Some(Message::Bytes(bytes)) => {
                    let began = Instant::now();
                    upload.write(bytes).await?;
                    effort.add(Work::Put, began.elapsed());
                }
                Some(Message::End(record)) => break record,
                Some(Message::Begin(_)) => return Err(Error::Bug("a pack does not end".to_owned())),
                // An upload that is dropped leaves nothing.
                None => return Err(Error::Cancelled { what: "writing packs".to_owned() }),
            }
        };
        let began = Instant::now();
        let stored = upload.finish().await?;
        effort.add(Work::Sync, began.elapsed());
        if stored.size_bytes != record.size {
            return Err(repository.wrong(&layout::pack(name), Fault::CutOff));
        }
        records.push(record);
    }
    Ok(records)
}

fn bug(fault: Fault) -> Error {
    Error::Bug(format!("a pack cannot be written: {fault}"))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::error::ErrorKind;
    use crate::repo::pack_reader::OpenPack;
    use crate::store::BackupStore;
    use crate::store::faulty::{Calls, Effect, Fault as StoreFault, FaultPlan, FaultyStore, Operation};
    use crate::store::memory::MemoryBackupStore;
    use crate::workers;

    fn run() -> RunName {
        RunName::new(datetime!(2026-02-08 09:33:16 UTC), [15, 142, 125, 108])
    }

    async fn repository(store: Arc<dyn BackupStore>) -> Repository {
        let folder = ".pgpersist/main/repository".parse().unwrap();
        Repository::open_or_make(store, folder, 7, datetime!(2026-02-08 09:33:16 UTC)).await.unwrap()
    }

    /// A page that does not compress, of this number.
    fn page(number: u32) -> Vec<u8> {
        (0..2048_u32).flat_map(|word| (word ^ number).wrapping_mul(2_654_435_761).rotate_left(number % 31).to_le_bytes()).collect()
    }

    async fn write(repository: &Repository, pages: u32) -> Result<(Vec<Place>, Vec<PackRecord>)> {
        let numbers = PackNumbers::new(run());
        let (mut writer, written) = PackWriter::begin(repository, numbers, PackKind::Chunks, Compression::Plain).unwrap();
        let key = repository.hash_key().clone();
        let places = workers::run(move || {
            let mut places = Vec::new();
            for number in 0..pages {
                let page = page(number);
                let owner = Owner { path: b"base/5/16384", chunk: number.into() };
                places.push(writer.add(&page, key.identify(&page), Some(owner))?);
            }
            writer.finish()?;
            Ok(places)
        })
        .await;
        let records = written.wait().await?;
        Ok((places?, records))
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_page_by_page() {
        let repository = repository(Arc::new(MemoryBackupStore::new())).await;
        let (places, records) = write(&repository, 5000).await.unwrap();
        // 5000 pages are 39 MiB: two packs.
        assert_eq!(records.len(), 2);
        for record in &records {
            let pack = OpenPack::read(&repository, record.pack).await.unwrap();
            assert_eq!((pack.digest, pack.size), (record.digest, record.size));
        }
        for number in [0, 23, 24, 25, 4095, 4999_u32] {
            let place = places[number as usize];
            let pack = OpenPack::read(&repository, place.pack).await.unwrap();
            let frame = pack.read_frame(&repository, pack.frame_of(place.item).unwrap()).await.unwrap();
            assert_eq!(frame.item(place.item).unwrap(), page(number), "{number}");
            assert!(frame.item(place.item + 24).is_none());
        }
        assert!(OpenPack::read(&repository, places[0].pack).await.unwrap().frame_of(1 << 20).is_none());
    }

    #[tokio::test]
    async fn nothing_to_write_is_no_pack() {
        let repository = repository(Arc::new(MemoryBackupStore::new())).await;
        assert_eq!(write(&repository, 0).await.unwrap(), (Vec::new(), Vec::new()));
    }

    #[tokio::test]
    async fn a_store_that_fails_is_told_and_ends_the_writing() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        repository(Arc::clone(&store)).await;
        let fault = StoreFault { operation: Operation::Upload, calls: Calls::Nth(2), effect: Effect::Fail(ErrorKind::Unavailable) };
        let faulty: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(store, FaultPlan { seed: 0, faults: vec![fault] }));
        let repository = repository(faulty).await;
        let error = write(&repository, 20_000).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_changed_byte_anywhere_in_a_pack_is_found() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let repository = repository(Arc::clone(&store)).await;
        let (places, _) = write(&repository, 3).await.unwrap();
        let key = repository.key(&layout::pack(places[0].pack)).unwrap();
        let good = store.get(&key).await.unwrap();
        let readable = async || {
            let pack = OpenPack::read(&repository, places[0].pack).await?;
            for place in pack.places() {
                pack.read_frame(&repository, place).await?;
            }
            Ok::<_, Error>(())
        };
        readable().await.unwrap();
        let last = good.len() - 1;
        for at in (0..good.len()).step_by(97).chain([1, 4, 5, 6, 7, last, last - 40]) {
            let mut bad = good.to_vec();
            bad[at] ^= 0x40;
            store.put(&key, bad.into()).await.unwrap();
            let error = readable().await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid), "byte {at}: {error}");
            assert!(error.to_string().contains("000000.pack"), "{error}");
        }
    }
}
