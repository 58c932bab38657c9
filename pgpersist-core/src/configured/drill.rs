//! The restore drill that the configuration asks for.

use std::sync::Arc;

use crate::config::load::{CheckConfig, Config};
use crate::configured::{cluster, os_user};
use crate::data_directory::DataDirectory;
use crate::data_directory::local::LocalDataDirectory;
use crate::data_directory::own_folder::OwnFolder;
use crate::data_directory::state::State;
use crate::drill::invariants::{Invariant, SqlInvariant};
use crate::drill::restore::RestoreOptions;
use crate::drill::subjects::Subjects;
use crate::error::Result;

/// A drill of the whole cluster.
///
/// # Errors
/// As root, as [`os_user::named`].
pub fn scheduled(config: &Config) -> Result<RestoreOptions> {
    let subjects = Subjects::Cluster(config.cluster.databases.clone());
    Ok(RestoreOptions {
        invariants: invariants(config),
        os_user: os_user::instead_of_root(config)?,
        ..RestoreOptions::new(subjects, cluster::search(config))
    })
}

/// The configured checks.
pub fn invariants(config: &Config) -> Vec<Arc<dyn Invariant>> {
    let invariant = |check: &CheckConfig| {
        let invariant = SqlInvariant { name: check.name.clone(), database: check.database.clone(), sql: check.sql.clone() };
        Arc::new(invariant) as Arc<dyn Invariant>
    };
    config.drill_checks.iter().map(invariant).collect()
}

/// Where the cluster's own reports lie, if its files are at hand. A drill needs none: it may run on another machine. Blocking.
///
/// # Errors
/// As [`LocalDataDirectory::open`]; as root, as [`os_user::named`].
pub fn volume(config: &Config) -> Result<Option<OwnFolder>> {
    let Some(path) = &config.cluster.data_directory else { return Ok(None) };
    let directory = LocalDataDirectory::open_for(path, os_user::instead_of_root(config)?)?;
    Ok(matches!(directory.state_now(), Ok(State::Cluster(_))).then(|| directory.own_folder().clone()))
}
