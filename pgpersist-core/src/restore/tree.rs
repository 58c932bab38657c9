//! Makes a backup's files below a folder of our own. Everything is held against its hash before it is written; nothing is written outside.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::error::{Error, Result};
use crate::repo::contents::Contents;
use crate::repo::entry::{Entry, EntryKind, EntryPath, FileEntry};
use crate::repo::fault::Fault;
use crate::repo::repository::Repository;
use crate::repo::trailer::CHUNK_BYTES;
use crate::workers;

/// How much is handed to the disk at once.
const PIECE_BYTES: usize = 1 << 20;

/// Where an entry lies below `root`.
pub fn place(root: &Path, path: &EntryPath) -> PathBuf {
    // An entry's path has no part that leads up or starts anew.
    root.join(OsStr::from_bytes(path.as_bytes()))
}

/// Makes the folders, then the files, by so many at once. `root` exists, is empty and nobody else's. `done` counts bytes.
///
/// # Errors
/// `Damaged` when something in the repository is not what was written; [`Error::File`]; what the store says.
pub async fn write(repository: &Repository, entries: Arc<[Entry]>, root: &Path, at_once: usize, done: Arc<AtomicU64>) -> Result<()> {
    let (made, below) = (Arc::clone(&entries), root.to_owned());
    workers::run(move || folders(&made, &below)).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let writers = (0..at_once.max(1)).map(|_| {
        let (repository, entries, root) = (repository.clone(), Arc::clone(&entries), root.to_owned());
        let (next, done) = (Arc::clone(&next), Arc::clone(&done));
        async move {
            let task = tokio::spawn(async move {
                let mut contents = Contents::new(&repository);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(entry) = entries.get(at) else { return Ok(()) };
                    if let EntryKind::File(file) = &entry.kind {
                        write_file(&mut contents, &entry.path, file, &root, &done).await?;
                    }
                }
            });
            Aborting(task).await
        }
    });
    try_join_all(writers).await.map(|_| ())
}

/// A task that ends when nobody waits for it any more.
struct Aborting(tokio::task::JoinHandle<Result<()>>);

impl Future for Aborting {
    type Output = Result<()>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let joined = std::pin::Pin::new(&mut self.0).poll(context);
        joined.map(|joined| joined.unwrap_or_else(|error| Err(Error::Bug(format!("a writer of files failed: {error}")))))
    }
}

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn folders(entries: &[Entry], root: &Path) -> Result<()> {
    for entry in entries {
        // Paths are in order, so a folder comes before what is in it.
        if let EntryKind::Directory { mode } = &entry.kind {
            let path = place(root, &entry.path);
            let made = DirBuilder::new().mode(mode.bits()).create(&path);
            made.and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode.bits())))
                .map_err(|error| Error::file("create the folder", &path, error))?;
        }
    }
    Ok(())
}

async fn write_file(contents: &mut Contents<'_>, name: &EntryPath, entry: &FileEntry, root: &Path, done: &AtomicU64) -> Result<()> {
    let path = place(root, name);
    let (size, mode, made) = (entry.size, entry.mode.bits(), path.clone());
    let file = workers::run(move || create(&made, mode, size)).await?;
    let file = Arc::new(file);
    let (mut at, mut piece, mut piece_at) = (0_u64, Vec::new(), 0_u64);
    let wrong = |fault: Fault| {
        Error::damaged(format!("{} cannot be restored: {fault}", path.display()), "choose another backup: see `pgpersist list`")
    };
    for leaf in &entry.leaves {
        let leaf = contents.leaf(*leaf).await?;
        for stretch in leaf.stretches() {
            let Some(first) = stretch.place else {
                // Never written: the file has a hole there.
                at += u64::from(stretch.chunks) * u64::from(CHUNK_BYTES);
                continue;
            };
            for nth in 0..stretch.chunks {
                let chunk = contents.item(crate::repo::names::Place { item: first.item + nth, ..first }).await?;
                // All chunks are whole but the last one of the file.
                let expected = u64::from(CHUNK_BYTES).min(size.saturating_sub(at));
                if chunk.len() as u64 != expected {
                    return Err(wrong(Fault::CutOff));
                }
                if piece_at + piece.len() as u64 != at || piece.len() >= PIECE_BYTES {
                    put(&file, &path, piece_at, std::mem::take(&mut piece)).await?;
                    piece_at = at;
                }
                piece.extend_from_slice(&chunk);
                at += expected;
                done.fetch_add(expected, Ordering::Relaxed);
            }
        }
    }
    if at.min(size) != size || at >= size + u64::from(CHUNK_BYTES) {
        return Err(wrong(Fault::CutOff));
    }
    put(&file, &path, piece_at, piece).await
}

fn create(path: &Path, mode: u32, size: u64) -> Result<File> {
    let failed = |error| Error::file("create", path, error);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.set_permissions(PermissionsExt::from_mode(mode)).map_err(failed)?;
    file.set_len(size).map_err(failed)?;
    Ok(file)
}

async fn put(file: &Arc<File>, path: &Path, at: u64, bytes: Vec<u8>) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let (file, path, bytes) = (Arc::clone(file), path.to_owned(), Bytes::from(bytes));
    workers::run(move || file.write_all_at(&bytes, at).map_err(|error| Error::file("write", &path, error))).await
}
