//! [`LazyBackupStore`]: a store that is opened by its first call, so that one which cannot be opened, or hangs there, is in
//! the way of nobody who does not need it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::OnceCell;

use crate::error::Result;
use crate::store::observation::Observation;
use crate::store::url::StoreUrl;
use crate::store::{BackupStore, IsOurs, ObjectKey, ObjectMeta, Upload};
use crate::workers;

/// How it is opened; it may block.
type Opening = dyn Fn() -> Result<Arc<dyn BackupStore>> + Send + Sync;

/// The store at an address. Each call opens it, until one has succeeded.
#[derive(Clone)]
pub struct LazyBackupStore {
    url: StoreUrl,
    opening: Arc<Opening>,
    opened: Arc<OnceCell<Arc<dyn BackupStore>>>,
}

impl LazyBackupStore {
    /// A store that `opening` will open, off the async threads.
    pub fn new(url: StoreUrl, opening: impl Fn() -> Result<Arc<dyn BackupStore>> + Send + Sync + 'static) -> Self {
        Self { url, opening: Arc::new(opening), opened: Arc::default() }
    }

    async fn store(&self) -> Result<&Arc<dyn BackupStore>> {
        let open = || {
            let opening = self.opening.clone();
            workers::run(move || opening())
        };
        self.opened.get_or_try_init(open).await
    }
}

impl fmt::Debug for LazyBackupStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LazyBackupStore").field("url", &self.url).field("opened", &self.opened.get()).finish_non_exhaustive()
    }
}

impl fmt::Display for LazyBackupStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opened.get() {
            Some(store) => store.fmt(formatter),
            None => self.url.fmt(formatter),
        }
    }
}

#[async_trait]
impl BackupStore for LazyBackupStore {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        self.store().await?.put(key, bytes).await
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        self.store().await?.put_if_absent(key, bytes).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.store().await?.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.store().await?.get_range(key, range).await
    }

    fn reads_at_once(&self) -> usize {
        // Nobody reads before the first call.
        self.opened.get().map_or(1, |store| store.reads_at_once())
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.store().await?.head(key).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        stream::once(self.store())
            .flat_map(move |opened| match opened {
                Ok(store) => store.list(prefix),
                Err(error) => stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.store().await?.folders(prefix).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.store().await?.delete(key).await
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        self.store().await?.upload(key).await
    }

    async fn remove_unfinished(&self, idle: Duration, is_ours: &IsOurs<'_>) -> Result<u64> {
        self.store().await?.remove_unfinished(idle, is_ours).await
    }

    async fn honours_conditions(&self, taken: &ObjectKey, bytes: Bytes) -> Result<Option<bool>> {
        self.store().await?.honours_conditions(taken, bytes).await
    }

    async fn observe(&self, scratch: &ObjectKey) -> Result<Vec<Observation>> {
        self.store().await?.observe(scratch).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::store::memory::MemoryBackupStore;

    #[tokio::test]
    async fn it_is_opened_once_and_only_when_it_can_be() {
        let is_there = Arc::new(AtomicBool::new(false));
        let (seen, inner) = (is_there.clone(), Arc::new(MemoryBackupStore::new()));
        let store = LazyBackupStore::new(PathBuf::from("/mnt/offsite").into(), move || {
            if seen.load(Ordering::SeqCst) { Ok(inner.clone()) } else { Err(Error::unavailable("not mounted", "")) }
        });
        assert_eq!(store.to_string(), "/mnt/offsite");
        let key: ObjectKey = "a".parse().unwrap();
        assert_eq!(store.list("").next().await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(store.put(&key, "x".into()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        is_there.store(true, Ordering::SeqCst);
        store.put(&key, "x".into()).await.unwrap();
        is_there.store(false, Ordering::SeqCst);
        assert_eq!((store.get(&key).await.unwrap(), store.list("").count().await), ("x".into(), 1));
    }
}
