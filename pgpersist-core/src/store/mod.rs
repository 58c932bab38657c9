//! Where stored objects live: the trait [`BackupStore`] with its contract, and the words it speaks in.
//!
//! An object is a run of bytes under a key. Dumps, side files and cards are objects; the floors above know nothing of
//! folders, buckets or maps.

pub mod below;
pub mod check;
pub mod cleanup;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
pub mod cloud;
pub mod cloud_url;
pub mod conditions;
pub mod conformance;
#[cfg(feature = "testing")]
pub mod faulty;
pub mod lazy;
pub mod lease;
pub mod local;
pub mod memory;
pub mod observation;
pub mod open;
pub mod read_ahead;
pub mod url;
pub mod write_probe;

use std::borrow::Borrow;
use std::fmt::{self, Debug, Display};
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, TryStreamExt};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::TEMPORARY_SUFFIX;
use crate::store::observation::Observation;

/// The longest key, in bytes; what object stores allow as well.
pub const LONGEST_KEY: usize = 1024;
/// The longest part of a key, in bytes: a file name of Linux less what the name of an unpublished file adds to it.
pub const LONGEST_KEY_PART: usize = 230;

/// A place that keeps objects: a folder, a bucket, a map in memory.
///
/// # Contract for implementors
/// The suite in `store/conformance.rs` (feature `testing`) asks for all of it but durability.
///
/// - **Atomicity.** A key shows nothing, the old object or the new one, whole, to every reader at every moment, also after
///   a crash. What is not yet published is never listed, read or counted.
/// - **Durability.** When `put`, `put_if_absent`, `delete` or `finish` returns success, the change survives the loss of
///   power of whatever keeps the store.
/// - **Consistency.** What one call published, every later call sees, `list` included.
/// - **Exclusion.** Of several concurrent `put_if_absent` or `finish` of one key exactly one succeeds.
/// - **Repeatability.** `put` and `delete` may be repeated freely. A `put_if_absent` whose answer was lost may report
///   `Conflict` when repeated: the caller compares what is there.
/// - **Cancelling.** Dropping the future of a change leaves the old state or the new one; it may still become the new one.
/// - **Errors.** `NotFound`: the object does not exist. `Conflict`: the key exists, or a key is used as a folder of others
///   (a store may refuse both `a` and `a/b`). `Invalid`: the request is wrong, or the place is no store. `Denied`: permissions;
///   [`Error::Locked`] where the store keeps the object by a rule of its own.
///   `Unavailable`: a full or read-only disk, a network; alone worth a repetition. `Damaged`: bytes that cannot be read back.
///
/// `Display` names the store for people, without secrets.
#[async_trait]
pub trait BackupStore: Debug + Display + Send + Sync + 'static {
    /// Stores an object, replacing what the key showed. For small objects; large ones take [`upload`](Self::upload).
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()>;

    /// Stores an object unless the key exists, which is a `Conflict` and changes nothing.
    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()>;

    /// Reads a whole object into memory: look at its size first where it is not known to be small.
    async fn get(&self, key: &ObjectKey) -> Result<Bytes>;

    /// Reads the bytes `range.start..range.end` of an object. What lies past its end is left out, so the answer may be
    /// shorter than the range, or empty; a range that ends before it starts is `Invalid`.
    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes>;

    /// How many ranges of a large object a reader does well to have on their way at once. Beside us one is taken while the next is
    /// read; a store far away should have more, since each has a long way, and each is in memory.
    fn reads_at_once(&self) -> usize {
        2
    }

    /// Size and age of one object.
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta>;

    /// All objects whose key starts with `prefix` (characters, not folders: `a/b` finds `a/bc/d`), in the byte order of
    /// their keys. A store that holds nothing yet is empty. Objects that come or go meanwhile may be seen or not.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>>;

    /// The folders directly below `prefix`, without it, in order: for `a/` and the keys `a/b/c`, `a/d` this is `b`. The
    /// prefix is empty or ends with a slash. A store may also name folders that hold nothing any more.
    ///
    /// This lists everything below the prefix; a store that can do better should.
    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let mut folders: Vec<String> = Vec::new();
        let mut listed = self.list(prefix);
        while let Some(meta) = listed.try_next().await? {
            let below = meta.key.as_str().get(prefix.len()..).unwrap_or_default();
            if let Some((folder, _)) = below.split_once('/')
                && folders.last().is_none_or(|last| last != folder)
            {
                folders.push(folder.to_owned());
            }
        }
        Ok(folders)
    }

    /// Removes an object. One that is already gone is fine.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Begins an object of unknown size. Nothing is seen under the key until [`Upload::finish`] returned, and nothing is
    /// left under it when the upload is dropped before. A key that exists is a `Conflict`, here or at the latest in `finish`.
    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>>;

    /// Has the store forget what uploads have left that never ended, where it keeps that without showing it: of keys that `is_ours`
    /// takes, and only what has shown no sign of life for `idle` by the store's own clock, since a living writer may be at the rest.
    /// Returns how many it was. No object is touched. May be repeated.
    ///
    /// A store that clears away by itself, or keeps nothing unseen, has nothing to do.
    async fn remove_unfinished(&self, idle: Duration, is_ours: &IsOurs<'_>) -> Result<u64> {
        let _ = (idle, is_ours);
        Ok(0)
    }

    /// Whether the store itself keeps a name that is taken, also when nobody looks before: asked for an object of ours that is there,
    /// and that has these bytes afterwards where it does not. Nothing where that cannot be told.
    ///
    /// A store that looks before it puts has to ask without a look.
    async fn honours_conditions(&self, taken: &ObjectKey, bytes: Bytes) -> Result<Option<bool>> {
        honoured(self.put_if_absent(taken, bytes).await)
    }

    /// What the store is like beyond this contract, found out by trying with objects below `scratch`, which whoever asks
    /// removes: for `store check`. A store of which the contract says everything has nothing to tell.
    async fn observe(&self, scratch: &ObjectKey) -> Result<Vec<Observation>> {
        let _ = scratch;
        Ok(Vec::new())
    }
}

