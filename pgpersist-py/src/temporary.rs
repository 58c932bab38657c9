//! `TemporaryCluster`: a real PostgreSQL for a test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::sync::RwLock;

use crate::arguments::duration;
use crate::operation::{Answer, Operation, nothing};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::server::installation::InstallationSearch;
use pgpersist_core::server::settings::Profile;
use pgpersist_core::temporary::cluster::{TemporaryCluster, TemporaryOptions};
use pgpersist_core::temporary::scratch::Afterwards;

/// A running throw-away cluster. It goes with this object, with a call of `stop`, or with the process that made it.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeTemporaryCluster {
    cluster: Arc<RwLock<Option<TemporaryCluster>>>,
    /// What does not change while it lives, for whoever asks without waiting.
    facts: Facts,
    /// The process that made it: a forked child has a copy of this object, and no say.
    process: u32,
}

struct Facts {
    folder: PathBuf,
    data_directory: PathBuf,
    version: String,
    bin_directory: PathBuf,
    port: u16,
    host: String,
    user: String,
    password: Option<String>,
}

#[pymethods]
impl NativeTemporaryCluster {
    /// Makes one and starts it.
    #[staticmethod]
    #[pyo3(signature = (major, durable, tcp, settings, databases, keep, parent, cache, bin_directory, timeout))]
    #[expect(clippy::too_many_arguments, reason = "the layer above has names and defaults for them")]
    fn begin(
        major: Option<u32>,
        durable: bool,
        tcp: bool,
        settings: BTreeMap<String, String>,
        databases: Vec<String>,
        keep: bool,
        parent: Option<PathBuf>,
        cache: Option<PathBuf>,
        bin_directory: Option<PathBuf>,
        timeout: f64,
    ) -> PyResult<Operation> {
        let options = TemporaryOptions {
            search: InstallationSearch::from_environment(bin_directory),
            major,
            profile: if durable { Profile::Durable } else { Profile::Ephemeral },
            tcp,
            settings,
            databases,
            afterwards: if keep { Afterwards::Keep } else { Afterwards::Remove },
            os_user: None,
            parent,
            cache,
            timeout: duration(timeout, "timeout")?,
        };
        Ok(Operation::new("starting a temporary cluster", async move {
            let cluster = TemporaryCluster::start(options).await?;
            let answer: Answer = Box::new(move |py| Ok(Py::new(py, Self::holding(cluster))?.into_any()));
            Ok(answer)
        }))
    }

    #[getter]
    fn folder(&self) -> PathBuf {
        self.facts.folder.clone()
    }

    #[getter]
    fn data_directory(&self) -> PathBuf {
        self.facts.data_directory.clone()
    }

    #[getter]
    fn bin_directory(&self) -> PathBuf {
        self.facts.bin_directory.clone()
    }

    #[getter]
    fn version(&self) -> String {
        self.facts.version.clone()
    }

    #[getter]
    fn host(&self) -> String {
        self.facts.host.clone()
    }

    #[getter]
    fn port(&self) -> u16 {
        self.facts.port
    }

    #[getter]
    fn user(&self) -> String {
        self.facts.user.clone()
    }

    #[getter]
    fn password(&self) -> Option<String> {
        self.facts.password.clone()
    }

    /// The URL of one of its databases, with the password in it.
    fn url(&self, database: &str) -> PyResult<String> {
        if database.is_empty() {
            return Err(PyValueError::new_err("database is empty"));
        }
        let cluster = self.cluster.try_read().map_err(|_| stopped())?;
        cluster.as_ref().map(|cluster| cluster.url(database).expose().clone()).ok_or_else(stopped)
    }

    fn create_database(&self, name: String, template: Option<String>) -> PyResult<Operation> {
        self.asking("creating a database", |cluster| async move { cluster.create_database(&name, template.as_deref()).await }.boxed())
    }

    fn execute(&self, database: String, sql: String) -> PyResult<Operation> {
        self.asking("executing SQL", |cluster| {
            async move {
                let session = cluster.session(&database).await?;
                // Our own sessions trust no schema; whoever brings SQL means the database's usual ones.
                session.execute("begin", "SET search_path TO DEFAULT").await?;
                session.execute("execute the SQL", &sql).await
            }
            .boxed()
        })
    }

    fn kill9(&self) -> PyResult<Operation> {
        self.asking("killing the server", |cluster| cluster.kill9().boxed())
    }

    fn restart(&self) -> PyResult<Operation> {
        self.asking("restarting the server", |cluster| cluster.restart().boxed())
    }

    /// Ends it, and returns when nothing of it is left. Repeating it is fine.
    fn stop(&self) -> PyResult<Operation> {
        let cluster = self.own()?;
        Ok(Operation::new("stopping the cluster", async move {
            if let Some(cluster) = cluster.write().await.take() {
                cluster.stop().await?;
            }
            Ok(nothing())
        }))
    }

    /// Stops it and leaves its files: their folder.
    fn keep(&self) -> PyResult<Operation> {
        let cluster = self.own()?;
        Ok(Operation::new("keeping the cluster", async move {
            let cluster = cluster.write().await.take().ok_or_else(closed)?;
            let folder = cluster.keep().await?;
            let answer: Answer = Box::new(move |py| Ok(folder.into_pyobject(py)?.into_any().unbind()));
            Ok(answer)
        }))
    }

    /// Whether it was stopped, or is another process's.
    #[getter]
    fn is_closed(&self) -> bool {
        self.process != std::process::id() || self.cluster.try_read().is_ok_and(|cluster| cluster.is_none())
    }
}

impl NativeTemporaryCluster {
    fn holding(cluster: TemporaryCluster) -> Self {
        let connection = cluster.connection("postgres");
        let facts = Facts {
            folder: cluster.folder().to_owned(),
            data_directory: cluster.cluster().path().to_owned(),
            version: cluster.installation().version().to_string(),
            bin_directory: cluster.installation().bin_directory().to_owned(),
            port: connection.port,
            host: connection.host.as_text(),
            user: connection.user,
            password: connection.password.map(|password| password.expose().clone()),
        };
        Self { cluster: Arc::new(RwLock::new(Some(cluster))), facts, process: std::process::id() }
    }

    fn own(&self) -> PyResult<Arc<RwLock<Option<TemporaryCluster>>>> {
        if self.process == std::process::id() {
            return Ok(self.cluster.clone());
        }
        let text = format!(
            "this cluster belongs to process {}, and this is a child forked from it: use its URL, or make a cluster here",
            self.process
        );
        Err(PyRuntimeError::new_err(text))
    }

    fn asking<F>(&self, what: &'static str, ask: F) -> PyResult<Operation>
    where
        F: for<'a> FnOnce(&'a TemporaryCluster) -> BoxFuture<'a, Result<()>> + Send + 'static,
    {
        let cluster = self.own()?;
        Ok(Operation::new(what, async move {
            ask(cluster.read().await.as_ref().ok_or_else(closed)?).await?;
            Ok(nothing())
        }))
    }
}

impl Drop for NativeTemporaryCluster {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // The parent's, whose undertaker would take this for its end.
            std::mem::forget(self.cluster.clone());
        }
    }
}

fn closed() -> Error {
    Error::conflict("this temporary cluster was stopped", "make another one")
}

fn stopped() -> PyErr {
    PyRuntimeError::new_err("this temporary cluster was stopped, or is being stopped")
}
