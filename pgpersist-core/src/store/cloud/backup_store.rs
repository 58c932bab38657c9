//! [`CloudBackupStore`]: objects in a bucket.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Attribute, AttributeValue, Attributes, ObjectStore, PutMode, PutOptions, TagSet};
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::store::cloud::errors;
use crate::store::cloud::habits::Habits;
use crate::store::cloud::opened::{Opened, Publishing, certificates};
use crate::store::cloud::pace::Pace;
use crate::store::cloud::requests::Requests;
use crate::store::cloud::transport::Connector;
use crate::store::cloud::tuning::Tuning;
use crate::store::cloud::upload::CloudUpload;
use crate::store::cloud_url::{Cloud, CloudUrl};
use crate::store::observation::Observation;
use crate::store::{BackupStore, IsOurs, LONGEST_KEY, ObjectKey, ObjectMeta, Upload, honoured};

/// What an object carries so that its writer knows it again when an answer was lost. Azure takes no hyphen in such a name.
pub(super) const NONCE: &str = "pgpersistnonce";
/// An object that is replaced more often while it is read is no note of ours.
const MOST_CHANGES: usize = 16;

/// Objects in a bucket of S3, Google Cloud Storage or Azure, or of a server that speaks like one of them.
///
/// Names are taken by conditional requests, so of several writers one alone gets a name. Before such a request it is asked
/// whether the name is free: a server that ignores conditions, as some do, is then still kept from overwriting an object, unless
/// two writers come at the same moment. `pgpersist store check` tells such servers, and so do `init`, `dump` and `health` where one is
/// used.
///
/// Objects of unknown size are uploaded in parts, several at once; what is in flight is in memory, and no more. A download is
/// done in ranges, several at once. Requests are repeated where that can help, for at most a minute.
#[derive(Debug, Clone)]
pub struct CloudBackupStore {
    pub(super) bucket: Arc<Bucket>,
}

/// The bucket and what every request needs.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) url: CloudUrl,
    pub(super) client: Arc<dyn ObjectStore>,
    pub(super) publishing: Publishing,
    pub(super) requests: Option<Requests>,
    pub(super) tuning: Tuning,
    pub(super) habits: Arc<Habits>,
    pub(super) pace: Option<Arc<Pace>>,
}

impl CloudBackupStore {
    /// A store at this address, with the credentials that its cloud's users expect: environment, files, the machine's own.
    /// Blocks for a look at them; sends nothing.
    ///
    /// # Errors
    /// `Invalid` when the address lacks something, or this build knows no such cloud; `NotFound` when a profile is named that
    /// is not there; `File` when a file that is named cannot be read.
    pub fn open(url: &CloudUrl) -> Result<Self> {
        let url = &located(url)?;
        let tuning = Tuning::of(url);
        let habits = Arc::new(Habits::new(url.cloud()));
        let pace = url.rate_limit().map(|bytes| Arc::new(Pace::new(bytes)));
        let connector = Connector { tuning, habits: Arc::clone(&habits), pace: pace.clone(), certificates: certificates(url)? };
        let Opened { client, publishing, requests } = open(url, connector)?;
        Ok(Self { bucket: Arc::new(Bucket { url: url.clone(), client, publishing, requests, tuning, habits, pace }) })
    }

    /// Where it is.
    pub fn url(&self) -> &CloudUrl {
        &self.bucket.url
    }
}

/// The address with what the environment says of it.
fn located(url: &CloudUrl) -> Result<CloudUrl> {
    #[cfg(feature = "s3")]
    if url.cloud() == Cloud::S3 {
        return crate::store::cloud::s3::located(url);
    }
    Ok(url.clone())
}

fn open(url: &CloudUrl, connector: Connector) -> Result<Opened> {
    match url.cloud() {
        #[cfg(feature = "s3")]
        Cloud::S3 => crate::store::cloud::s3::open(url, connector),
        #[cfg(feature = "gcs")]
        Cloud::Gcs => crate::store::cloud::gcs::open(url, connector),
        #[cfg(feature = "azure")]
        Cloud::Azure => crate::store::cloud::azure::open(url, connector),
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        cloud => Err(crate::store::cloud_url::not_built(cloud)),
    }
}

