//! The physical backup, and the restore, that the configuration asks for.

use std::collections::BTreeMap;

use crate::backup::physical::BackupOptions;
use crate::backup::request::{self, BackupRequest};
use crate::config::load::Config;
use crate::configured::{cluster, stores};
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, Result};
use crate::export::physical::Destination;
use crate::export::request::ExportRequest;
use crate::repo::repository::Repository;
use crate::restore::physical::RestoreOptions;
use crate::restore::request::RestoreRequest;

/// A backup of the configured cluster into its primary store.
///
/// # Errors
/// As [`cluster::open`] and [`stores::primary`]; `Invalid` where that store is encrypted, which physical backups are not yet.
pub fn backup(config: &Config, options: BackupOptions) -> Result<BackupRequest> {
    refuse_encryption(config)?;
    let cluster = cluster::open(config, BTreeMap::new())?;
    Ok(BackupRequest { cluster, store: stores::primary(config)?, cluster_name: config.cluster.name.clone(), options })
}

/// A restore of a backup of the configured cluster, by its name or as `latest`, into its data directory.
///
/// # Errors
/// As [`cluster::open`] and [`stores::primary`].
pub fn restore(config: &Config, backup: String, options: RestoreOptions) -> Result<RestoreRequest> {
    let cluster = cluster::open(config, BTreeMap::new())?;
    Ok(RestoreRequest { cluster, store: stores::primary(config)?, folder: request::folder(&config.cluster.name)?, backup, options })
}

/// An export of a backup of the configured cluster, by its name or as `latest`.
///
/// # Errors
/// As [`stores::primary`].
pub fn export(config: &Config, backup: String, destination: Destination) -> Result<ExportRequest> {
    Ok(ExportRequest { store: stores::primary(config)?, folder: request::folder(&config.cluster.name)?, backup, destination })
}

/// The repository of the configured cluster in its primary store; nothing where it has none.
///
/// # Errors
/// As [`stores::primary`] and [`Repository::open`].
pub async fn repository(config: &Config) -> Result<Option<Repository>> {
    Repository::open(stores::primary(config)?, request::folder(&config.cluster.name)?).await
}

fn refuse_encryption(config: &Config) -> Result<()> {
    let encryption = match &config.own_store {
        Some(own) => &own.encryption,
        None => &config.primary_store()?.encryption,
    };
    if EncryptionSettings::encrypts(encryption) {
        return Err(Error::invalid(
            "the store is encrypted, and physical backups cannot be encrypted yet",
            "back up into a store without encryption, or make dumps with `pgpersist dump`",
        ));
    }
    Ok(())
}
