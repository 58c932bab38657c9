//! From an address to a store: the only file that knows every kind of store.

use std::sync::Arc;

use crate::error::Result;
use crate::store::BackupStore;
use crate::store::local::LocalBackupStore;
use crate::store::url::StoreUrl;

/// Opens the store at `url`. Nothing is created before the first write.
///
/// # Errors
/// `Invalid` when there is something else at that place, `Denied` when it cannot be looked at.
pub fn open(url: &StoreUrl) -> Result<Arc<dyn BackupStore>> {
    match url {
        StoreUrl::Folder(path) => Ok(Arc::new(LocalBackupStore::open(path)?)),
    }
}
