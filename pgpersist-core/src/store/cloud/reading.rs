//! Reading: an object in ranges, several at once, each within its time, and all of the same object.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta};

use crate::error::{Error, ErrorKind, Result};
use crate::store::ObjectKey;
use crate::store::cloud::backup_store::Bucket;
use crate::store::cloud::errors;
use crate::store::cloud::tuning::{self, PART_BYTES};

impl Bucket {
    /// Asks for an object's head.
    pub(super) async fn find(&self, doing: &str, key: &ObjectKey, path: &Path) -> Result<GetResult> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let error = match self.client.get_opts(path, options).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if !errors::is_without_reason(&error) {
            return Err(self.fault(doing, key, error));
        }
        // An answer to HEAD has no body that could say why: the same is asked once more in a way that has.
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        match self.client.get_opts(path, options).await {
            Err(told) if !errors::is_without_reason(&told) => Err(self.fault(doing, key, told)),
            Err(_) => Err(self.fault(doing, key, error)),
            // What was refused is allowed now, as when credentials have been renewed.
            Ok(_) => {
                let options = GetOptions { head: true, ..GetOptions::default() };
                self.client.get_opts(path, options).await.map_err(|error| self.fault(doing, key, error))
            }
        }
    }

    /// Asks for a range, or for all, of an object: of the one with this tag, if one is given.
    async fn ask(&self, key: &ObjectKey, path: &Path, range: Option<Range<u64>>, etag: Option<&str>) -> Result<GetResult> {
        let options = GetOptions { range: range.map(GetRange::Bounded), if_match: etag.map(str::to_owned), ..GetOptions::default() };
        self.client.get_opts(path, options).await.map_err(|error| match error {
            // It is not that any more of which the size was told.
            object_store::Error::Precondition { .. } => Error::conflict(format!("{key} changed while it was read"), "try again"),
            error => self.fault("read", key, error),
        })
    }

    /// So many bytes of an answer, whole or an error. Whoever reads has only a while for it.
    async fn take(&self, key: &ObjectKey, answer: GetResult, length: u64) -> Result<Bytes> {
        let limit = self.tuning.part_attempt;
        match tokio::time::timeout(limit, self.body(key, answer, length)).await {
            Ok(read) => read,
            Err(_) => Err(late(key, limit)),
        }
    }

    /// So many bytes, and never more: what a server sends on is not gathered.
    async fn body(&self, key: &ObjectKey, answer: GetResult, length: u64) -> Result<Bytes> {
        let mut stream = answer.into_stream();
        let (mut first, mut rest, mut came) = (Bytes::new(), BytesMut::new(), 0);
        while let Some(bytes) = stream.try_next().await.map_err(|error| self.fault("read", key, error))? {
            came += bytes.len() as u64;
            if came > length {
                return Err(Error::unavailable(format!("more than {length} bytes came of {key}"), "try again"));
            }
            if first.is_empty() {
                first = bytes;
                continue;
            }
            if rest.is_empty() {
                rest.reserve(usize::try_from(length).unwrap_or_default());
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&bytes);
        }
        if came != length {
            return Err(Error::unavailable(format!("{came} of {length} bytes came of {key}"), "try again"));
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }

    /// The same again while that may help, within the deadline if there is one: a connection may break in the middle of an answer.
    async fn again<T, F: Future<Output = Result<T>>>(&self, key: &ObjectKey, read: impl Fn() -> F) -> Result<T> {
        let reading = async {
            let start = tokio::time::Instant::now();
            let mut waits = 0;
            loop {
                match read().await {
                    Err(error) if error.kind() == ErrorKind::Unavailable && waits < 8 && start.elapsed() < self.tuning.repeated_for => {
                        tokio::time::sleep(tuning::wait(waits)).await;
                        waits += 1;
                    }
                    read => return read,
                }
            }
        };
        let Some(deadline) = self.tuning.deadline else { return reading.await };
        match tokio::time::timeout(deadline, reading).await {
            Ok(read) => read,
            Err(_) => Err(late(key, deadline)),
        }
    }

    /// One range, or all of an object of this size.
    async fn part(&self, key: &ObjectKey, path: &Path, range: Option<Range<u64>>, length: u64, etag: Option<&str>) -> Result<Bytes> {
        let once = || async {
            if let Some(pace) = &self.pace {
                pace.pass(length).await;
            }
            let answer = self.ask(key, path, range.clone(), etag).await?;
            self.take(key, answer, length).await
        };
        self.again(key, once).await
    }

    /// The beginning of a range, and the object that it is of. Where nothing can be read before the size is known, none of it.
    async fn beginning(&self, key: &ObjectKey, path: &Path, range: &Range<u64>) -> Result<(Bytes, ObjectMeta)> {
        let first = range.start..range.end.min(range.start.saturating_add(PART_BYTES as u64));
        if !first.is_empty()
            && let Some(begun) = self.again(key, || self.first_answer(key, path, first.clone())).await?
        {
            return begun;
        }
        Ok((Bytes::new(), self.find("read", key, path).await?.meta))
    }

    /// What one answer brings, and the object that it is of; or that this cannot be had. Nothing where it begins behind the end, or where
    /// the server has no such part: some give all of a small object as if no part had been asked for. Also all of an object is asked for
    /// as a part of it, whose answer tells how much there is: one that was cut short is known by that.
    async fn first_answer(&self, key: &ObjectKey, path: &Path, part: Range<u64>) -> Result<Option<Result<(Bytes, ObjectMeta)>>> {
        let options = GetOptions { range: Some(GetRange::Bounded(part)), ..GetOptions::default() };
        let answer = match self.client.get_opts(path, options).await {
            Ok(answer) => answer,
            Err(error) if errors::is_about_the_range(&error) => return Ok(None),
            // It was repeated where that could help.
            Err(error) => return Ok(Some(Err(self.fault("read", key, error)))),
        };
        let (meta, length) = (answer.meta.clone(), answer.range.end - answer.range.start);
        if let Some(pace) = &self.pace {
            pace.pass(length).await;
        }
        Ok(Some(Ok((self.take(key, answer, length).await?, meta))))
    }

    /// A range of an object, in pieces that are all of the same one; `Conflict` when it was replaced meanwhile. What fits into one
    /// piece is one request: its answer tells how large the object is.
    pub(super) async fn read(&self, key: &ObjectKey, path: &Path, range: &Range<u64>) -> Result<Bytes> {
        let (first, found) = self.beginning(key, path, range).await?;
        let (start, end) = (range.start.saturating_add(first.len() as u64), range.end.min(found.size));
        if start >= end {
            return Ok(first);
        }
        let etag = found.e_tag.as_deref();
        let mut parts = stream::iter((start..end).step_by(PART_BYTES))
            .map(|from| {
                let to = (from + PART_BYTES as u64).min(end);
                let is_all = to - from == found.size;
                self.part(key, path, (!is_all).then_some(from..to), to - from, etag)
            })
            .buffered(self.tuning.concurrency);
        let next = parts.try_next().await?.unwrap_or_default();
        if first.is_empty() && next.len() as u64 == end - start {
            return Ok(next);
        }
        let length = usize::try_from(end - range.start).map_err(|_| Error::invalid(format!("{key} does not fit into memory"), ""))?;
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&first);
        bytes.extend_from_slice(&next);
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }
}

fn late(key: &ObjectKey, after: Duration) -> Error {
    let remedy = "look at the line between, or raise `deadline` in the store's address".to_owned();
    Error::Deadline { what: format!("{key} was not read"), after, remedy: Some(remedy) }
}
