//! Whether somebody supervises a cluster: an agent holds the claim of its directory for as long as it lives.

use crate::error::Result;
use crate::fs::lock_file;
use crate::server::cluster::Cluster;
use crate::workers;

/// Whether the claim is held, by an agent or by a command that changes the directory at this moment. Takes nothing.
///
/// # Errors
/// [`Error::File`](crate::error::Error::File) when the lock cannot be looked at.
pub async fn is_there(cluster: &Cluster) -> Result<bool> {
    let lock = cluster.directory().own_folder().supervisor_lock();
    workers::run(move || Ok(!lock_file::is_free(&lock)?)).await
}
