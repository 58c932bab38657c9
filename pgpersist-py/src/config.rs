//! The configuration, from a file, the environment, and what Python gives.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use toml::{Table, Value};

use crate::{exceptions, value};
use pgpersist_core::config::file::EXAMPLE;
use pgpersist_core::config::load::Config;
use pgpersist_core::config::sources::Sources;
use pgpersist_core::error::{Error, Result};

/// A whole configuration, checked.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeConfig {
    config: Arc<Config>,
}

impl NativeConfig {
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

#[pymethods]
impl NativeConfig {
    /// `environment` are the variables that count; `file` is the file to read, `/dev/null` for none, and where it is not given,
    /// the file is searched for as the command line does.
    #[new]
    fn new(
        py: Python<'_>,
        file: Option<PathBuf>,
        environment: BTreeMap<OsString, OsString>,
        given: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let given = given.map(|given| table(given, "")).transpose()?.unwrap_or_default();
        let config = load(file, environment, given).map_err(|error| exceptions::made(py, &error))?;
        Ok(Self { config: Arc::new(config) })
    }

    /// A file with every key, to begin with.
    #[staticmethod]
    fn example() -> &'static str {
        EXAMPLE
    }

    /// Every value with its key and its origin, in a fixed order; secrets are never among them.
    fn values(&self, py: Python<'_>) -> PyResult<Vec<(String, Py<PyAny>, String)>> {
        let shown = self.config.values().iter();
        shown.map(|shown| Ok((shown.key.clone(), value::to_python(py, &shown.value)?, shown.source.to_string()))).collect()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.config.warnings.clone()
    }

    #[getter]
    fn file(&self) -> Option<PathBuf> {
        self.config.file.clone()
    }
}

fn load(file: Option<PathBuf>, environment: BTreeMap<OsString, OsString>, given: Table) -> Result<Config> {
    let here = std::env::current_dir().map_err(|error| Error::file("find", "the current directory", error))?;
    let mut sources = Sources::gather(file.as_deref(), environment, &here, Vec::new())?;
    sources.given = given;
    Config::load(&sources)
}

/// A dictionary as a section; what is `None` is not given.
fn table(dict: &Bound<'_, PyDict>, place: &str) -> PyResult<Table> {
    let mut table = Table::new();
    for (name, given) in dict {
        let name: String = name.extract().map_err(|_| PyTypeError::new_err(format!("{}: a key is no str", shown(place))))?;
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        if !given.is_none() {
            table.insert(name, toml_value(&given, &place)?);
        }
    }
    Ok(table)
}

fn shown(place: &str) -> &str {
    if place.is_empty() { "the configuration" } else { place }
}

fn toml_value(given: &Bound<'_, PyAny>, place: &str) -> PyResult<Value> {
    if let Ok(truth) = given.cast::<PyBool>() {
        return Ok(Value::Boolean(truth.is_true()));
    }
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(Value::String(text.to_cow()?.into_owned()));
    }
    if given.cast::<PyInt>().is_ok() {
        let number = given.extract().map_err(|_| PyTypeError::new_err(format!("{place}: the number is too large")))?;
        return Ok(Value::Integer(number));
    }
    if let Ok(number) = given.cast::<PyFloat>() {
        return Ok(Value::Float(number.value()));
    }
    if let Ok(dict) = given.cast::<PyDict>() {
        return Ok(Value::Table(table(dict, place)?));
    }
    if given.cast::<PyList>().is_ok() || given.cast::<PyTuple>().is_ok() {
        let items = given.try_iter()?.enumerate().map(|(number, item)| toml_value(&item?, &format!("{place}[{number}]")));
        return Ok(Value::Array(items.collect::<PyResult<_>>()?));
    }
    if let Some(seconds) = seconds(given)? {
        return Ok(Value::String(format!("{seconds}s")));
    }
    if given.hasattr("__fspath__")? {
        let path: PathBuf = given.extract()?;
        let path = path.to_str().ok_or_else(|| PyTypeError::new_err(format!("{place}: the path is not UTF-8")))?;
        return Ok(Value::String(path.to_owned()));
    }
    let kind = given.get_type().name()?.to_string();
    Err(PyTypeError::new_err(format!("{place}: a {kind} is no value of a configuration")))
}

/// The whole seconds of a `timedelta`, which the stable interface knows by its methods alone.
fn seconds(given: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    let Ok(seconds) = given.getattr("total_seconds") else { return Ok(None) };
    Ok(Some(seconds.call0()?.extract::<f64>()?.round().max(0.0) as u64))
}
