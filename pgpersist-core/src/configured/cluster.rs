//! The cluster that the configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::load::Config;
use crate::configured::os_user;
use crate::data_directory::local::LocalDataDirectory;
use crate::error::Result;
use crate::fs::os_user::{OsUser, current_name};
use crate::server::cluster::{Cluster, ClusterOptions};
use crate::server::connection::Host;
use crate::server::installation::InstallationSearch;

/// The configured cluster, with settings for the command line of its server; touches nothing.
///
/// Where this process is root, the server and its helpers run as the user of `[cluster] os_user`, all files are that user's, and
/// our sessions log in as that user. Other clients of this process are root for the server: a cluster that we create as root lets
/// them in as the superuser through the socket (`peer map=pgpersist`), one that was there before as its `pg_hba.conf` says.
///
/// # Errors
/// `Invalid` where no data directory is configured; as root, as [`os_user::named`].
pub fn open(config: &Config, command_line: BTreeMap<String, String>) -> Result<Cluster> {
    opened(config, command_line, os_user::instead_of_root(config)?)
}

fn opened(config: &Config, command_line: BTreeMap<String, String>, os_user: Option<OsUser>) -> Result<Cluster> {
    let directory = LocalDataDirectory::open_for(config.data_directory()?, os_user.clone())?;
    let user = match &config.connection.user {
        Some(user) => user.value.clone(),
        None => name_of(os_user.as_ref(), config)?,
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
        os_user,
        command_line,
        ..ClusterOptions::default()
    };
    Ok(Cluster::new(Arc::new(directory), search(config), options))
}

/// Where PostgreSQL's programs are looked for.
pub fn search(config: &Config) -> InstallationSearch {
    InstallationSearch::from_environment(config.cluster.bin_directory.clone())
}

/// The name of the user that the server runs as, ourselves unless we are root: the role of a peer log-in, and the superuser of
/// a new cluster.
///
/// # Errors
/// [`Error::File`](crate::error::Error::File) when the users of this machine cannot be read; as root, as [`os_user::named`].
pub fn own_name(config: &Config) -> Result<String> {
    name_of(os_user::instead_of_root(config)?.as_ref(), config)
}

fn name_of(os_user: Option<&OsUser>, config: &Config) -> Result<String> {
    match os_user {
        Some(user) => Ok(user.name.clone()),
        // A number without a name is usual in a container.
        None => Ok(current_name()?.unwrap_or_else(|| config.cluster.os_user.value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::Sources;
    use crate::error::ErrorKind;

    fn config(environment: &[(&str, &str)]) -> Config {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::load(&Sources { environment, working_directory: "/".into(), ..Sources::default() }).unwrap()
    }

    fn somebody() -> OsUser {
        OsUser { name: "somebody".into(), uid: 54_321, gid: 54_321, groups: vec![54_321], home: "/".into() }
    }

    #[test]
    fn as_root_the_server_is_the_configured_users_and_so_is_the_role() {
        let data = ("PGDATA", "/nowhere/pgdata");
        let cluster = opened(&config(&[data]), BTreeMap::new(), Some(somebody())).unwrap();
        assert_eq!((cluster.options().os_user.as_ref(), cluster.options().user.as_str()), (Some(&somebody()), "somebody"));
        let role = opened(&config(&[data, ("PGUSER", "admin")]), BTreeMap::new(), Some(somebody())).unwrap();
        assert_eq!((role.options().os_user.as_ref(), role.options().user.as_str()), (Some(&somebody()), "admin"));
    }

    #[test]
    fn without_root_nobody_else_is_asked_for() {
        let config = config(&[("PGDATA", "/nowhere/pgdata"), ("PGHOST", "db.example.com"), ("PGPASSWORD", "hunter2")]);
        let cluster = opened(&config, [("port".to_owned(), "7".to_owned())].into(), None).unwrap();
        let options = cluster.options();
        assert_eq!((&options.os_user, options.host.as_ref()), (&None, Some(&Host::Tcp("db.example.com".into()))));
        assert_eq!(options.user, current_name().unwrap().unwrap_or_else(|| "postgres".to_owned()));
        assert!(options.password.is_some() && options.command_line["port"] == "7");
    }

    #[test]
    fn no_data_directory_is_no_cluster() {
        assert_eq!(opened(&config(&[]), BTreeMap::new(), None).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
