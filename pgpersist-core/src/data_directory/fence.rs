//! A fence: no server is started in a directory until somebody takes it away, so that what is there can be looked at.
//!
//! It is a small file among our own, so it outlives pods and machines. Nothing but [`remove`] takes it away.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::wording::moment;

/// The name of the file in the folder of our own files.
const FILE_NAME: &str = "fenced.json";

/// Why no server is started here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// When it was put up.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// What its builder said.
    pub reason: Option<String>,
}

impl Fence {
    /// How people are told: since when, and why.
    pub fn describe(&self) -> String {
        let since = moment(self.since);
        match &self.reason {
            Some(reason) => format!("fenced since {since}: {reason}"),
            None => format!("fenced since {since}"),
        }
    }
}

/// The fence of a directory, if there is one. A file that cannot be understood is a fence: whoever put it there meant it.
/// Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn read(own: &OwnFolder) -> Result<Option<Fence>> {
    let path = path(own);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or(Fence { since: OffsetDateTime::UNIX_EPOCH, reason: None }))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

/// Puts up a fence, durably. One that stands already stays as it is, and is returned. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn put(own: &OwnFolder, fence: Fence) -> Result<Fence> {
    if let Some(standing) = read(own)? {
        return Ok(standing);
    }
    own.create()?;
    let text = serde_json::to_string_pretty(&fence).map_err(|e| Error::Bug(format!("could not write {FILE_NAME}: {e}")))?;
    durable::write(&path(own), format!("{text}\n").as_bytes(), 0o600)?;
    Ok(fence)
}

/// Takes the fence away, durably; false where there was none. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn remove(own: &OwnFolder) -> Result<bool> {
    let stands = read(own)?.is_some();
    if stands {
        durable::remove_file(&path(own))?;
    }
    Ok(stands)
}

/// Refuses to go on in a fenced directory. Blocking.
///
/// # Errors
/// `Unsafe`, with the way out; [`Error::File`].
pub fn check(own: &OwnFolder) -> Result<()> {
    match read(own)? {
        None => Ok(()),
        Some(fence) => {
            Err(Error::refused(format!("no server is started here: {}", fence.describe()), "when all is well, run `pgpersist unfence`"))
        }
    }
}

fn path(own: &OwnFolder) -> PathBuf {
    own.path().join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use time::macros::datetime;

    fn fence(reason: &str) -> Fence {
        Fence { since: datetime!(2026-02-08 10:00:00.5 UTC), reason: Some(reason.to_owned()) }
    }

    #[test]
    fn a_fence_stands_until_it_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnFolder::locate(&folder.path().join("data")).unwrap();
        assert_eq!(read(&own).unwrap(), None);
        check(&own).unwrap();
        assert_eq!(put(&own, fence("odd rows")).unwrap(), fence("odd rows"));
        assert_eq!(put(&own, fence("another")).unwrap(), fence("odd rows"));
        let error = check(&own).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsafe);
        assert_eq!(error.to_string(), "no server is started here: fenced since 2026-02-08T10:00:00Z: odd rows");
        assert!(remove(&own).unwrap() && !remove(&own).unwrap());
        check(&own).unwrap();
    }

    #[test]
    fn a_fence_that_cannot_be_read_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnFolder::locate(&folder.path().join("data")).unwrap();
        own.create().unwrap();
        durable::write(&path(&own), b"", 0o600).unwrap();
        assert!(check(&own).is_err() && remove(&own).unwrap());
    }
}
