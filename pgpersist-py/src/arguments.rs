//! What Python passes in, checked: an error names the argument.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The longest deadline that somebody can mean.
const LONGEST_S: f64 = 365.0 * 86_400.0;

/// A time span from seconds.
///
/// # Errors
/// `ValueError` that names the argument.
pub(crate) fn duration(seconds: f64, argument: &str) -> PyResult<Duration> {
    if !(seconds > 0.0 && seconds <= LONGEST_S) {
        return Err(PyValueError::new_err(format!("{argument} is {seconds} s; it is more than 0 s, and at most a year")));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// One of a few words.
///
/// # Errors
/// `ValueError` that names the argument and the words.
pub(crate) fn one_of<T: Copy>(word: &str, argument: &str, words: &[(&str, T)]) -> PyResult<T> {
    words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|(known, _)| format!("{known:?}")).collect();
        PyValueError::new_err(format!("{argument} is {word:?}; it is one of {}", known.join(", ")))
    })
}
