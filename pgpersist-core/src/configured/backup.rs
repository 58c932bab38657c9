//! The physical backup, and the restore, that the configuration asks for.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use crate::agent::jobs::backup::BackupJob;
use crate::backup::physical::BackupOptions;
use crate::backup::request::{self, BackupRequest};
use crate::config::load::Config;
use crate::configured::{cluster, stores};
use crate::error::{Error, Result};
use crate::export::physical::Destination;
use crate::export::request::ExportRequest;
use crate::progress::ProgressSink;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::repo::verify::{self, Depth, RepositoryReport};
use crate::restore::chosen::{LATEST, parse_name};
use crate::restore::physical::{self, RestoreOptions};
use crate::restore::request::RestoreRequest;
use crate::server::cluster::Cluster;
use crate::workers;

/// How backups are made unless somebody says otherwise for this once.
pub fn options(config: &Config) -> BackupOptions {
    let known_damage = config.backup.known_damage.clone();
    BackupOptions { full_read_days: config.backup.full_read_days, known_damage, ..BackupOptions::default() }
}

/// A backup of the configured cluster into its primary store, encrypted as its dumps are.
///
/// # Errors
/// As [`cluster::open`] and [`stores::shelf`].
pub fn backup(config: &Config, options: BackupOptions) -> Result<BackupRequest> {
    let cluster = cluster::open(config, BTreeMap::new())?;
    let shelf = stores::shelf(config)?.remembering_keys(cluster.directory().own_folder().clone());
    BackupRequest::on(cluster, &shelf, options)
}

/// The same of a cluster that is open already, again and again.
pub(super) fn job(config: &Config, cluster: &Cluster) -> Result<BackupJob> {
    let shelf = stores::shelf(config)?.remembering_keys(cluster.directory().own_folder().clone());
    Ok(BackupJob { cluster: cluster.clone(), shelf, options: options(config) })
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
pub fn repository<'a>(config: &'a Config) -> BoxFuture<'a, Result<Option<Repository>>> {
    Box::pin(async move {
        let shelf = stores::shelf(config)?;
        let looked_for = config.clone();
        let shelf = workers::run(move || Ok(stores::remembering(&looked_for, shelf))).await?;
        let Some(found) = Repository::open(shelf.store().clone(), request::folder(&config.cluster.name)?).await? else { return Ok(None) };
        Ok(Some(found.with_keys(shelf.repository_keys()?)))
    })
}

/// One of its backups, by its name or as `latest`, which is the newest good one.
///
/// # Errors
/// `NotFound`; `Invalid` for a name that is none; as [`repository`] and [`physical::newest`].
pub fn find<'a>(config: &'a Config, backup: &'a str) -> BoxFuture<'a, Result<(Repository, RunName)>> {
    Box::pin(async move {
        let name = if backup == LATEST { None } else { Some(parse_name(backup)?) };
        let found = repository(config).await?;
        let repository = found.ok_or_else(|| Error::not_found("there is no backup", "make one with `pgpersist backup`"))?;
        let backup = match name {
            Some(name) => name,
            None => physical::newest(&repository).await?,
        };
        Ok((repository, backup))
    })
}

/// Looks whether its backups, or this one of them, are what was written; at nothing where it has none.
///
/// # Errors
/// `NotFound` when there is no such backup; as [`repository`] and [`verify::verify`].
pub async fn verify(config: &Config, only: Option<RunName>, quick: bool, progress: &dyn ProgressSink) -> Result<RepositoryReport> {
    let depth = if quick { Depth::Quick } else { Depth::Full };
    match (repository(config).await?, only) {
        (Some(repository), only) => verify::verify(&repository, only, depth, progress).await,
        (None, None) => Ok(RepositoryReport::default()),
        (None, Some(backup)) => {
            Err(Error::not_found(format!("there is no backup {backup}"), "see `pgpersist list` for those that there are"))
        }
    }
}
