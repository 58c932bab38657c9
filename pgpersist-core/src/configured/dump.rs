//! The dump that the configuration asks for.

use std::collections::BTreeMap;

use crate::clock::SystemClock;
use crate::config::load::Config;
use crate::configured::{cluster, stores};
use crate::error::Result;
use crate::health::space::history;
use crate::logical::dump_request::DumpRequest;
use crate::server::cluster::Cluster;

/// A dump of these databases; where none is named, of the configured ones, else of `PGDATABASE`, else of all.
///
/// # Errors
/// As [`cluster::open`] and [`stores::primary`].
pub fn request(config: &Config, databases: Vec<String>) -> Result<DumpRequest> {
    of(config, cluster::open(config, BTreeMap::new())?, databases)
}

/// The same of a cluster that is open already.
///
/// # Errors
/// As [`stores::primary`].
pub fn of(config: &Config, cluster: Cluster, mut databases: Vec<String>) -> Result<DumpRequest> {
    if databases.is_empty() {
        databases.clone_from(&config.cluster.databases);
    }
    if databases.is_empty() {
        databases.extend(config.connection.database.as_ref().map(|database| database.value.clone()));
    }
    Ok(DumpRequest { databases, ..DumpRequest::new(cluster, stores::shelf(config)?) })
}

/// Notes how full the places of the cluster are, for the forecast of health, where no agent watches them: to be called after a
/// dump. Whoever may dump a cluster need not be able to write beside its data, so this is no error. Blocking.
pub fn remember_room(config: &Config, cluster: &Cluster) {
    let (own, log_file) = (cluster.directory().own_folder(), cluster.log_file());
    let log_directory = log_file.path().parent().unwrap_or(cluster.path());
    let _ = history::record(cluster.path(), own, &stores::folders(config), log_directory, &SystemClock);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::file::SourceFile;
    use crate::config::sources::Sources;
    use crate::data_directory::local::LocalDataDirectory;
    use crate::server::cluster::ClusterOptions;

    fn config(file: &str, environment: &[(&str, &str)]) -> Config {
        let text = format!("[[store]]\nurl = '/nowhere/backups'\n[cluster]\ndata_directory = '/nowhere/pgdata'\n{file}");
        let file = Some(SourceFile { path: "/etc/p.toml".into(), text });
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::load(&Sources { file, environment, working_directory: "/".into(), ..Sources::default() }).unwrap()
    }

    #[test]
    fn what_is_named_beats_the_configuration_and_that_the_environment() {
        let by = |file, environment: &[(&str, &str)], named: &[&str]| {
            let config = config(file, environment);
            let directory = LocalDataDirectory::open("/nowhere/pgdata").unwrap();
            let cluster = Cluster::new(Arc::new(directory), cluster::search(&config), ClusterOptions::default());
            of(&config, cluster, named.iter().map(|name| (*name).to_owned()).collect()).unwrap()
        };
        let (file, environment) = ("databases = ['orders', 'invoices']\n", [("PGDATABASE", "other")]);
        assert_eq!(by(file, &environment, &["named"]).databases, ["named"]);
        assert_eq!(by(file, &environment, &[]).databases, ["orders", "invoices"]);
        assert_eq!(by("", &environment, &[]).databases, ["other"]);
        let all = by("", &[], &[]);
        assert!(all.databases.is_empty() && !all.begin_anew);
    }
}
