//! One object from one store into another: streamed, hashed on its way, published only when it is right.
//!
//! At most three ranges of 4 MiB are in memory for each store that is brought up to date: one being written, one being
//! hashed, one being fetched.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::logical::side_file::{self, SideFile};
use crate::logical::store_output::hexadecimal;
use crate::progress::{Event, ProgressSink};
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

/// How much is read at a time: 4 MiB.
const RANGE: u64 = 4 << 20;

/// Two stores, and how long each call to one of them may take.
pub(super) struct Way<'a> {
    pub(super) from: &'a dyn BackupStore,
    pub(super) to: &'a dyn BackupStore,
    pub(super) stall: Duration,
    pub(super) progress: &'a dyn ProgressSink,
}

impl Way<'_> {
    /// Copies an object of this size, and of this SHA-256 where that is known. What is there already is `Conflict`, unless it
    /// is known to be the same.
    ///
    /// # Errors
    /// `Damaged` when it is not what it should be; `NotFound` when it is gone; what the stores say. Nothing new stands under
    /// the name then, except after `finish` whose answer was lost.
    pub(super) async fn copy(&self, key: &ObjectKey, size_bytes: u64, sha256: Option<&str>) -> Result<()> {
        self.progress.event(Event::Step(format!("copying {key} to {}", self.to)));
        let mut upload = match self.within("begin", key, self.to.upload(key)).await {
            Err(error) if error.kind() == ErrorKind::Conflict => return self.stands_there(key, size_bytes, sha256, error).await,
            upload => upload?,
        };
        let mut hash = Sha256::new();
        let mut place = 0;
        let mut bytes = self.range(self.from, key, place, size_bytes).await?;
        while !bytes.is_empty() {
            place += bytes.len() as u64;
            let written = self.within("write", key, upload.write(bytes.clone()));
            let hashing = workers::run(move || Ok(hash.chain_update(&bytes)));
            let ((), hashed, next) = tokio::try_join!(written, hashing, self.range(self.from, key, place, size_bytes))?;
            (hash, bytes) = (hashed, next);
            self.progress.event(Event::Bytes { done: place, total: Some(size_bytes) });
        }
        let found = hexadecimal(&hash.finalize());
        if let Some(wrong) = wrong(place, size_bytes, &found, sha256) {
            return Err(damaged(key, self.from, wrong));
        }
        match self.within("publish", key, upload.finish()).await {
            Err(error) if error.kind() == ErrorKind::Conflict => self.stands_there(key, size_bytes, Some(&found), error).await,
            finished => {
                finished?;
                let there = self.within("look at", key, self.to.head(key)).await?.size_bytes;
                if there == size_bytes {
                    return Ok(());
                }
                Err(Error::damaged(
                    format!("{key} has {there} bytes in {}, and {size_bytes} were written", self.to),
                    format!("delete {key} there and look at that store"),
                ))
            }
        }
    }

    /// Whether what stands there already is the same, read byte by byte: `conflict` is what else is to be said.
    async fn stands_there(&self, key: &ObjectKey, size_bytes: u64, sha256: Option<&str>, conflict: Error) -> Result<()> {
        match self.compare(key, size_bytes, sha256).await? {
            None if sha256.is_some() => Ok(()),
            _ => Err(conflict),
        }
    }

    /// Reads an object there and tells what is wrong with it, if anything.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn compare(&self, key: &ObjectKey, size_bytes: u64, sha256: Option<&str>) -> Result<Option<String>> {
        self.progress.event(Event::Step(format!("reading {key} in {}", self.to)));
        let there = self.within("look at", key, self.to.head(key)).await?.size_bytes;
        if there != size_bytes {
            return Ok(Some(format!("it has {there} bytes there, and {size_bytes} in the primary store")));
        }
        let Some(sha256) = sha256 else { return Ok(None) };
        let (mut hash, mut place) = (Sha256::new(), 0);
        loop {
            let bytes = self.range(self.to, key, place, size_bytes).await?;
            if bytes.is_empty() {
                break;
            }
            place += bytes.len() as u64;
            hash = workers::run(move || Ok(hash.chain_update(&bytes))).await?;
        }
        Ok(wrong(place, size_bytes, &hexadecimal(&hash.finalize()), Some(sha256)))
    }

    /// The side file of a dump, as it lies here, and what it says.
    ///
    /// # Errors
    /// `Damaged` when it is none; what the store says.
    pub(super) async fn side_file(&self, key: &ObjectKey) -> Result<(Bytes, SideFile)> {
        let bytes = self.within("read", key, self.from.get_range(key, 0..side_file::LARGEST)).await?;
        let side_file = SideFile::parse(key, &bytes)?;
        Ok((bytes, side_file))
    }

    /// Puts a small object that is not there yet. One that is there and has the same bytes is as good.
    ///
    /// # Errors
    /// `Conflict` when something else is there; what the store says.
    pub(super) async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        match self.within("write", key, self.to.put_if_absent(key, bytes.clone())).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let there = self.within("read", key, self.to.get_range(key, 0..side_file::LARGEST)).await?;
                if there == bytes { Ok(()) } else { Err(error) }
            }
            put => put,
        }
    }

    /// The next range, or nothing at the end, which the store may find early.
    async fn range(&self, store: &dyn BackupStore, key: &ObjectKey, place: u64, size_bytes: u64) -> Result<Bytes> {
        if place >= size_bytes {
            return Ok(Bytes::new());
        }
        self.within("read", key, store.get_range(key, place..(place + RANGE).min(size_bytes))).await
    }

    async fn within<T>(&self, verb: &str, key: &ObjectKey, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        within(self.stall, call, || format!("{verb} {key}, on its way from {} to {}", self.from, self.to)).await
    }
}

/// A call to a store that must answer in time.
///
/// # Errors
/// [`Error::Deadline`]; what the call says.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T>> + Send,
    what: impl FnOnce() -> String,
) -> Result<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Deadline {
            what: format!("a store did not answer to: {}", what()),
            after: deadline,
            remedy: Some("see whether the store answers (`pgpersist health`), and run `pgpersist sync` again".to_owned()),
        }),
    }
}

fn wrong(read: u64, size_bytes: u64, found: &str, sha256: Option<&str>) -> Option<String> {
    if read != size_bytes {
        return Some("it became shorter while it was read".to_owned());
    }
    sha256.filter(|sha256| *sha256 != found).map(|_| "its SHA-256 is not that of its side file".to_owned())
}

fn damaged(key: &ObjectKey, store: &dyn BackupStore, reason: String) -> Error {
    Error::damaged(
        format!("{key} in {store} is damaged: {reason}"),
        "`pgpersist verify` reads all dumps; look for another copy of this one",
    )
}
