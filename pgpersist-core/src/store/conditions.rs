//! Stores that ignore the condition that a name is free, as some servers of S3's protocol do: they can be used, with a weaker promise,
//! and whoever uses one is told.

use bytes::Bytes;

use crate::store::{BackupStore, ObjectKey};

/// What that means.
pub const WEAKER: &str =
    "the server ignores the condition that a name is free: two that write the same name at the same moment overwrite each other";
/// What to do about it.
pub const REMEDY: &str = "let one host alone write into this store, or use a server that honours conditions";

/// What is to be said of a store, found out on an object of ours with these bytes. Nothing where all is well, or cannot be found out
/// now.
pub async fn warning(store: &dyn BackupStore, taken: &ObjectKey, bytes: Bytes) -> Option<String> {
    let honours = store.honours_conditions(taken, bytes).await.ok().flatten();
    (honours == Some(false)).then(|| format!("{store} is used with a weaker promise: {WEAKER}; {REMEDY}"))
}
