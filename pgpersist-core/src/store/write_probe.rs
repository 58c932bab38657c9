//! [`WriteProbe`]: a small object that is written to see whether a store takes writes.
//!
//! It is written anew each time. Where nothing may be replaced, only a new name can tell: then it has one a day, so that their number
//! is bounded.

use bytes::Bytes;
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{BackupStore, ObjectKey, ObjectMeta};

/// The names of one probe on one day.
#[derive(Debug, Clone)]
pub struct WriteProbe {
    /// The one that is written anew.
    pub key: ObjectKey,
    today: ObjectKey,
}

impl WriteProbe {
    /// The probe of this name, as it is on the day of this moment.
    ///
    /// # Errors
    /// `Invalid` when the name leaves no room for a date.
    pub fn new(key: ObjectKey, now: OffsetDateTime) -> Result<Self> {
        let (year, month, day) = now.to_calendar_date();
        let today = format!("{key}-{year:04}{:02}{day:02}", u8::from(month)).parse()?;
        Ok(Self { key, today })
    }

    /// Its object, where it was written so recently by the store's clock; today, where it may not be replaced.
    ///
    /// # Errors
    /// What the store says.
    pub async fn written_within(&self, store: &dyn BackupStore, age: time::Duration, now: OffsetDateTime) -> Result<Option<ObjectMeta>> {
        let meta = match store.head(&self.key).await {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_recent = now - meta.modified < age || exists(store, &self.today).await?;
        Ok(is_recent.then_some(meta))
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the store says to a write: `Denied` when not even a new object is taken.
    pub async fn write(&self, store: &dyn BackupStore, bytes: Bytes) -> Result<()> {
        let refused: Error = match store.put(&self.key, bytes.clone()).await {
            Err(error) if error.kind() == ErrorKind::Denied => error,
            written => return written,
        };
        if !exists(store, &self.key).await? {
            // Nothing was to be replaced.
            return Err(refused);
        }
        match store.put_if_absent(&self.today, bytes).await {
            // It was possible today.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            written => written,
        }
    }
}

async fn exists(store: &dyn BackupStore, key: &ObjectKey) -> Result<bool> {
    match store.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
