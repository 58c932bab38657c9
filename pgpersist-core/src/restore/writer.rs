//! [`Writer`]: writes files of a backup, about a MiB at once: read from the store together, made and written by one thread in one go.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::Advice;

use crate::error::{Error, Result};
use crate::repo::contents::Contents;
use crate::repo::fault::Fault;
use crate::repo::frame::Decompressor;
use crate::repo::gathered::{Lack, Run};
use crate::repo::leaf::LEAF_CHUNKS;
use crate::repo::names::Place;
use crate::repo::repository::Repository;
use crate::repo::trailer::CHUNK_BYTES;
use crate::restore::crew::Halt;
use crate::restore::damage::{Losses, is_damage};
use crate::restore::queue::{Queue, Slice, Target};
use crate::workers;

/// How much is made at once.
const JOB_BYTES: usize = 1 << 20;
/// The least that the disk is told to begin with at once.
const EARLY_BYTES: usize = 256 << 10;
const CHUNK: u64 = CHUNK_BYTES as u64;

/// One of several who write.
pub(super) struct Writer<'a> {
    number: usize,
    contents: Contents<'a>,
    queue: &'a Queue,
    done: &'a AtomicU64,
    losses: Option<&'a Losses>,
    halt: Halt,
    job: Job,
    desk: Desk,
}

/// What is used again and again.
#[derive(Default)]
struct Desk {
    decompressor: Decompressor,
    buffer: Vec<u8>,
}

/// What is made at once.
#[derive(Default)]
struct Job {
    runs: Vec<Run>,
    /// Which chunks of which files the runs are.
    whose: Vec<(Arc<Target>, u64)>,
    pieces: Vec<Piece>,
    bytes: usize,
}

/// What is written at once.
struct Piece {
    target: Arc<Target>,
    at: u64,
    /// Where it is made.
    buffer: Range<usize>,
}

impl Job {
    fn add(&mut self, target: &Arc<Target>, chunk: u64, first: Place, chunks: u32, bytes: usize) {
        let buffer = self.bytes..self.bytes + bytes;
        self.runs.push(Run { first, chunks, at: buffer.start, bytes });
        self.whose.push((Arc::clone(target), chunk));
        self.bytes = buffer.end;
        match self.pieces.last_mut() {
            Some(last) if Arc::ptr_eq(&last.target, target) && last.at + last.buffer.len() as u64 == chunk * CHUNK => {
                last.buffer.end = buffer.end;
            }
            _ => self.pieces.push(Piece { target: Arc::clone(target), at: chunk * CHUNK, buffer }),
        }
    }

    fn write(&self, buffer: &[u8]) -> Result<()> {
        self.pieces.iter().try_for_each(|piece| {
            let (file, bytes) = (piece.target.open()?, &buffer[piece.buffer.clone()]);
            file.write_all_at(bytes, piece.at).map_err(|error| Error::file("write", &piece.target.path, error))?;
            if bytes.len() >= EARLY_BYTES {
                begin_write_back(&file, piece.at, bytes.len() as u64);
            }
            Ok(())
        })
    }
}

