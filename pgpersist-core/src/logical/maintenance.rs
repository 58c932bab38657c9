//! The lease of whoever changes which dumps a store has: of retention and of syncing, so that neither decides by what the
//! other is about to change.

use crate::error::Result;
use crate::logical::cluster_card::FOLDER;
use crate::logical::name::folder_of;
use crate::logical::shelf::Shelf;
use crate::store::lease::{Lease, LeaseOptions};

/// Takes it, for this cluster's dumps in this store.
///
/// # Errors
/// As [`Lease::take`].
pub(super) async fn lease(shelf: &Shelf, options: &LeaseOptions) -> Result<Lease> {
    let folder = format!("{FOLDER}/{}/leases/maintenance", folder_of(shelf.cluster())).parse()?;
    Lease::take(shelf.store().clone(), &folder, options).await
}