/// What it says of a store that a put on the condition that the name is free, of a name that is taken, came to so.
fn honoured(put: Result<()>) -> Result<Option<bool>> {
    match put {
        Ok(()) => Ok(Some(false)),
        Err(error) => match error.kind() {
            ErrorKind::Conflict => Ok(Some(true)),
            // The right to replace was asked for first.
            ErrorKind::Denied => Ok(None),
            _ => Err(error),
        },
    }
}

/// Tells whether an object of this key would be one of ours.
pub type IsOurs<'a> = dyn Fn(&ObjectKey) -> bool + Send + Sync + 'a;

/// An object in the making.
#[async_trait]
pub trait Upload: Send {
    /// Appends bytes. Memory stays bounded: a slow store makes this wait. After an error the upload is void: drop it.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Publishes the object, durably, unless the key exists: `Conflict`, and what is there stays.
    async fn finish(self: Box<Self>) -> Result<ObjectMeta>;
}

/// The name of an object: relative, parts separated by `/`.
///
/// No part is empty, `.` or `..`, longer than [`LONGEST_KEY_PART`] bytes, or ends like an unpublished file; there are no
/// control characters; the whole has at most [`LONGEST_KEY`] bytes. So every key is a valid key of every store, and none
/// leads out of a folder; a service that takes a backslash for a slash refuses a key with one as `Invalid`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts, outermost first; there is at least one.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// What stands before the last part, where there is such a thing.
    pub fn folder(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(folder, _)| folder)
    }

    /// A key below this one, as a folder.
    ///
    /// # Errors
    /// `Invalid` when the whole is no valid key.
    pub fn join(&self, below: &str) -> Result<Self> {
        format!("{}/{below}", self.0).parse()
    }
}

impl Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

// Text and key order alike, so a sorted map of keys can be asked for a prefix.
impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl FromStr for ObjectKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match fault(text) {
            None => Ok(Self(text.to_owned())),
            Some(fault) => {
                let shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
                Err(Error::invalid(
                    format!("`{shown}` is no name of an object: {fault}"),
                    "see `pgpersist list` for the names in the store",
                ))
            }
        }
    }
}

fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > LONGEST_KEY {
        return Some("it is longer than 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Some("it holds a control character");
    }
    text.split('/').find_map(|part| match part {
        "" => Some("it has an empty part"),
        "." | ".." => Some("it has a part `.` or `..`"),
        part if part.len() > LONGEST_KEY_PART => Some("it has a part longer than 230 bytes"),
        part if part.ends_with(TEMPORARY_SUFFIX) => Some("a part ends like an unpublished file"),
        _ => None,
    })
}

/// What a store tells about an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectMeta {
    /// Its key.
    pub key: ObjectKey,
    /// Its size.
    pub size_bytes: u64,
    /// When it was published, by the clock of whatever keeps the store.
    #[serde(with = "time::serde::rfc3339")]
    pub modified: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_relative_and_lead_nowhere_else() {
        for good in ["a", "a/b", "über/x y%20.gz", ".pgpersist/main/cluster.json", "a..b", "...", &"x".repeat(230)] {
            assert_eq!(good.parse::<ObjectKey>().unwrap().as_str(), good);
        }
        let long = "x/".repeat(512) + "x";
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b", "a\nb", "a/.b.1.pgpersist-tmp", &"x".repeat(231), &long] {
            let error = bad.parse::<ObjectKey>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}");
            assert!(!error.to_string().contains('\n'), "{bad:?}");
        }
    }

    #[test]
    fn a_key_knows_its_parts() {
        let key: ObjectKey = "a/b/c.gz".parse().unwrap();
        assert_eq!(key.parts().collect::<Vec<_>>(), ["a", "b", "c.gz"]);
        assert_eq!((key.file_name(), key.folder()), ("c.gz", Some("a/b")));
        assert_eq!("c".parse::<ObjectKey>().unwrap().folder(), None);
        assert!(key.join("../x").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_key_that_escapes(text in ".{0,40}") {
            if let Ok(key) = text.parse::<ObjectKey>() {
                let path = std::path::Path::new(key.as_str());
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
