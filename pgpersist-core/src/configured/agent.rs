//! The agent that the configuration asks for.

use std::time::Duration;

use crate::agent::disk_watch::DiskOptions;
use crate::agent::http::options::HttpOptions;
use crate::agent::http::token::Token;
use crate::agent::options::AgentOptions;
use crate::config::load::Config;
use crate::configured::hooks::hooks;
use crate::configured::jobs::jobs;
use crate::configured::{health, init, stores};
use crate::error::Result;
use crate::server::cluster::Cluster;

/// How an agent of this cluster goes about it, as `pgpersist run` does. `trust_stale_pid` and `allow_ephemeral` are what
/// somebody says for this once, not what a configuration says. The server's log is passed on unless `[log] directory` is set.
/// Reads the files of tokens, addresses and certificates that the configuration names. Blocking.
///
/// # Errors
/// `Invalid` for a store, a token, an address or a certificate that cannot be used; as [`init::options`].
pub fn options(
    config: &Config,
    cluster: &Cluster,
    allow_ephemeral: bool,
    trust_stale_pid: bool,
    stop_timeout: Duration,
) -> Result<AgentOptions> {
    Ok(AgentOptions {
        init: init::options(config, allow_ephemeral)?,
        shelf: stores::shelf_if_any(config)?,
        trust_stale_pid,
        stop_timeout,
        relay_log: config.log_directory.is_none(),
        disk: DiskOptions::new(stores::folders(config), config.cluster.ballast_bytes),
        jobs: jobs(config, cluster)?,
        http: http(config, cluster)?,
        hooks: hooks(config, cluster)?,
        ..AgentOptions::default()
    })
}

/// Where to answer HTTP, if anywhere.
fn http(config: &Config, cluster: &Cluster) -> Result<Option<HttpOptions>> {
    let Some(listen) = config.health.listen else { return Ok(None) };
    let mut options = HttpOptions::new(listen, health::of(config, cluster.clone(), &[]));
    options.retention = config.retention;
    options.token = config.health.token_file.as_deref().map(Token::read).transpose()?;
    Ok(Some(options))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::file::SourceFile;
    use crate::config::sources::Sources;
    use crate::data_directory::local::LocalDataDirectory;
    use crate::server::cluster::ClusterOptions;
    use crate::server::installation::InstallationSearch;
    use crate::store::BackupStore;
    use crate::store::memory::MemoryBackupStore;

    fn config(text: &str) -> Config {
        // Root reads the user who owns the cluster; every system has this one.
        let text = format!("{text}\n[cluster]\ndata_directory = '/nowhere/pgdata'\nos_user = 'nobody'\n");
        let file = Some(SourceFile { path: "/etc/p.toml".into(), text });
        Config::load(&Sources { file, working_directory: "/".into(), ..Sources::default() }).unwrap()
    }

    fn of(config: &Config) -> AgentOptions {
        let directory = Arc::new(LocalDataDirectory::open("/nowhere/pgdata").unwrap());
        let seven = ClusterOptions { port: 7, ..ClusterOptions::default() };
        let cluster = Cluster::new(directory, InstallationSearch::default(), seven);
        options(config, &cluster, true, false, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn what_is_not_configured_is_not_done() {
        let options = of(&config(""));
        assert!(options.shelf.is_none() && options.jobs.is_empty() && options.http.is_none() && options.hooks.is_none());
        assert!(options.relay_log && options.init.wishes.allow_ephemeral && !options.trust_stale_pid);
        assert_eq!(options.stop_timeout, Duration::from_secs(5));
    }

    #[test]
    fn each_part_is_of_the_cluster_that_was_given() {
        let text = "[[store]]\nurl = '/nowhere/backups'\n[dump]\nschedule = '0 2 * * *'\n[backup]\nschedule = '30 2 * * *'\nfull_read_days = 3\n\
                    [retention]\nkeep_last = 3\n[drill]\nrestore = '0 3 * * 0'\n[health]\nlisten = '127.0.0.1:0'\nbackup_max_age = '8d'\n\
                    [hooks]\ncommand = ['/bin/true']\n[log]\n\
                    directory = '/nowhere/log'";
        let options = of(&config(text));
        assert_eq!(options.jobs.iter().map(|job| job.job.name()).collect::<Vec<_>>(), ["dump", "backup", "prune", "restore_drill"]);
        assert!(options.jobs[..2].iter().all(|job| job.follows.is_empty()) && options.shelf.is_some());
        assert_eq!(
            (&options.jobs[2].follows[..], options.jobs[2].describe().as_str()),
            (&["dump".to_owned(), "backup".to_owned()][..], "prune after each dump and each backup that succeeds")
        );
        assert!(format!("{:?}", options.jobs[1]).contains("full_read_days: 3"), "{:?}", options.jobs[1]);
        let hooks = options.hooks.unwrap();
        assert_eq!((hooks.hooks.len(), hooks.health.cluster.options().port), (1, 7));
        let http = options.http.unwrap();
        assert_eq!((http.health.cluster.options().port, http.retention.keep_last), (7, Some(3)));
        assert_eq!(http.health.backup_max_age, Duration::from_secs(8 * 86_400));
        assert!(!options.relay_log);
    }

    #[test]
    fn every_part_uses_the_programs_own_store() {
        let text = "[[store]]\nurl = '/nowhere/backups'\n[[store]]\nurl = '/nowhere/copies'\n[dump]\nschedule = '0 2 * * *'\n\
                    [retention]\nkeep_last = 3\n[drill]\nrestore = '0 3 * * 0'\n[health]\nlisten = '127.0.0.1:0'\n[hooks]\n\
                    command = ['/bin/true']";
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let options = of(&config(text).with_own_store(store.clone()));
        // There are no copies to be brought up to date.
        assert_eq!(options.jobs.iter().map(|job| job.job.name()).collect::<Vec<_>>(), ["dump", "prune", "restore_drill"]);
        assert!(Arc::ptr_eq(options.shelf.unwrap().store(), &store));
        for health in [options.http.unwrap().health, options.hooks.unwrap().health] {
            assert!(health.stores.is_empty() && health.store.is_some_and(|looked_at| Arc::ptr_eq(&looked_at, &store)));
        }
    }
}
