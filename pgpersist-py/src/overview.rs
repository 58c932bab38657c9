//! How it stands with the cluster's persistence, as one page.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::cluster::NativeCluster;
use crate::operation::{Answer, Operation, document};
use crate::{exceptions, value};
use pgpersist_core::configured;
use pgpersist_core::report::gather;
use pgpersist_core::report::overview::Overview;
use pgpersist_core::report::{html, markdown};

/// An overview, and the ways to write it down.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeOverview {
    overview: Arc<Overview>,
}

#[pymethods]
impl NativeOverview {
    /// As `pgpersist report --format json` prints it.
    fn document(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let document = document(self.overview.as_ref()).map_err(|error| exceptions::made(py, &error))?;
        value::to_python(py, &document)
    }

    fn markdown(&self, py: Python<'_>) -> String {
        let overview = self.overview.clone();
        py.detach(|| markdown::render(&overview))
    }

    fn html(&self, py: Python<'_>) -> String {
        let overview = self.overview.clone();
        py.detach(|| html::render(&overview, None))
    }
}

/// Looks at everything.
#[pyfunction]
pub(crate) fn overview(cluster: &NativeCluster) -> Operation {
    let ground = cluster.ground.clone();
    Operation::new("`report`", async move {
        let options = configured::report::options(&ground.config_here())?;
        let overview = Arc::new(gather::overview(&options).await);
        let answer: Answer = Box::new(move |py| Ok(Py::new(py, NativeOverview { overview })?.into_any()));
        Ok(answer)
    })
}