/// Has the disk begin with what was written, instead of when all of it is to be synced. What is dirty is not dropped by this advice, only written.
fn begin_write_back(file: &File, at: u64, bytes: u64) {
    // Only advice: nothing is lost where it is not taken.
    let _ = rustix::fs::fadvise(file, at, std::num::NonZeroU64::new(bytes), Advice::DontNeed);
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        number: usize,
        repository: &'a Repository,
        queue: &'a Queue,
        done: &'a AtomicU64,
        losses: Option<&'a Losses>,
        halt: Halt,
    ) -> Self {
        Self { number, contents: Contents::new(repository), queue, done, losses, halt, job: Job::default(), desk: Desk::default() }
    }

    /// Writes until there is nothing left to begin with.
    ///
    /// # Errors
    /// `Damaged` when something in the repository is not what was written; [`Error::File`]; what the store says.
    pub(super) async fn write(mut self) -> Result<()> {
        while let Some(slices) = self.queue.take(self.number) {
            for slice in slices {
                self.slice(slice).await?;
            }
            self.finish().await?;
        }
        Ok(())
    }

    async fn slice(&mut self, slice: Slice) -> Result<()> {
        let target = slice.target;
        let Some(entry) = target.file_entry() else { return Ok(()) };
        // Also an empty one is made, and one that has holes alone.
        let at = slice.leaves.start as u64 * u64::from(LEAF_CHUNKS) * CHUNK;
        self.job.pieces.push(Piece { target: Arc::clone(&target), at, buffer: self.job.bytes..self.job.bytes });
        for nth in slice.leaves {
            let mut chunk = nth as u64 * u64::from(LEAF_CHUNKS);
            let count = entry.chunks().saturating_sub(chunk).min(LEAF_CHUNKS.into());
            let leaf = match self.contents.leaf(entry.leaves[nth]).await {
                Ok(leaf) => leaf,
                Err(error) => {
                    self.losses.filter(|_| is_damage(&error)).ok_or(error)?.add(target.name(), chunk, count);
                    continue;
                }
            };
            if u64::from(leaf.chunks()) != count {
                return Err(wrong(&target.path, Fault::CutOff));
            }
            for stretch in leaf.stretches() {
                // What was never written is a hole.
                if let Some(first) = stretch.place {
                    self.stretch(&target, chunk, first, stretch.chunks, entry.size).await?;
                }
                chunk += u64::from(stretch.chunks);
            }
        }
        Ok(())
    }

    async fn stretch(&mut self, target: &Arc<Target>, chunk: u64, first: Place, chunks: u32, size: u64) -> Result<()> {
        let mut taken = 0;
        while taken < chunks {
            let room = JOB_BYTES.saturating_sub(self.job.bytes).div_ceil(CHUNK_BYTES as usize) as u32;
            let now = room.clamp(1, chunks - taken);
            let at = (chunk + u64::from(taken)) * CHUNK;
            // All chunks are whole but the last one of the file.
            let bytes = (u64::from(now) * CHUNK).min(size.saturating_sub(at)) as usize;
            let item = first.item.checked_add(taken).ok_or_else(|| wrong(&target.path, Fault::Reference { what: "an item" }))?;
            self.job.add(target, chunk + u64::from(taken), Place { item, ..first }, now, bytes);
            taken += now;
            if self.job.bytes >= JOB_BYTES {
                self.finish().await?;
            }
        }
        Ok(())
    }

    /// Makes and writes what has been gathered.
    async fn finish(&mut self) -> Result<()> {
        if self.job.pieces.is_empty() {
            return Ok(());
        }
        self.halt.pass()?;
        let (job, mut desk) = (std::mem::take(&mut self.job), std::mem::take(&mut self.desk));
        let gathered = self.contents.gather(&job.runs).await;
        let tolerant = self.losses.is_some();
        let (job, desk, made) = workers::run(move || {
            if desk.buffer.len() < job.bytes {
                desk.buffer.resize(job.bytes, 0);
            }
            let made = gathered.make(&mut desk.decompressor, &mut desk.buffer[..job.bytes]);
            if tolerant || made.lacks.is_empty() {
                job.write(&desk.buffer)?;
            }
            Ok((job, desk, made))
        })
        .await?;
        self.desk = desk;
        self.contents.keep(made.opened);
        for Lack { error, chunks } in made.lacks {
            let losses = self.losses.filter(|_| is_damage(&error)).ok_or(error)?;
            for (run, chunks) in chunks {
                let (target, first) = &job.whose[run];
                losses.add(target.name(), first + u64::from(chunks.start), chunks.len() as u64);
            }
        }
        self.done.fetch_add(job.bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn wrong(path: &Path, fault: Fault) -> Error {
    Error::damaged(format!("{} cannot be restored: {fault}", path.display()), "choose another backup: see `pgpersist list`")
}