impl Bucket {
    /// Where an object is in the bucket.
    pub(super) fn path(&self, key: &ObjectKey) -> Result<Path> {
        let prefix = self.url.prefix();
        let path = if prefix.is_empty() { key.as_str().to_owned() } else { format!("{prefix}/{key}") };
        if path.len() > LONGEST_KEY {
            return Err(Error::invalid(
                format!("{key} is too long with the prefix of {}", self.url.place()),
                "give the store a shorter prefix",
            ));
        }
        if self.url.cloud() == Cloud::Azure && path.contains('\\') {
            return Err(Error::invalid(format!("{key} holds a backslash, which Azure takes for a slash"), "give it another name"));
        }
        Path::parse(&path).map_err(|_| Error::invalid(format!("{key} is no name of an object there"), ""))
    }

    /// What an error of an object means.
    pub(super) fn fault(&self, doing: &str, key: &ObjectKey, error: object_store::Error) -> Error {
        errors::translate(&self.url, &format!("{doing} {key}"), error)
    }

    /// What every object gets that is written.
    pub(super) fn attributes(&self, nonce: &str) -> Attributes {
        let mut attributes = Attributes::new();
        if let Some(class) = self.url.option("storage_class") {
            attributes.insert(Attribute::StorageClass, AttributeValue::from(class.to_owned()));
        }
        attributes.insert(Attribute::Metadata(NONCE.into()), AttributeValue::from(nonce.to_owned()));
        attributes
    }

    pub(super) fn tags(&self) -> TagSet {
        let mut tags = TagSet::default();
        for (name, value) in self.url.tags() {
            tags.push(name, value);
        }
        tags
    }

    pub(super) async fn head(&self, key: &ObjectKey, path: &Path) -> Result<(ObjectMeta, Attributes)> {
        let found = self.find("find", key, path).await?;
        Ok((meta(key, &found.meta)?, found.attributes))
    }

    /// Whether what has the name was written by whoever has the nonce.
    pub(super) async fn is_mine(&self, key: &ObjectKey, path: &Path, nonce: &str) -> Option<ObjectMeta> {
        let (meta, attributes) = self.head(key, path).await.ok()?;
        let found = attributes.get(&Attribute::Metadata(NONCE.into()))?;
        (found.as_ref() == nonce).then_some(meta)
    }

    /// A `Conflict` when something has the name.
    pub(super) async fn must_be_free(&self, key: &ObjectKey, path: &Path) -> Result<()> {
        match self.head(key, path).await {
            Ok(_) => Err(Error::conflict(format!("{key} exists already in {}", self.url.place()), "")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stores bytes unless the name is taken.
    pub(super) async fn put_new(
        &self,
        key: &ObjectKey,
        path: &Path,
        bytes: impl Into<object_store::PutPayload>,
        nonce: &str,
    ) -> Result<()> {
        match self.put_unseen(key, path, bytes, nonce).await {
            Ok(()) => Ok(()),
            Err(error) => self.refused(key, path, nonce, error).await,
        }
    }

    /// Puts bytes on the condition that the name is free, and looks neither before nor behind.
    async fn put_unseen(&self, key: &ObjectKey, path: &Path, bytes: impl Into<object_store::PutPayload>, nonce: &str) -> Result<()> {
        let options = PutOptions { mode: PutMode::Create, attributes: self.attributes(nonce), tags: self.tags(), ..PutOptions::default() };
        let put = self.client.put_opts(path, bytes.into(), options).await;
        put.map(|_| ()).map_err(|error| self.fault("write", key, error))
    }

    /// What it means that a new object was refused. An attempt may have come through, and only its answer was lost: what others say
    /// to its repetition differs. And where the name is taken, the right to replace may be asked for before the condition.
    pub(super) async fn refused(&self, key: &ObjectKey, path: &Path, nonce: &str, error: Error) -> Result<()> {
        if self.is_mine(key, path, nonce).await.is_some() {
            return Ok(());
        }
        if error.kind() == ErrorKind::Denied
            && let Err(taken) = self.must_be_free(key, path).await
            && taken.kind() == ErrorKind::Conflict
        {
            return Err(taken);
        }
        Err(error)
    }
}

/// What the cloud tells of an object.
fn meta(key: &ObjectKey, found: &object_store::ObjectMeta) -> Result<ObjectMeta> {
    let modified = OffsetDateTime::from_unix_timestamp(found.last_modified.timestamp())
        .map_err(|_| Error::damaged(format!("{key} has no possible date"), ""))?;
    Ok(ObjectMeta { key: key.clone(), size_bytes: found.size, modified })
}

/// A name that no other writer has.
pub(super) fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl fmt::Display for CloudBackupStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.bucket.url.place())
    }
}

