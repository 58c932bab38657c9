//! From an address to a store: the only file that knows every kind of store.

use std::sync::Arc;

use crate::error::Result;
use crate::fs::os_user::OsUser;
use crate::store::BackupStore;
use crate::store::lazy::LazyBackupStore;
use crate::store::local::LocalBackupStore;
use crate::store::url::StoreUrl;
use crate::workers;

/// Where a store is to be had: one that is opened each time it is needed, or one that somebody holds open.
#[derive(Debug, Clone)]
pub enum StoreSource {
    /// The store at this address.
    Url(StoreUrl),
    /// This one.
    Open(Arc<dyn BackupStore>),
}

impl StoreSource {
    /// The store.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open(&self) -> Result<Arc<dyn BackupStore>> {
        match self {
            Self::Open(store) => Ok(store.clone()),
            Self::Url(url) => {
                let url = url.clone();
                workers::run(move || open(&url)).await
            }
        }
    }
}

impl From<StoreUrl> for StoreSource {
    fn from(url: StoreUrl) -> Self {
        Self::Url(url)
    }
}

/// Opens the store at `url`. Nothing is created before the first write.
///
/// # Errors
/// `Invalid` when there is something else at that place, `Denied` when it cannot be looked at.
pub fn open(url: &StoreUrl) -> Result<Arc<dyn BackupStore>> {
    open_for(url, None)
}

/// The same, opened by the first call: for a store that others can do without.
pub fn open_lazily(url: &StoreUrl, user: Option<OsUser>) -> Arc<dyn BackupStore> {
    let address = url.clone();
    Arc::new(LazyBackupStore::new(url.clone(), move || open_for(&address, user.clone())))
}

/// The same for a process that is root in place of this user; see [`LocalBackupStore::open_for`].
///
/// # Errors
/// As [`open`].
pub fn open_for(url: &StoreUrl, user: Option<OsUser>) -> Result<Arc<dyn BackupStore>> {
    match url {
        StoreUrl::Folder(path) => Ok(Arc::new(LocalBackupStore::open_for(path, user)?)),
        #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
        StoreUrl::Cloud(url) => Ok(Arc::new(crate::store::cloud::backup_store::CloudBackupStore::open(url)?)),
        #[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
        StoreUrl::Cloud(url) => Err(crate::store::cloud_url::not_built(url.cloud())),
    }
}
