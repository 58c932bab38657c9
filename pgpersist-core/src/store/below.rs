//! [`Below`]: a part of a store, as a store of its own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::error::Result;
use crate::store::{BackupStore, ObjectKey, ObjectMeta, Upload};

/// Everything below a key of another store.
#[derive(Debug, Clone)]
pub struct Below {
    inner: Arc<dyn BackupStore>,
    key: ObjectKey,
}

impl Below {
    /// What is below `key` in `inner`.
    pub fn new(inner: Arc<dyn BackupStore>, key: ObjectKey) -> Self {
        Self { inner, key }
    }

    fn own(&self, mut meta: ObjectMeta) -> Result<ObjectMeta> {
        let below = meta.key.as_str().get(self.key.as_str().len() + 1..).unwrap_or_default();
        meta.key = below.parse()?;
        Ok(meta)
    }
}

impl fmt::Display for Below {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.inner, self.key)
    }
}

#[async_trait]
impl BackupStore for Below {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        self.inner.put(&self.key.join(key.as_str())?, bytes).await
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        self.inner.put_if_absent(&self.key.join(key.as_str())?, bytes).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.inner.get(&self.key.join(key.as_str())?).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(&self.key.join(key.as_str())?, range).await
    }

    fn reads_at_once(&self) -> usize {
        self.inner.reads_at_once()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.own(self.inner.head(&self.key.join(key.as_str())?).await?)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        let whole = format!("{}/{prefix}", self.key);
        // The inner stream borrows the prefix, so it is told from a stream that owns it.
        stream::once(async move { whole })
            .flat_map(move |whole| {
                let listed = async_list(Arc::clone(&self.inner), whole);
                listed.map(move |meta| self.own(meta?)).boxed()
            })
            .boxed()
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.folders(&format!("{}/{prefix}", self.key)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(&self.key.join(key.as_str())?).await
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        Ok(Box::new(BelowUpload { inner: self.inner.upload(&self.key.join(key.as_str())?).await?, store: self.clone() }))
    }

    async fn honours_conditions(&self, taken: &ObjectKey, bytes: Bytes) -> Result<Option<bool>> {
        self.inner.honours_conditions(&self.key.join(taken.as_str())?, bytes).await
    }
}

/// A listing that owns what it lists. One page of it is gathered at a time by the task that pulls.
fn async_list(store: Arc<dyn BackupStore>, prefix: String) -> BoxStream<'static, Result<ObjectMeta>> {
    let (send, receive) = tokio::sync::mpsc::channel(256);
    let listing = async move {
        let mut listed = store.list(&prefix);
        loop {
            match listed.try_next().await {
                Ok(Some(meta)) => {
                    if send.send(Ok(meta)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    let _ = send.send(Err(error)).await;
                    return;
                }
            }
        }
    };
    // Both live in one stream: no task outlives whoever listens.
    let told = stream::unfold(receive, |mut receive| async move { Some((receive.recv().await?, receive)) });
    stream::select(told, stream::once(listing).filter_map(|()| async { None })).boxed()
}

struct BelowUpload {
    inner: Box<dyn Upload>,
    store: Below,
}

#[async_trait]
impl Upload for BelowUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        let Self { inner, store } = *self;
        store.own(inner.finish().await?)
    }
}
