//! Stores that ignore the condition that a name is free, as some servers of S3's protocol do: they can be used, with a weaker promise,
//! and whoever uses one is told.

use bytes::Bytes;

use crate::error::{ErrorKind, Result};
use crate::store::{BackupStore, ObjectKey};

/// What that means.
pub const WEAKER: &str =
    "the server ignores the condition that a name is free: two that write the same name at the same moment overwrite each other";
/// What to do about it.
pub const REMEDY: &str = "let one host alone write into this store, or use a server that honours conditions";

/// What it says of a store that a put on the condition that the name is free, of a name that is taken, came to so.
///
/// # Errors
/// One that says nothing about it.
pub(super) fn honoured(put: Result<()>) -> Result<Option<bool>> {
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

/// What is to be said of a store, found out on an object of ours with these bytes. Nothing where all is well, or cannot be found out
/// now.
pub async fn warning(store: &dyn BackupStore, taken: &ObjectKey, bytes: Bytes) -> Option<String> {
    let honours = store.honours_conditions(taken, bytes).await.ok().flatten();
    (honours == Some(false)).then(|| format!("{store} is used with a weaker promise: {WEAKER}; {REMEDY}"))
}
