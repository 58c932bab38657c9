//! The stores that the configuration names, and the cluster's dumps in them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::load::{Config, StoreConfig};
use crate::configured::os_user;
use crate::error::Result;
use crate::logical::prune::PruneRequest;
use crate::logical::shelf::{CopyShelf, Shelf};
use crate::store::BackupStore;
use crate::store::open;

/// The primary store.
///
/// # Errors
/// `Invalid` with the remedy when none is named; as [`open::open`]; as root, as [`os_user::named`].
pub fn primary(config: &Config) -> Result<Arc<dyn BackupStore>> {
    open::open_for(&config.primary_store()?.url, os_user::instead_of_root(config)?)
}

/// The cluster's dumps in the primary store, encrypted as it is configured, with the others as its copies. Those are opened when they
/// are needed.
///
/// # Errors
/// As [`primary`].
pub fn shelf(config: &Config) -> Result<Shelf> {
    let copies = copies(config, config.stores.get(1..).unwrap_or_default())?;
    Ok(on(config, config.primary_store()?, primary(config)?)?.with_copies(copies))
}

/// What is kept in each store, in their order. The primary one gives nothing away that a copy lacks and would keep, also where
/// an option names the primary one alone.
///
/// # Errors
/// As [`primary`].
pub fn prune_requests(config: &Config) -> Result<Vec<PruneRequest>> {
    let first = config.primary_store()?;
    let guards = match config.configured_stores.split_first() {
        Some((configured, others)) if configured.url == first.url => others,
        _ => config.stores.get(1..).unwrap_or_default(),
    };
    let shelf = on(config, first, primary(config)?)?.with_copies(copies(config, guards)?);
    let mut requests = vec![PruneRequest::new(shelf, first.retention)];
    for (place, copy) in copies(config, config.stores.get(1..).unwrap_or_default())?.into_iter().enumerate() {
        requests.push(PruneRequest { place: place + 2, ..PruneRequest::new(copy.shelf, copy.retention) });
    }
    Ok(requests)
}

fn copies(config: &Config, stores: &[StoreConfig]) -> Result<Vec<CopyShelf>> {
    let user = os_user::instead_of_root(config)?;
    let copy = |store: &StoreConfig| {
        let shelf = on(config, store, open::open_lazily(&store.url, user.clone()))?;
        Ok(CopyShelf { shelf, retention: store.retention })
    };
    stores.iter().map(copy).collect()
}

/// The cluster's dumps in an opened store, with its encryption, and with what this run says of reading.
fn on(config: &Config, settings: &StoreConfig, store: Arc<dyn BackupStore>) -> Result<Shelf> {
    let shelf = Shelf::new(store, config.cluster.name.clone(), config.cluster.databases.clone());
    let encryption = settings.encryption.clone().with_identity_file(config.reading.identity_file.clone());
    let shelf = shelf.encrypted(encryption)?;
    Ok(if config.reading.accepts_unencrypted { shelf.accepting_unencrypted() } else { shelf })
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