#[async_trait]
impl BackupStore for CloudBackupStore {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let (path, nonce) = (self.bucket.path(key)?, nonce());
        let options = PutOptions { attributes: self.bucket.attributes(&nonce), tags: self.bucket.tags(), ..PutOptions::default() };
        match self.bucket.client.put_opts(&path, bytes.into(), options).await {
            // Who may not replace may not even repeat a request whose answer was lost.
            Err(error) if errors::is_forbidden(&error) && self.bucket.is_mine(key, &path, &nonce).await.is_some() => Ok(()),
            put => put.map(|_| ()).map_err(|error| self.bucket.fault("write", key, error)),
        }
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let path = self.bucket.path(key)?;
        self.bucket.must_be_free(key, &path).await?;
        self.bucket.put_new(key, &path, bytes, &nonce()).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.get_range(key, 0..u64::MAX).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end {
            return Err(Error::invalid(format!("the range {}..{} of {key} ends before it starts", range.start, range.end), ""));
        }
        let path = self.bucket.path(key)?;
        for _ in 0..MOST_CHANGES {
            match self.bucket.read(key, &path, &range).await {
                // Somebody has replaced it meanwhile: what is there now is read instead.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                read => return read,
            }
        }
        Err(Error::unavailable(
            format!("{key} changed each time that it was read"),
            "try again; only notes of ours are replaced, and seldom",
        ))
    }

    fn reads_at_once(&self) -> usize {
        self.bucket.tuning.concurrency
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let path = self.bucket.path(key)?;
        Ok(self.bucket.head(key, &path).await?.0)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        let own = self.bucket.url.prefix();
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = match (own, folder) {
            ("", folder) => folder.to_owned(),
            (own, "") => own.to_owned(),
            (own, folder) => format!("{own}/{folder}"),
        };
        let Ok(below) = Path::parse(&below) else {
            // No key has such a beginning.
            return stream::empty().boxed();
        };
        let strip = if own.is_empty() { 0 } else { own.len() + 1 };
        self.bucket
            .client
            .list(Some(&below))
            .map_err(|error| errors::translate(&self.bucket.url, "list the objects", error))
            .try_filter_map(move |found| {
                // What is no key is none of ours: other people's objects, and uploads that are not published yet.
                let key = found.location.as_ref().get(strip..).and_then(|key| key.parse::<ObjectKey>().ok());
                let told = key.filter(|key| key.as_str().starts_with(prefix)).map(|key| meta(&key, &found)).transpose();
                future::ready(told)
            })
            .boxed()
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let own = self.bucket.url.prefix();
        let below = format!("{own}/{prefix}");
        let Ok(below) = Path::parse(below.trim_matches('/')) else { return Ok(Vec::new()) };
        let listed = self.bucket.client.list_with_delimiter(Some(&below)).await;
        let listed = listed.map_err(|error| errors::translate(&self.bucket.url, "list the folders", error))?;
        let mut folders: Vec<String> = listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        folders.sort_unstable();
        Ok(folders)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let path = self.bucket.path(key)?;
        match self.bucket.delete(key, &path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let path = self.bucket.path(key)?;
        self.bucket.must_be_free(key, &path).await?;
        Ok(Box::new(CloudUpload::new(Arc::clone(&self.bucket), key.clone(), path)))
    }

    async fn remove_unfinished(&self, idle: Duration, is_ours: &IsOurs<'_>) -> Result<u64> {
        self.bucket.remove_unfinished(idle, is_ours).await
    }

    async fn honours_conditions(&self, taken: &ObjectKey, bytes: Bytes) -> Result<Option<bool>> {
        let path = self.bucket.path(taken)?;
        honoured(self.bucket.put_unseen(taken, &path, bytes, &nonce()).await)
    }

    async fn observe(&self, scratch: &ObjectKey) -> Result<Vec<Observation>> {
        self.bucket.observe(scratch).await
    }
}
