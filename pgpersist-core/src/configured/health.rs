//! What is looked at to tell whether all is well.

use std::collections::BTreeMap;

use crate::config::load::Config;
use crate::configured::cluster;
use crate::error::Result;
use crate::health::checks::disk::DiskLimits;
use crate::health::checks::probe::Probe;
use crate::health::checks::standard::HealthOptions;
use crate::server::cluster::Cluster;

/// All that is configured, and these tables.
///
/// # Errors
/// As [`cluster::open`].
pub fn options(config: &Config, tables: &[String]) -> Result<HealthOptions> {
    Ok(of(config, cluster::open(config, BTreeMap::new())?, tables))
}

/// The same of a cluster that is open already.
pub fn of(config: &Config, cluster: Cluster, tables: &[String]) -> HealthOptions {
    let mut options = HealthOptions::new(cluster);
    options.cluster_name.clone_from(&config.cluster.name);
    options.stores = config.stores.iter().map(|store| store.url.clone()).collect();
    options.encryption = config.stores.iter().map(|store| store.encryption.clone()).collect();
    if let Some(own) = &config.own_store {
        options.store = Some(own.store.clone());
        options.encryption = vec![own.encryption.clone()];
    }
    options.databases.clone_from(&config.cluster.databases);
    if let (true, Some(database)) = (options.databases.is_empty(), &config.connection.database) {
        options.databases.push(database.value.clone());
    }
    options.probes = config
        .health
        .probes
        .iter()
        .map(|probe| Probe { name: probe.name.clone(), database: probe.database.clone(), sql: probe.sql.clone() })
        .collect();
    // A probe of the same name has its finding already.
    options.tables = tables.iter().filter(|table| !options.probes.iter().any(|probe| probe.name == **table)).cloned().collect();
    options.tables.dedup();
    options.schedules = config.schedule.named();
    options.dump_max_age = config.health.dump_max_age;
    options.backup_max_age = config.health.backup_max_age;
    options.drill_max_age = config.health.drill_max_age;
    options.disk = DiskLimits {
        warn_percent: config.health.disk_warn_percent,
        fail_percent: config.health.disk_fail_percent,
        warn_full_in: config.health.disk_full_warn,
        fail_full_in: config.health.disk_full_fail,
    };
    options.ballast_bytes = config.cluster.ballast_bytes;
    options
}
