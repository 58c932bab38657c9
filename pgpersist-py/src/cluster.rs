//! A cluster: its data directory made ready, its server started, stopped and looked at.

use std::collections::BTreeMap;
use std::path::{self, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use serde_json::json;

use crate::arguments::duration;
use crate::config::NativeConfig;
use crate::exceptions;
use crate::home::Home;
use crate::operation::{Answer, Operation, document, value_answer, with_warnings};
use crate::progress::Told;
use crate::store::{AnyStore, NativeStore};
use pgpersist_core::agent::{fencing, supervising};
use pgpersist_core::config::load::Config;
use pgpersist_core::config::load::reading::Reading;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::init::ready;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::progress::ProgressSink;
use pgpersist_core::server::cluster::Cluster;
use pgpersist_core::server::restart;
use pgpersist_core::server::start::{self, StartOptions};

/// What a configuration names. It holds nothing open: each operation looks anew.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeCluster {
    pub(crate) ground: Ground,
}

/// A configuration, and the store that Python brings along instead of the configured ones.
#[derive(Clone)]
pub(crate) struct Ground {
    /// Without that store: see [`Ground::config_here`].
    pub(crate) config: Arc<Config>,
    store: Option<AnyStore>,
}

impl Ground {
    /// The cluster; touches nothing.
    pub(crate) fn cluster(&self) -> Result<Cluster> {
        configured::cluster::open(&self.config, BTreeMap::new())
    }

    /// The configuration with the store that Python brings along, for the operation that runs here.
    pub(crate) fn config_here(&self) -> Arc<Config> {
        self.config_at(Home::current())
    }

    /// The same for what has this home.
    pub(crate) fn config_at(&self, home: Home) -> Arc<Config> {
        match &self.store {
            Some(store) => Arc::new(Config::clone(&self.config).with_own_store(store.at(home))),
            None => self.config.clone(),
        }
    }

    /// The cluster's dumps, for the operation that runs here.
    pub(crate) fn shelf(&self) -> Result<Shelf> {
        configured::stores::shelf(&self.config_here())
    }

    /// The stores: the one that Python brings along, or the configured ones.
    fn stores(&self) -> Result<Vec<NativeStore>> {
        if let Some(store) = &self.store {
            return Ok(vec![NativeStore::of(store.clone())]);
        }
        if self.config.stores.is_empty() {
            return Ok(Vec::new());
        }
        let shelf = configured::stores::shelf(&self.config)?;
        let all = std::iter::once(&shelf).chain(shelf.copies().iter().map(|copy| &copy.shelf));
        Ok(all.map(|shelf| NativeStore::of(AnyStore::Ours(shelf.store().clone()))).collect())
    }

    /// The same for what can do without.
    pub(crate) fn shelf_if_any(&self) -> Result<Option<Shelf>> {
        configured::stores::shelf_if_any(&self.config_here())
    }
}

#[pymethods]
impl NativeCluster {
    /// `identity_file` and `unencrypted` say how encrypted dumps are read.
    #[new]
    #[pyo3(signature = (config, store, identity_file, unencrypted))]
    fn new(
        py: Python<'_>,
        config: &NativeConfig,
        store: Option<&NativeStore>,
        identity_file: Option<PathBuf>,
        unencrypted: bool,
    ) -> PyResult<Self> {
        let mut config = config.config().clone();
        if identity_file.is_some() || unencrypted {
            let absolute = |path: PathBuf| path::absolute(&path).map_err(|error| Error::file("resolve", &path, error));
            let identity_file = identity_file.map(absolute).transpose().map_err(|error| exceptions::made(py, &error))?;
            Arc::make_mut(&mut config).reading = Reading { identity_file, accepts_unencrypted: unencrypted };
        }
        Ok(Self { ground: Ground { config, store: store.map(NativeStore::any) } })
    }

    #[getter]
    fn data_directory(&self) -> Option<PathBuf> {
        self.ground.config.cluster.data_directory.clone()
    }

    #[getter]
    fn name(&self) -> String {
        self.ground.config.cluster.name.clone()
    }

    #[getter]
    fn databases(&self) -> Vec<String> {
        self.ground.config.cluster.databases.clone()
    }

    /// Its stores in their order, as they are opened for its dumps.
    fn stores(&self, py: Python<'_>) -> PyResult<Vec<NativeStore>> {
        self.ground.stores().map_err(|error| exceptions::made(py, &error))
    }

