//! Errors as exceptions: [`ErrorKind`](pgpersist_core::ErrorKind) names the class, and cause and remedy come along.

use std::error::Error as _;
use std::io;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::thrown;
use pgpersist_core::error::Error;

/// The function `made` of `pgpersist._exceptions`, which knows the classes.
static MAKER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception that tells of an error.
pub(crate) fn made(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|broken| broken)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let maker =
        MAKER.get_or_try_init(py, || py.import(intern!(py, "pgpersist._exceptions"))?.getattr(intern!(py, "made")).map(Bound::unbind))?;
    let plan = match error {
        Error::ConsentNeeded { plan, .. } => Some(plan.clone()),
        _ => None,
    };
    let is_deadline = matches!(error, Error::Deadline { .. });
    let (system_error, original) = (system_error(error), thrown::original(py, error));
    let arguments = (error.kind().as_str(), is_deadline, error.to_string(), error.remedy(), error.causes(), system_error, plan, original);
    Ok(PyErr::from_value(maker.bind(py).call1(arguments)?))
}

/// What the operating system has said, where that was the cause.
fn system_error(error: &Error) -> Option<(i32, String)> {
    let source = error.source()?.downcast_ref::<io::Error>()?;
    Some((source.raw_os_error()?, error.to_string()))
}
