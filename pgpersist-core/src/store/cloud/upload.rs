//! An object in the making: small ones are one request, large ones go in parts, several at once.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{CopyMode, CopyOptions, MultipartUpload, ObjectStoreExt, PutMultipartOptions, PutPayload};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::store::cloud::backup_store::{Bucket, nonce};
use crate::store::cloud::opened::Publishing;
use crate::store::cloud::tuning::{MOST_PARTS, Tuning};
use crate::store::{ObjectKey, ObjectMeta, Upload, cleanup};

/// What was written and is not published yet. Dropping it tells the cloud to forget the parts.
pub(super) struct CloudUpload {
    bucket: Arc<Bucket>,
    key: ObjectKey,
    path: Path,
    nonce: String,
    /// What fills the next part.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    size_bytes: u64,
    parts: Option<Parts>,
    is_void: bool,
}

/// The parts of a large object.
struct Parts {
    bucket: Arc<Bucket>,
    /// Where the upload ends: the object's own name, or one that nobody sees.
    target: Path,
    upload: Option<Box<dyn MultipartUpload>>,
    in_flight: JoinSet<object_store::Result<()>>,
    begun: usize,
}

impl CloudUpload {
    pub(super) fn new(bucket: Arc<Bucket>, key: ObjectKey, path: Path) -> Self {
        Self { bucket, key, path, nonce: nonce(), waiting: Vec::new(), waiting_bytes: 0, size_bytes: 0, parts: None, is_void: false }
    }

    fn next_part_bytes(&self) -> usize {
        Tuning::part_bytes(self.parts.as_ref().map_or(0, |parts| parts.begun))
    }

    /// So many bytes of what waits.
    fn take(&mut self, bytes: usize) -> PutPayload {
        let mut taken = Vec::new();
        let mut missing = bytes.min(self.waiting_bytes);
        self.waiting_bytes -= missing;
        let mut rest = Vec::new();
        for mut piece in self.waiting.drain(..) {
            if missing == 0 {
                rest.push(piece);
                continue;
            }
            let part = piece.split_to(missing.min(piece.len()));
            missing -= part.len();
            taken.push(part);
            if !piece.is_empty() {
                rest.push(piece);
            }
        }
        self.waiting = rest;
        PutPayload::from_iter(taken)
    }