    fn status(&self, listener: Py<PyAny>, with_bytes: bool) -> Operation {
        let (ground, told) = (self.ground.clone(), Told::shared(listener, with_bytes));
        Operation::told("`status`", told.clone(), async move {
            let cluster = ground.cluster()?;
            // First: an agent that starts a server meanwhile would be told together with none.
            let agent = supervising::view(&cluster, told.as_ref()).await?;
            let mut document = document(&cluster.status().await?)?;
            document["agent"] = json!(agent);
            Ok(value_answer(document))
        })
    }

    #[pyo3(signature = (allow_ephemeral, new, restore_latest, listener, with_bytes))]
    fn init(&self, allow_ephemeral: bool, new: bool, restore_latest: bool, listener: Py<PyAny>, with_bytes: bool) -> Operation {
        let (ground, told) = (self.ground.clone(), Told::shared(listener, with_bytes));
        Operation::told("`init`", told.clone(), async move {
            let mut options = configured::init::options(&ground.config, allow_ephemeral)?;
            (options.wishes.new, options.wishes.restore_latest) = (new, restore_latest);
            let progress: Arc<dyn ProgressSink> = told.clone();
            let report = ready::make_ready(&ground.cluster()?, ground.shelf_if_any()?.as_ref(), &options, &progress).await?;
            Ok(with_warnings(document(&report)?, &told))
        })
    }

    fn plan_init(&self, allow_ephemeral: bool, new: bool, restore_latest: bool) -> Operation {
        let ground = self.ground.clone();
        Operation::new("`init`", async move {
            let mut options = configured::init::options(&ground.config, allow_ephemeral)?;
            (options.wishes.new, options.wishes.restore_latest) = (new, restore_latest);
            let plan = ready::plan(&ground.cluster()?, ground.shelf_if_any()?.as_ref(), options.wishes).await?;
            Ok(value_answer(document(&plan)?))
        })
    }

    fn start(&self, timeout: f64, trust_stale_pid: bool) -> PyResult<Operation> {
        let (ground, timeout) = (self.ground.clone(), duration(timeout, "timeout")?);
        Ok(Operation::new("`start`", async move {
            let report = start::start(&ground.cluster()?, &StartOptions { timeout, trust_stale_pid }).await?;
            Ok(value_answer(document(&report)?))
        }))
    }

    fn stop(&self, timeout: f64) -> PyResult<Operation> {
        let (ground, timeout) = (self.ground.clone(), duration(timeout, "timeout")?);
        Ok(Operation::new("`stop`", async move {
            let report = supervising::stop(&ground.cluster()?, timeout).await?;
            let mut document = document(&report)?;
            document["warnings"] = json!(report.warnings());
            Ok(value_answer(document))
        }))
    }

    fn restart(&self, timeout: f64, trust_stale_pid: bool) -> PyResult<Operation> {
        let (ground, timeout) = (self.ground.clone(), duration(timeout, "timeout")?);
        Ok(Operation::new("`restart`", async move {
            let report = restart::restart(&ground.cluster()?, timeout, &StartOptions { timeout, trust_stale_pid }).await?;
            let mut document = document(&report.started)?;
            document["warnings"] = json!(report.stopped.warnings());
            Ok(value_answer(document))
        }))
    }

    fn fence(&self, reason: Option<String>, timeout: f64) -> PyResult<Operation> {
        let (ground, timeout) = (self.ground.clone(), duration(timeout, "timeout")?);
        Ok(Operation::new(
            "`fence`",
            async move { Ok(value_answer(document(&fencing::fence(&ground.cluster()?, reason, timeout).await?)?)) },
        ))
    }

    fn unfence(&self, timeout: f64, listener: Py<PyAny>, with_bytes: bool) -> PyResult<Operation> {
        let (ground, told) = (self.ground.clone(), Told::shared(listener, with_bytes));
        let timeout = duration(timeout, "timeout")?;
        Ok(Operation::told("`unfence`", told.clone(), async move {
            let report = fencing::unfence(&ground.cluster()?, timeout, told.as_ref()).await?;
            Ok(with_warnings(document(&report)?, &told))
        }))
    }

    /// How clients on this machine connect to a database of the running server, as the parts of a URL.
    fn connection(&self, database: String) -> Operation {
        let ground = self.ground.clone();
        Operation::new("looking for the server", async move {
            let connection = ground.cluster()?.connection(&database).await?;
            let password = connection.password.as_ref().map(|password| password.expose().clone());
            let parts = (connection.host.as_text(), connection.port, connection.user.clone(), password);
            let answer: Answer = Box::new(move |py| Ok(parts.into_pyobject(py)?.into_any().unbind()));
            Ok(answer)
        })
    }
}
