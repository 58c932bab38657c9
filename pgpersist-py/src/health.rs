//! Health: the library's own checks with the user's beside them.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arguments::one_of;
use crate::cluster::{Ground, NativeCluster};
use crate::home::Home;
use crate::operation::{Operation, value_answer};
use crate::python_check::{GivenCheck, TakenCheck};
use crate::value;
use pgpersist_core::clock::SystemClock;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::health::HealthCheck;
use pgpersist_core::health::checks::standard::{self, HealthOptions};
use pgpersist_core::health::render::{json, nagios, prometheus, text};
use pgpersist_core::health::report::{self, Report};

impl Ground {
    /// What health looks at: all that is configured, in the store that Python brings along where it does.
    pub(crate) fn health_options(&self, tables: &[String]) -> Result<HealthOptions> {
        configured::health::options(&self.config_here(), tables)
    }
}

/// Asks all checks: a document as `pgpersist health --json` prints it.
#[pyfunction]
pub(crate) fn health(cluster: &NativeCluster, tables: Vec<String>, checks: Vec<GivenCheck<'_>>) -> PyResult<Operation> {
    let ground = cluster.ground.clone();
    let own: Vec<TakenCheck> = checks.into_iter().map(GivenCheck::taken).collect::<PyResult<_>>()?;
    Ok(Operation::new("`health`", async move {
        let options = ground.health_options(&tables)?.with_databases_of_server().await;
        let mut checks = standard::checks(&options)?;
        checks.extend(own.into_iter().map(|check| check.at(Home::current())));
        different_names(&checks)?;
        Ok(value_answer(json::render(&report::run(&checks, &SystemClock).await)?))
    }))
}

/// A finding is looked for by its name.
fn different_names(checks: &[Arc<dyn HealthCheck>]) -> Result<()> {
    let mut names = BTreeSet::new();
    match checks.iter().find(|check| !names.insert(check.name())) {
        None => Ok(()),
        Some(twice) => Err(Error::invalid(format!("two checks are called {:?}", twice.name()), "give one of them another name")),
    }
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
