//! The stores that the configuration names, and the cluster's dumps in them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::load::Config;
use crate::configured::os_user;
use crate::error::Result;
use crate::logical::shelf::Shelf;
use crate::store::BackupStore;
use crate::store::open;

/// The primary store.
///
/// # Errors
/// `Invalid` with the remedy when none is named; as [`open::open`]; as root, as [`os_user::named`].
pub fn primary(config: &Config) -> Result<Arc<dyn BackupStore>> {
    open::open_for(&config.primary_store()?.url, os_user::instead_of_root(config)?)
}

/// The cluster's dumps in the primary store.
///
/// # Errors
/// As [`primary`].
pub fn shelf(config: &Config) -> Result<Shelf> {
    Ok(Shelf::new(primary(config)?, config.cluster.name.clone(), config.cluster.databases.clone()))
}

/// The same for what can do without a store; nothing where none is named.
///
/// # Errors
/// As [`primary`].
pub fn shelf_if_any(config: &Config) -> Result<Option<Shelf>> {
    if config.stores.is_empty() { Ok(None) } else { shelf(config).map(Some) }
}

/// The stores that are folders.
pub fn folders(config: &Config) -> Vec<PathBuf> {
    config.stores.iter().filter_map(|store| store.url.folder()).map(ToOwned::to_owned).collect()
}
