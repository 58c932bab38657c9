//! This cluster's shelf in the configured store, for commands that look at what is there.

use crate::context::Context;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::shelf::Shelf;

/// The shelf. An absent folder is most often a volume that is not mounted, and must not pass for a store without dumps.
pub(crate) fn existing_shelf(context: &Context) -> Result<Shelf> {
    let config = context.config()?;
    // What is wrong with the path itself is an error, and told first.
    let shelf = configured::stores::shelf(config)?;
    if let Some(folder) = config.primary_store()?.url.folder().filter(|folder| !folder.exists()) {
        context.progress.warn(&format!("there is no folder {}: is its volume mounted?", folder.display()));
    }
    Ok(shelf)
}
