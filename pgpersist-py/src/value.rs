//! Documents as Python's own dictionaries, lists and scalars, and back.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString};
use serde_json::{Map, Number, Value};

/// The Python object of a document.
pub(crate) fn to_python(py: Python<'_>, value: &Value) -> PyResult<Py<PyAny>> {
    Ok(match value {
        Value::Null => py.None(),
        Value::Bool(truth) => PyBool::new(py, *truth).to_owned().into_any().unbind(),
        Value::Number(number) => number_to_python(py, number)?,
        Value::String(text) => PyString::new(py, text).into_any().unbind(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any().unbind()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, field) in fields {
                dict.set_item(name, to_python(py, field)?)?;
            }
            dict.into_any().unbind()
        }
    })
}

fn number_to_python(py: Python<'_>, number: &Number) -> PyResult<Py<PyAny>> {
    Ok(match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => number.into_pyobject(py)?.into_any().unbind(),
        (None, Some(number)) => number.into_pyobject(py)?.into_any().unbind(),
        (None, None) => number.as_f64().unwrap_or(f64::NAN).into_pyobject(py)?.into_any().unbind(),
    })
}

/// The document of a Python object, for what programs may see of it. `place` is told when something in it is none.
///
/// # Errors
/// `TypeError` that names the place.
pub(crate) fn from_python(object: &Bound<'_, PyAny>, place: &str) -> PyResult<Value> {
    if object.is_none() {
        return Ok(Value::Null);
    }
    // A truth is also a number in Python, so it goes first.
    if let Ok(truth) = object.cast::<PyBool>() {
        return Ok(truth.is_true().into());
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(text.to_cow()?.into_owned().into());
    }
    if let Ok(number) = object.extract::<i64>() {
        return Ok(number.into());
    }
    if let Ok(number) = object.extract::<u64>() {
        return Ok(number.into());
    }
    if let Ok(number) = object.extract::<f64>() {
        return Ok(Number::from_f64(number).map_or(Value::Null, Value::Number));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let mut fields = Map::new();
        for (name, field) in dict {
            let name: String = name.extract().map_err(|_| PyTypeError::new_err(format!("{place}: a key is no str")))?;
            let field = from_python(&field, &format!("{place}.{name}"))?;
            fields.insert(name, field);
        }
        return Ok(Value::Object(fields));
    }
    if let Ok(items) = object.try_iter() {
        return items.enumerate().map(|(number, item)| from_python(&item?, &format!("{place}[{number}]"))).collect();
    }
    let kind = object.get_type().name()?.to_string();
    Err(PyTypeError::new_err(format!("{place}: a {kind} is no value that can be told")))
}
