//! The core's conformance suites, asked about objects of Python's.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arguments::duration;
use crate::home::Home;
use crate::operation::{Answer, Operation};
use crate::python_call::{Given, Method};
use crate::python_check::GivenCheck;
use crate::store::NativeStore;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::health::conformance as health;
use pgpersist_core::store::BackupStore;
use pgpersist_core::store::conformance as store;
use pgpersist_core::store::memory::MemoryBackupStore;

/// Asks the stores that `factory` makes, a `NativeStore` at each call, for every promise: pairs of promise and what was seen.
#[pyfunction]
pub(crate) fn check_store(factory: &Bound<'_, PyAny>, timeout: f64) -> PyResult<Operation> {
    let (factory, after) = (Arc::new(Given::new(factory, "factory")), duration(timeout, "timeout")?);
    Ok(Operation::new("the check of a store", async move {
        let home = Home::current();
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let make = || async {
            // The suite has no word for a factory that fails: it goes on with stores that pass, and the failure is told at the end.
            let is_lost = failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            let spare = || Arc::new(MemoryBackupStore::new()) as Arc<dyn BackupStore>;
            if is_lost {
                return spare();
            }
            match made(&factory, &home).await {
                Ok(store) => store,
                Err(error) => {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    spare()
                }
            }
        };
        let asked = tokio::time::timeout(after, store::violations(make)).await;
        let found = asked.map_err(|_| late("the check of the store did not end", after))?;
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(pairs(found.into_iter().map(|violation| (violation.promise, violation.seen)))),
        }
    }))
}

async fn made(factory: &Arc<Given>, home: &Home) -> Result<Arc<dyn BackupStore>> {
    let understand = |answer: &Bound<'_, PyAny>| Ok(answer.cast::<NativeStore>()?.get().any());
    let store = factory.call(home, Method::itself(), |py| Ok(PyTuple::empty(py).unbind()), understand).await?;
    Ok(store.at(home.clone()))
}

/// Asks a check for every promise: pairs of promise and what was seen.
#[pyfunction]
pub(crate) fn check_health_check(check: GivenCheck<'_>, timeout: f64) -> PyResult<Operation> {
    let (check, after) = (check.taken()?, duration(timeout, "timeout")?);
    Ok(Operation::new("the check of a health check", async move {
        let asked = tokio::time::timeout(after, health::violations(check.at(Home::current()))).await;
        let found = asked.map_err(|_| late("the check of the health check did not end", after))?;
        Ok(pairs(found.into_iter().map(|violation| (violation.promise, violation.seen))))
    }))
}

fn late(what: &str, after: std::time::Duration) -> Error {
    Error::Deadline { what: what.to_owned(), after, remedy: Some("see where it waits, or give a longer `timeout`".to_owned()) }
}

fn pairs(found: impl Iterator<Item = (&'static str, String)>) -> Answer {
    let found: Vec<(&'static str, String)> = found.collect();
    Box::new(move |py| Ok(found.into_pyobject(py)?.into_any().unbind()))
}
