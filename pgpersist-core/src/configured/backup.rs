//! The physical backup, and the restore, that the configuration asks for.

use std::collections::BTreeMap;

use crate::backup::physical::BackupOptions;
use crate::backup::request::{self, BackupRequest};
use crate::config::load::Config;
use crate::configured::{cluster, stores};
use crate::error::Result;
use crate::export::physical::Destination;
use crate::export::request::ExportRequest;
use crate::repo::repository::Repository;
use crate::restore::physical::RestoreOptions;
use crate::restore::request::RestoreRequest;
use crate::workers;

/// A backup of the configured cluster into its primary store, encrypted as its dumps are.
///
/// # Errors
/// As [`cluster::open`] and [`stores::shelf`].
pub fn backup(config: &Config, options: BackupOptions) -> Result<BackupRequest> {
    let cluster = cluster::open(config, BTreeMap::new())?;
    let shelf = stores::shelf(config)?.remembering_keys(cluster.directory().own_folder().clone());
    let keys = Some(shelf.repository_keys()?);
    Ok(BackupRequest { cluster, store: shelf.store().clone(), cluster_name: config.cluster.name.clone(), keys, options })
}

/// A restore of a backup of the configured cluster, by its name or as `latest`, into its data directory.
///
/// # Errors
/// As [`cluster::open`] and [`stores::shelf`].
pub fn restore(config: &Config, backup: String, options: RestoreOptions) -> Result<RestoreRequest> {
    let cluster = cluster::open(config, BTreeMap::new())?;
    let shelf = stores::shelf(config)?.remembering_keys(cluster.directory().own_folder().clone());
    let keys = Some(shelf.repository_keys()?);
    Ok(RestoreRequest { cluster, store: shelf.store().clone(), folder: request::folder(&config.cluster.name)?, backup, keys, options })
}

/// An export of a backup of the configured cluster, by its name or as `latest`.
///
/// # Errors
/// As [`stores::shelf`].
pub fn export(config: &Config, backup: String, destination: Destination) -> Result<ExportRequest> {
    let shelf = stores::shelf(config)?;
    let keys = Some(shelf.repository_keys()?);
    Ok(ExportRequest { store: shelf.store().clone(), folder: request::folder(&config.cluster.name)?, backup, keys, destination })
}

/// The repository of the configured cluster in its primary store, with what opens it; nothing where it has none.
///
/// # Errors
/// As [`stores::shelf`] and [`Repository::open`].
pub async fn repository(config: &Config) -> Result<Option<Repository>> {
    let shelf = stores::shelf(config)?;
    let looked_for = config.clone();
    let shelf = workers::run(move || Ok(stores::remembering(&looked_for, shelf))).await?;
    let Some(found) = Repository::open(shelf.store().clone(), request::folder(&config.cluster.name)?).await? else { return Ok(None) };
    Ok(Some(found.with_keys(shelf.repository_keys()?)))
}
