//! The store that the configuration names, and this cluster's shelf in it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::context::Context;
use pgpersist_core::error::Result;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::store::BackupStore;
use pgpersist_core::store::open;

/// The primary store.
///
/// # Errors
/// Exit 2 with the remedy when none is named.
pub(crate) fn primary(context: &Context) -> Result<Arc<dyn BackupStore>> {
    open::open(&context.config()?.primary_store()?.url)
}

/// The same for commands that look at what is there: an absent folder is most often a volume that is not mounted, and must
/// not pass for a store without dumps.
pub(crate) fn existing_shelf(context: &Context) -> Result<Shelf> {
    // What is wrong with the path itself is an error, and told first.
    let shelf = shelf(context)?;
    if let Some(folder) = context.config()?.primary_store()?.url.folder().filter(|folder| !folder.exists()) {
        context.progress.warn(&format!("there is no folder {}: is its volume mounted?", folder.display()));
    }
    Ok(shelf)
}

/// This cluster's dumps in the primary store.
pub(crate) fn shelf(context: &Context) -> Result<Shelf> {
    let cluster = &context.config()?.cluster;
    Ok(Shelf::new(primary(context)?, cluster.name.clone(), cluster.databases.clone()))
}

/// The stores that are folders.
pub(crate) fn folders(context: &Context) -> Result<Vec<PathBuf>> {
    Ok(context.config()?.stores.iter().filter_map(|store| store.url.folder()).map(ToOwned::to_owned).collect())
}