    async fn begin_part(&mut self, payload: PutPayload) -> Result<()> {
        if self.parts.is_none() {
            self.parts = Some(Parts::begin(&self.bucket, &self.key, &self.path, &self.nonce).await?);
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        parts.put(&self.key, payload).await
    }

    async fn publish(&mut self) -> Result<()> {
        if self.parts.is_none() {
            let payload = self.take(usize::MAX);
            return self.bucket.put_new(&self.key, &self.path, payload, &self.nonce).await;
        }
        let payload = self.take(usize::MAX);
        if payload.content_length() > 0 {
            self.begin_part(payload).await?;
        }
        // Whoever came first keeps the name, also where the server ignores conditions.
        self.bucket.must_be_free(&self.key, &self.path).await?;
        let Some(parts) = self.parts.take() else { return Ok(()) };
        match parts.complete(&self.key, &self.path, &self.nonce).await {
            Err(error) => self.bucket.refused(&self.key, &self.path, &self.nonce, error).await,
            Ok(()) => Ok(()),
        }
    }
}

#[async_trait]
impl Upload for CloudUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.is_void {
            return Err(Error::invalid(format!("the upload of {} failed before", self.key), "begin it again"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.waiting_bytes += bytes.len();
        self.size_bytes += bytes.len() as u64;
        self.waiting.push(bytes);
        while self.waiting_bytes > self.next_part_bytes() {
            self.is_void = true;
            let payload = self.take(self.next_part_bytes());
            self.begin_part(payload).await?;
            self.is_void = false;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectMeta> {
        if self.is_void {
            return Err(Error::invalid(format!("the upload of {} failed before", self.key), "begin it again"));
        }
        self.publish().await?;
        // A success that cannot be seen is none.
        let (meta, _) = self.bucket.head(&self.key, &self.path).await?;
        if meta.size_bytes != self.size_bytes {
            let what = format!("{} bytes were written to {}, and it has {} bytes", self.size_bytes, self.key, meta.size_bytes);
            return Err(Error::damaged(what, "remove it and write it again; `pgpersist store check` tells more"));
        }
        Ok(meta)
    }
}

impl Parts {
    async fn begin(bucket: &Arc<Bucket>, key: &ObjectKey, path: &Path, nonce: &str) -> Result<Self> {
        let target = match bucket.publishing {
            Publishing::Conditional => path.clone(),
            Publishing::Copied => bucket.hidden(nonce).ok_or_else(|| Error::invalid(format!("{key} is no name of an object there"), ""))?,
        };
        let options = PutMultipartOptions { attributes: bucket.attributes(nonce), tags: bucket.tags(), ..PutMultipartOptions::default() };
        let upload = bucket.client.put_multipart_opts(&target, options).await.map_err(|error| bucket.fault("write", key, error))?;
        Ok(Self { bucket: Arc::clone(bucket), target, upload: Some(upload), in_flight: JoinSet::new(), begun: 0 })
    }

    /// Sends a part, once there is room for it among those in flight.
    async fn put(&mut self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        if self.begun == MOST_PARTS {
            return Err(Error::invalid(format!("{key} is larger than a store in a cloud takes"), "dump its databases one by one"));
        }
        self.wait_for(key, self.bucket.tuning.concurrency - 1).await?;
        let Some(upload) = &mut self.upload else { return Ok(()) };
        self.in_flight.spawn(upload.put_part(payload));
        self.begun += 1;
        Ok(())
    }

    /// Waits until no more than so many parts are in flight.
    async fn wait_for(&mut self, key: &ObjectKey, most: usize) -> Result<()> {
        while self.in_flight.len() > most {
            match self.in_flight.join_next().await {
                Some(Ok(Ok(()))) | None => {}
                Some(Ok(Err(error))) => return Err(self.bucket.fault("write a part of", key, error)),
                Some(Err(error)) => return Err(Error::Bug(format!("a part of {key} was lost: {error}"))),
            }
        }
        Ok(())
    }

    async fn complete(mut self, key: &ObjectKey, path: &Path, nonce: &str) -> Result<()> {
        self.wait_for(key, 0).await?;
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        if let Err(error) = upload.complete().await {
            // Only the answer may have been lost.
            let has_ended = self.bucket.publishing == Publishing::Copied && self.bucket.is_mine(key, &self.target, nonce).await.is_some();
            if !has_ended {
                // Dropping it forgets the parts.
                self.upload = Some(upload);
                return Err(self.bucket.fault("write", key, error));
            }
        }
        if self.bucket.publishing == Publishing::Conditional {
            return Ok(());
        }
        let hidden = Hidden { bucket: Arc::clone(&self.bucket), path: Some(self.target.clone()) };
        let options = CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() };
        let copied = self.bucket.client.copy_opts(&self.target, path, options).await;
        let copied = copied.map_err(|error| self.bucket.fault("write", key, error));
        hidden.remove().await;
        copied
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Parts that arrive later would stay for ever: first no more are sent.
        let Some(mut upload) = self.upload.take() else { return };
        let mut in_flight = std::mem::take(&mut self.in_flight);
        cleanup::behind(async move {
            in_flight.shutdown().await;
            // Who is killed before this leaves them, too: `prune` and the bucket's lifecycle rules remove what is old.
            let _ = upload.abort().await;
        });
    }
}

/// A finished upload that nobody sees.
struct Hidden {
    bucket: Arc<Bucket>,
    path: Option<Path>,
}

impl Hidden {
    /// What cannot be removed, as by credentials that may not delete, stays, and is never listed.
    async fn remove(mut self) {
        if let Some(path) = &self.path {
            let _ = self.bucket.client.delete(path).await;
        }
        self.path = None;
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        let bucket = Arc::clone(&self.bucket);
        cleanup::behind(async move {
            let _ = bucket.client.delete(&path).await;
        });
    }
}
