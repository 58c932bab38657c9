//! One object from one store into another: streamed, hashed on its way, encrypted where it is to be, published only when it is
//! right.
//!
//! In memory are, for each store that is brought up to date, the ranges that are being fetched (of a folder two, of a bucket as many
//! as its `concurrency`), and one being written, one being hashed and encrypted, and what comes of that.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::encryption::recipient::Recipient;
use crate::error::{Error, ErrorKind, Result};
use crate::logical::object_reader::ObjectReader;
use crate::logical::sealed;
use crate::logical::shelf::Shelf;
use crate::logical::side_file::{self, SideFile};
use crate::logical::store_output::hexadecimal;
use crate::logical::sync::passing::{Hashing, Passing};
use crate::progress::{Event, ProgressSink};
use crate::store::read_ahead::read_ahead;
use crate::store::{BackupStore, ObjectKey, Upload};
use crate::workers;

/// Two stores, and how long each call to one of them may take.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) from: &'a Arc<dyn BackupStore>,
    pub(super) to: &'a Arc<dyn BackupStore>,
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
        let original = Original { key, size_bytes, sha256 };
        match self.bring(&original, key, &[]).await {
            Err(error) if error.kind() == ErrorKind::Conflict => match self.compare(key, size_bytes, sha256).await? {
                None if sha256.is_some() => Ok(()),
                _ => Err(error),
            },
            brought => brought.map(drop),
        }
    }

    /// The same, encrypted to these: what stands there then. What is there already is `Conflict`.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub(super) async fn seal(&self, original: &Original<'_>, name: &ObjectKey, recipients: &[Recipient]) -> Result<Standing> {
        self.bring(original, name, recipients).await
    }

    async fn bring(&self, original: &Original<'_>, name: &ObjectKey, recipients: &[Recipient]) -> Result<Standing> {
        self.progress.event(Event::Step(format!("copying {} to {}", original.key, self.to)));
        let mut upload = self.within("begin", name, self.to.upload(name)).await?;
        let standing = self.pass(original, name, upload.as_mut(), recipients).await?;
        self.within("publish", name, upload.finish()).await?;
        let there = self.within("look at", name, self.to.head(name)).await?.size_bytes;
        if there == standing.size_bytes {
            return Ok(standing);
        }
        Err(Error::damaged(
            format!("{name} has {there} bytes in {}, and {} were written", self.to, standing.size_bytes),
            format!("delete {name} there and look at that store"),
        ))
    }

    /// Writes what an object becomes, and sees to it that it was what it should be.
    async fn pass(&self, original: &Original<'_>, name: &ObjectKey, upload: &mut dyn Upload, recipients: &[Recipient]) -> Result<Standing> {
        let Original { key, size_bytes, sha256 } = *original;
        let (mut passing, mut out) = Passing::begin(recipients)?;
        let (mut place, mut written) = (0, 0);
        let mut ranges = read_ahead(Arc::clone(self.from), key.clone(), size_bytes);
        let mut bytes = self.next(key, &mut ranges).await?;
        while !bytes.is_empty() {
            place += bytes.len() as u64;
            written += out.len() as u64;
            let writing = self.write(name, upload, std::mem::take(&mut out));
            let hashing = workers::run(move || passing.take(bytes));
            let ((), (passed, ready), next) = tokio::try_join!(writing, hashing, self.next(key, &mut ranges))?;
            (passing, out, bytes) = (passed, ready, next);
            self.progress.event(Event::Bytes { done: place, total: Some(size_bytes) });
        }
        let (end, found, sha256_there) = workers::run(move || passing.finish()).await?;
        if let Some(wrong) = wrong(place, size_bytes, &found, sha256) {
            return Err(damaged(key, self.from.as_ref(), wrong));
        }
        written += (out.len() + end.len()) as u64;
        self.write(name, upload, out).await?;
        self.write(name, upload, end).await?;
        Ok(Standing { size_bytes: written, sha256: sha256_there })
    }

    async fn write(&self, name: &ObjectKey, upload: &mut dyn Upload, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.within("write", name, upload.write(bytes)).await }
    }

    /// What stands there encrypted, if it holds what it should; nothing where no key at hand opens it.
    ///
    /// # Errors
    /// `Conflict` when it is something else; `Damaged`; what the store says.
    pub(super) async fn compare_sealed(&self, there: &Shelf, name: &ObjectKey, original: &Original<'_>) -> Result<Option<Standing>> {
        self.progress.event(Event::Step(format!("reading {name} in {}", self.to)));
        let opening = there.opening(name, None).await?;
        if opening.lacks_a_key() {
            return Ok(None);
        }
        let size_bytes = self.within("look at", name, self.to.head(name)).await?.size_bytes;
        let reader = ObjectReader::open(there.store().clone(), name.clone(), size_bytes);
        let called = name.to_string();
        let (found, standing) = workers::run(move || {
            let mut content = Hashing::new(sealed::open(&called, Hashing::new(reader), &opening)?);
            io::copy(&mut content, &mut io::sink()).map_err(|error| sealed::explain(&called, error))?;
            let (content, found) = content.finish();
            let (_, sha256) = content.into_inner().into_inner().finish();
            Ok((found, Standing { size_bytes, sha256 }))
        })
        .await?;
        if original.sha256.is_some_and(|sha256| sha256 != found) {
            return Err(Error::conflict(
                format!("{name} holds something else in {} than {} in {}", self.to, original.key, self.from),
                "find out which of the two is right, and delete the other one",
            ));
        }
        Ok(Some(standing))
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
        let mut ranges = read_ahead(Arc::clone(self.to), key.clone(), size_bytes);
        loop {
            let bytes = self.next(key, &mut ranges).await?;
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
    async fn next(&self, key: &ObjectKey, ranges: &mut BoxStream<'static, Result<Bytes>>) -> Result<Bytes> {
        Ok(self.within("read", key, ranges.try_next()).await?.unwrap_or_default())
    }

    async fn within<T>(&self, verb: &str, key: &ObjectKey, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        within(self.stall, call, || format!("{verb} {key}, on its way from {} to {}", self.from, self.to)).await
    }
}

/// An object as it should be in the primary store: its size, and its SHA-256 where that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) size_bytes: u64,
    pub(super) sha256: Option<&'a str>,
}

/// An object as it stands in the copy.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
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
