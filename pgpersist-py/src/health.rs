//! Health: the library's own checks with the user's beside them.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arguments::one_of;
use crate::cluster::NativeCluster;
use crate::home::Home;
use crate::operation::{Operation, value_answer};
use crate::python_check::{GivenCheck, TakenCheck};
use crate::value;
use pgpersist_core::clock::SystemClock;
use pgpersist_core::configured;
use pgpersist_core::health::checks::standard;
use pgpersist_core::health::render::{json, nagios, prometheus, text};
use pgpersist_core::health::report::{self, Report};

/// Asks all checks: a document as `pgpersist health --json` prints it.
#[pyfunction]
pub(crate) fn health(cluster: &NativeCluster, tables: Vec<String>, checks: Vec<GivenCheck<'_>>) -> PyResult<Operation> {
    let ground = cluster.ground.clone();
    let own: Vec<TakenCheck> = checks.into_iter().map(GivenCheck::taken).collect::<PyResult<_>>()?;
    Ok(Operation::new("`health`", async move {
        let mut options = configured::health::options(&ground.config_here(), &tables)?.with_databases_of_server().await;
        options.checks = own.into_iter().map(|check| check.at(Home::current())).collect();
        let checks = standard::checks(&options)?;
        Ok(value_answer(json::render(&report::run(&checks, &SystemClock).await)?))
    }))
}

/// A report in one of the formats of `pgpersist health --format`.
#[pyfunction]
pub(crate) fn render_health(document: &Bound<'_, PyAny>, format: &str) -> PyResult<String> {
    let render = one_of(
        format,
        "format",
        &[("text", text::render as fn(&Report) -> String), ("prometheus", prometheus::render), ("nagios", nagios::render)],
    )?;
    let document = value::from_python(document, "document")?;
    if !document.is_object() {
        return Err(PyTypeError::new_err("document is no dict"));
    }
    let report: Report = serde_json::from_value(document).map_err(|fault| PyValueError::new_err(format!("document: {fault}")))?;
    Ok(render(&report))
}
