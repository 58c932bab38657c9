//! Exceptions of the user's code as errors of the library: the class says what the caller can do, and the exception comes along.

use std::error::Error as StdError;
use std::fmt;

use pyo3::exceptions::{PyFileExistsError, PyFileNotFoundError, PyOSError, PyPermissionError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use pgpersist_core::error::{Error, ErrorKind};

/// An exception as the source of an error. Its text is kept, since reading it takes the interpreter.
#[derive(Debug)]
pub(crate) struct Thrown {
    text: String,
    exception: PyErr,
}

impl fmt::Display for Thrown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl StdError for Thrown {}

/// A method of the user's has raised this.
pub(crate) fn raised(py: Python<'_>, whose: &str, method: &str, exception: PyErr) -> Error {
    let (kind, remedy) = meaning(py, &exception);
    external(py, format!("the {whose} failed in `{method}`"), kind, remedy, exception)
}

/// A method of the user's has returned what is no answer, and this exception tells why.
pub(crate) fn no_answer(py: Python<'_>, whose: &str, method: &str, exception: PyErr) -> Error {
    external(py, format!("the {whose} has returned no answer of `{method}`"), ErrorKind::Bug, None, exception)
}

/// The exception behind an error, if there is one.
pub(crate) fn original(py: Python<'_>, error: &Error) -> Option<Py<PyAny>> {
    let mut source = error.source();
    while let Some(behind) = source {
        if let Some(thrown) = behind.downcast_ref::<Thrown>() {
            return Some(thrown.exception.clone_ref(py).into_value(py).into_any());
        }
        source = behind.source();
    }
    None
}

/// Logs an error with the exception behind it, for those that nobody is raised to.
pub(crate) fn log(py: Python<'_>, error: &Error) {
    let logged = py
        .import(intern!(py, "pgpersist._calls"))
        .and_then(|calls| calls.call_method1(intern!(py, "log"), (error.to_string(), original(py, error))));
    if let Err(error) = logged {
        error.write_unraisable(py, None);
    }
}

/// The token shows that the interpreter is at hand, for the exception's text.
fn external(_py: Python<'_>, what: String, kind: ErrorKind, remedy: Option<String>, exception: PyErr) -> Error {
    let thrown = Thrown { text: exception.to_string(), exception };
    Error::external(what, kind, remedy.unwrap_or_default(), thrown)
}

fn meaning(py: Python<'_>, exception: &PyErr) -> (ErrorKind, Option<String>) {
    if let Some(ours) = ours(py, exception) {
        return ours;
    }
    let is = |found: bool, kind: ErrorKind| found.then_some(kind);
    let kind = is(exception.is_instance_of::<PyFileNotFoundError>(py), ErrorKind::NotFound)
        .or_else(|| is(exception.is_instance_of::<PyFileExistsError>(py), ErrorKind::Conflict))
        .or_else(|| is(exception.is_instance_of::<PyPermissionError>(py), ErrorKind::Denied))
        .or_else(|| is(exception.is_instance_of::<PyValueError>(py), ErrorKind::Invalid))
        .or_else(|| is(exception.is_instance_of::<PyOSError>(py), ErrorKind::Unavailable))
        .or_else(|| is(is_of(py, exception, "TimeoutError"), ErrorKind::Unavailable))
        .or_else(|| is(is_of(py, exception, "CancelledError"), ErrorKind::Cancelled));
    (kind.unwrap_or(ErrorKind::Bug), None)
}

/// An exception of asyncio, whose `TimeoutError` is the built-in one only from Python 3.11 on.
fn is_of(py: Python<'_>, exception: &PyErr, class: &str) -> bool {
    let class = py.import(intern!(py, "asyncio")).and_then(|asyncio| asyncio.getattr(class));
    class.is_ok_and(|class| exception.value(py).is_instance(&class).unwrap_or(false))
}

/// What an exception of this library says for itself.
fn ours(py: Python<'_>, exception: &PyErr) -> Option<(ErrorKind, Option<String>)> {
    let class = py.import(intern!(py, "pgpersist._exceptions")).ok()?.getattr(intern!(py, "PgPersistError")).ok()?;
    let value = exception.value(py);
    if !value.is_instance(&class).ok()? {
        return None;
    }
    let word: String = value.getattr(intern!(py, "kind")).ok()?.extract().ok()?;
    let remedy = value.getattr(intern!(py, "remedy")).ok().and_then(|remedy| remedy.extract().ok());
    let kinds = [
        ErrorKind::NotFound,
        ErrorKind::Conflict,
        ErrorKind::Unavailable,
        ErrorKind::Denied,
        ErrorKind::Invalid,
        ErrorKind::Damaged,
        ErrorKind::Unsafe,
        ErrorKind::Cancelled,
    ];
    Some((kinds.into_iter().find(|kind| kind.as_str() == word).unwrap_or(ErrorKind::Bug), remedy))
}
