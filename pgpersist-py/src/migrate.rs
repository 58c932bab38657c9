//! Moving a cluster to another directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;

use crate::arguments::duration;
use crate::cluster::{Ground, NativeCluster};
use crate::operation::{Operation, document, value_answer};
use crate::progress::Told;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::Result;
use pgpersist_core::migrate::run::{self, MigrateOptions};
use pgpersist_core::progress::ProgressSink;
use pgpersist_core::server::cluster::{Cluster, ClusterOptions};

/// What a migration into the configured directory would do.
#[pyfunction]
pub(crate) fn plan_migrate(cluster: &NativeCluster, source: PathBuf) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`migrate`", async move {
        let (source, target) = both(&ground, &source)?;
        let options = MigrateOptions { cluster_name: ground.config.cluster.name.clone(), ..MigrateOptions::default() };
        Ok(value_answer(document(&run::plan(&source, &target, &options).await?)?))
    })
}

/// Moves the cluster in `from` into the configured directory.
#[pyfunction]
pub(crate) fn migrate(
    cluster: &NativeCluster,
    source: PathBuf,
    consent: bool,
    timeout: f64,
    listener: Py<PyAny>,
    with_bytes: bool,
) -> PyResult<Operation> {
    let (ground, told) = (cluster.ground.clone(), Told::shared(listener, with_bytes));
    let stop_timeout = duration(timeout, "timeout")?;
    Ok(Operation::told("`migrate`", told.clone(), async move {
        let (source, target) = both(&ground, &source)?;
        let cluster_name = ground.config.cluster.name.clone();
        let options = MigrateOptions { cluster_name, consent, stop_timeout, ..MigrateOptions::default() };
        let progress: Arc<dyn ProgressSink> = told;
        Ok(value_answer(document(&run::migrate(&source, &target, &options, &progress).await?)?))
    }))
}

fn both(ground: &Ground, from: &Path) -> Result<(Cluster, Cluster)> {
    let target = ground.cluster()?;
    // How clients reach the new place says nothing about where the old server listens.
    let options = ClusterOptions { host: None, log_directory: None, ..target.options().clone() };
    let source = Cluster::new(Arc::new(LocalDataDirectory::open(from)?), target.search().clone(), options);
    Ok((source, target))
}
