//! The stores that the configuration names, and the cluster's dumps in them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::load::{Config, StoreConfig};
use crate::configured::{drill, os_user};
use crate::encryption::settings::EncryptionSettings;
use crate::error::Result;
use crate::logical::prune::PruneRequest;
use crate::logical::shelf::{CopyShelf, Shelf};
use crate::progress::{Event, ProgressSink};
use crate::store::BackupStore;
use crate::store::open;

/// The primary store: the program's own, where it has one.
///
/// # Errors
/// `Invalid` with the remedy when none is named; as [`open::open`]; as root, as [`os_user::named`].
pub fn primary(config: &Config) -> Result<Arc<dyn BackupStore>> {
    if let Some(own) = &config.own_store {
        return Ok(own.store.clone());
    }
    open::open_for(&config.primary_store()?.url, os_user::instead_of_root(config)?)
}

/// The cluster's dumps in the primary store, encrypted as it is configured, with the others as its copies. Those are opened when they
/// are needed.
///
/// # Errors
/// As [`primary`].
pub fn shelf(config: &Config) -> Result<Shelf> {
    if let Some(own) = &config.own_store {
        return on(config, &own.encryption, own.store.clone());
    }
    let copies = copies(config, config.stores.get(1..).unwrap_or_default())?;
    Ok(on(config, &config.primary_store()?.encryption, primary(config)?)?.with_copies(copies))
}

/// What is kept in each store, in their order. The primary one gives nothing away that a copy lacks and would keep, also where
/// an option names the primary one alone. Blocking: it looks for what this machine remembers of keys.
///
/// # Errors
/// As [`primary`].
pub fn prune_requests(config: &Config) -> Result<Vec<PruneRequest>> {
    if let Some(own) = &config.own_store {
        return Ok(vec![PruneRequest::new(remembering(config, shelf(config)?), own.retention)]);
    }
    let first = config.primary_store()?;
    let guards = match config.configured_stores.split_first() {
        Some((configured, others)) if configured.url == first.url => others,
        _ => config.stores.get(1..).unwrap_or_default(),
    };
    let shelf = on(config, &first.encryption, primary(config)?)?.with_copies(copies(config, guards)?);
    let mut requests = vec![PruneRequest::new(remembering(config, shelf), first.retention)];
    for (place, copy) in copies(config, config.stores.get(1..).unwrap_or_default())?.into_iter().enumerate() {
        requests.push(PruneRequest { place: place + 2, ..PruneRequest::new(copy.shelf, copy.retention) });
    }
    Ok(requests)
}

/// With what this machine remembers of keys, where it has the cluster. It helps to look, and nobody needs it: the cluster may lie elsewhere, or
/// be somebody else's. Blocking.
pub fn remembering(config: &Config, shelf: Shelf) -> Shelf {
    match drill::volume(config) {
        Ok(Some(own)) => shelf.remembering_keys(own),
        _ => shelf,
    }
}

/// The same for whoever looks at what is there. An absent folder is most often a volume that is not mounted, and must not pass for a
/// store without dumps: that is a warning.
///
/// # Errors
/// As [`primary`].
pub fn existing_shelf(config: &Config, progress: &dyn ProgressSink) -> Result<Shelf> {
    // What is wrong with the path itself is an error, and told first.
    let shelf = shelf(config)?;
    let folder = config.stores.first().and_then(|store| store.url.folder());
    if let Some(folder) = folder.filter(|folder| !folder.exists()) {
        progress.event(Event::Warning(format!("there is no folder {}: is its volume mounted?", folder.display())));
    }
    Ok(shelf)
}

fn copies(config: &Config, stores: &[StoreConfig]) -> Result<Vec<CopyShelf>> {
    let user = os_user::instead_of_root(config)?;
    let copy = |store: &StoreConfig| {
        let shelf = on(config, &store.encryption, open::open_lazily(&store.url, user.clone()))?;
        Ok(CopyShelf { shelf, retention: store.retention })
    };
    stores.iter().map(copy).collect()
}

/// The cluster's dumps in an opened store, with its encryption, and with what this run says of reading.
fn on(config: &Config, encryption: &EncryptionSettings, store: Arc<dyn BackupStore>) -> Result<Shelf> {
    let shelf = Shelf::new(store, config.cluster.name.clone(), config.cluster.databases.clone());
    let encryption = encryption.clone().with_identity_file(config.reading.identity_file.clone());
    let shelf = shelf.encrypted(encryption)?;
    Ok(if config.reading.accepts_unencrypted { shelf.accepting_unencrypted() } else { shelf })
}

/// The same for what can do without a store; nothing where none is named.
///
/// # Errors
/// As [`primary`].
pub fn shelf_if_any(config: &Config) -> Result<Option<Shelf>> {
    if config.own_store.is_none() && config.stores.is_empty() { Ok(None) } else { shelf(config).map(Some) }
}

/// The stores that are folders.
pub fn folders(config: &Config) -> Vec<PathBuf> {
    config.stores.iter().filter_map(|store| store.url.folder()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::SourceFile;
    use crate::config::sources::Sources;
    use crate::error::ErrorKind;
    use crate::store::memory::MemoryBackupStore;

    fn config(text: &str) -> Config {
        let file = Some(SourceFile { path: "/etc/p.toml".into(), text: text.to_owned() });
        Config::load(&Sources { file, working_directory: "/".into(), ..Sources::default() }).unwrap()
    }

    #[test]
    fn the_programs_own_store_is_the_only_one_and_encrypted_as_the_configured_one() {
        let text = "[[store]]\nurl = '/nowhere/first'\nencryption = { passphrase_file = '/nowhere/passphrase' }\n\
                    [[store]]\nurl = '/nowhere/second'\n[retention]\nkeep_last = 3";
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let config = config(text).with_own_store(store.clone());
        let shelf = shelf(&config).unwrap();
        assert!(Arc::ptr_eq(shelf.store(), &store) && shelf.copies().is_empty());
        assert!(shelf.encryption().is_some_and(EncryptionSettings::encrypts));
        assert!(Arc::ptr_eq(&primary(&config).unwrap(), &store) && folders(&config).is_empty());
        let requests = prune_requests(&config).unwrap();
        assert_eq!(requests.iter().map(|request| request.retention.keep_last).collect::<Vec<_>>(), [Some(3)]);
        assert!(requests.iter().all(|request| Arc::ptr_eq(request.shelf.store(), &store)));
    }

    #[test]
    fn it_need_not_be_configured() {
        let none = config("");
        assert_eq!(shelf(&none).unwrap_err().kind(), ErrorKind::Invalid);
        assert!(shelf_if_any(&none).unwrap().is_none());
        let own = none.with_own_store(Arc::new(MemoryBackupStore::new()));
        assert!(shelf_if_any(&own).unwrap().is_some());
    }
}
