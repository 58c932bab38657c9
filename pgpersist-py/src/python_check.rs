//! `HealthCheck` implemented by a Python object.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arguments::duration;
use crate::home::Home;
use crate::python_call::{Given, Method, class_of};
use crate::{thrown, value};
use pgpersist_core::health::{Finding, HealthCheck};

/// A Python object that has the attributes of a check, before an operation asks it.
#[derive(FromPyObject)]
pub(crate) struct GivenCheck<'py>(Bound<'py, PyAny>, String, f64);

impl GivenCheck<'_> {
    /// Takes it along.
    ///
    /// # Errors
    /// `ValueError` where its deadline is none.
    pub(crate) fn taken(self) -> PyResult<TakenCheck> {
        let Self(object, name, deadline) = self;
        let deadline = duration(deadline, &format!("deadline of the check {name:?}"))?;
        Ok(TakenCheck { given: Arc::new(Given::new(&object, "check")), name, deadline })
    }
}

/// The same without the interpreter.
#[derive(Debug, Clone)]
pub(crate) struct TakenCheck {
    given: Arc<Given>,
    name: String,
    deadline: Duration,
}

impl TakenCheck {
    /// The check for an operation, whose coroutines run there.
    pub(crate) fn at(self, home: Home) -> Arc<dyn HealthCheck> {
        Arc::new(PythonCheck { taken: self, home })
    }
}

/// A Python object asked by one operation.
#[derive(Debug)]
struct PythonCheck {
    taken: TakenCheck,
    home: Home,
}

#[async_trait]
impl HealthCheck for PythonCheck {
    fn name(&self) -> &str {
        &self.taken.name
    }

    async fn check(&self) -> Finding {
        let (given, name) = (&self.taken.given, self.taken.name.clone());
        let understand = move |answer: &Bound<'_, PyAny>| finding(answer, &name);
        match given.call(&self.home, Method::named("check"), |py| Ok(PyTuple::empty(py).unbind()), understand).await {
            Ok(finding) => finding,
            Err(error) => {
                // The finding has one line; whoever wrote the check wants to see where it was.
                Python::try_attach(|py| thrown::log(py, &error));
                let causes = error.causes().join(": ");
                let remedy = error.remedy().unwrap_or_else(|| format!("mend the {}, or what it needs", given.name()));
                Finding::unknown(self.name(), format!("{error}: {causes}"), Some(remedy))
            }
        }
    }

    fn deadline(&self) -> Duration {
        self.taken.deadline
    }
}

/// What a `Finding` of Python's tells. One without a name has that of its check.
fn finding(answer: &Bound<'_, PyAny>, name: &str) -> PyResult<Finding> {
    let class = answer.py().import(intern!(answer.py(), "pgpersist._health"))?.getattr(intern!(answer.py(), "Finding"))?;
    if !answer.is_instance(&class)? {
        return Err(PyTypeError::new_err(format!("expected a Finding, found {}", class_of(answer))));
    }
    let document = value::from_python(&answer.call_method0(intern!(answer.py(), "to_dict"))?, "finding")?;
    let mut finding: Finding = serde_json::from_value(document).map_err(|fault| PyValueError::new_err(fault.to_string()))?;
    if finding.name.is_empty() {
        name.clone_into(&mut finding.name);
    }
    Ok(finding)
}
