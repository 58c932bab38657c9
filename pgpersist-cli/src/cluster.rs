//! The cluster that the configuration names, as the library's value.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::context::Context;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::server::cluster::{Cluster, ClusterOptions};
use pgpersist_core::server::connection::Host;
use pgpersist_core::server::installation::InstallationSearch;

/// Opens the configured cluster; touches nothing.
pub(crate) fn open(context: &Context) -> Result<Cluster> {
    open_with(context, BTreeMap::new())
}

/// The same, with settings for the command line of its server.
pub(crate) fn open_with(context: &Context, command_line: BTreeMap<String, String>) -> Result<Cluster> {
    let config = context.config()?;
    let directory = LocalDataDirectory::open(config.data_directory()?)?;
    let user = match &config.connection.user {
        Some(user) => user.value.clone(),
        None => own_name(context)?,
    };
    let host = config.connection.host.as_ref().map(|host| Host::parse(&host.value));
    let host_text = host.as_ref().map_or_else(|| "localhost".to_owned(), Host::as_text);
    let password = config.connection.password(&host_text, config.cluster.port, "postgres", &user).cloned();
    let options = ClusterOptions {
        port: config.cluster.port,
        settings: config.cluster.settings.clone(),
        log_directory: config.log_directory.clone(),
        user,
        password,
        host,
        command_line,
        ..ClusterOptions::default()
    };
    Ok(Cluster::new(Arc::new(directory), search(context)?, options))
}

/// Where the server let nobody in, tells why a password that the user knows of was not used.
pub(crate) fn explain_denial(error: &Error, context: &Context) {
    if let (ErrorKind::Denied, Ok(sources)) = (error.kind(), context.sources()) {
        sources.warnings.iter().for_each(|warning| context.progress.warn(warning));
    }
}

/// Where PostgreSQL's programs are looked for.
pub(crate) fn search(context: &Context) -> Result<InstallationSearch> {
    Ok(InstallationSearch::from_environment(context.config()?.cluster.bin_directory.clone()))
}

/// The name of the user that we are: the role of a peer log-in, and the superuser of a new cluster.
pub(crate) fn own_name(context: &Context) -> Result<String> {
    Ok(pgpersist_core::server::os_user::current_name()?
        .unwrap_or_else(|| context.config().map_or_else(|_| "postgres".to_owned(), |config| config.cluster.os_user.value.clone())))
}
