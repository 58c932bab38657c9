//! Calls into objects that Python's user gives us: stores, health checks, factories. Their methods may block or be coroutines.
//!
//! A method that blocks runs on a worker thread, a coroutine in an event loop (see [`Home`]). Dropping the future cancels a
//! coroutine at its next `await`; a blocking method that has begun runs to its end, and nobody waits for it. So an object that
//! hangs keeps a thread for each call, and an agent asks again and again: it gets so many threads and no more.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::home::Home;
use crate::thrown;
use pgpersist_core::error::{Error, ErrorKind, Result};

/// How many threads one object may keep, of the runtime's 512. A call beyond waits until another one has ended.
const THREADS: usize = 32;

/// An object of the user's.
#[derive(Debug)]
pub(crate) struct Given {
    object: Py<PyAny>,
    threads: Arc<Semaphore>,
    /// What it is to us, and its class: "store `Bucket`".
    name: String,
}

impl Given {
    /// `role` is what the object is to us, such as `store`.
    pub(crate) fn new(object: &Bound<'_, PyAny>, role: &str) -> Self {
        // A function is told by its own name.
        let own = object.getattr(intern!(object.py(), "__name__")).and_then(|name| name.extract::<String>());
        let name = format!("{role} `{}`", own.unwrap_or_else(|_| class_of(object)));
        Self { name, object: object.clone().unbind(), threads: Arc::new(Semaphore::new(THREADS)) }
    }

    /// Something that an object has returned, and is to be called in its name.
    pub(crate) fn part(&self, object: Bound<'_, PyAny>) -> Self {
        Self { object: object.unbind(), name: self.name.clone(), threads: self.threads.clone() }
    }

    /// What it is to us, and its class.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Calls a method and understands its answer.
    ///
    /// # Errors
    /// [`Error::External`] with the exception as its source: of the kind that its class says, or `Bug` when `understand` says
    /// that this is no answer.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        home: &Home,
        method: Method,
        arguments: impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>> + Send + 'static,
        understand: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    ) -> Result<T> {
        let lost = || Error::Cancelled { what: format!("`{}` of the {}", method.told, self.name) };
        let thread = self.threads.clone().acquire_owned().await.map_err(|_| lost())?;
        let (sender, receiver) = oneshot::channel();
        let given = self.clone();
        let settle: Settle = Box::new(move |answer| {
            let outcome = match answer {
                Ok(answer) => understand(&answer).map_err(|wrong| thrown::no_answer(answer.py(), given.name(), method.told, wrong)),
                Err((py, raised)) => Err(thrown::raised(py, given.name(), method.told, raised)),
            };
            // Nobody waits any more when the future was dropped.
            let _ = sender.send(outcome);
        });
        let calling = Calling::default();
        let (given, home, begun) = (self.clone(), home.clone(), calling.begun.clone());
        let called = tokio::task::spawn_blocking(move || {
            // To the end of a method that blocks; a coroutine waits elsewhere.
            let _thread = thread;
            Python::try_attach(|py| {
                let done = Done { settle: Arc::new(Mutex::new(Some(settle))) };
                match given.begin(py, &home, method, arguments, done.clone()) {
                    Ok(Some(cancel)) => begun.lock().unwrap_or_else(PoisonError::into_inner).begun(py, cancel),
                    Ok(None) => {}
                    // The event loop takes no more, for it was closed.
                    Err(error) => done.settle(Err((py, error))),
                }
            })
        });
        called.await.map_err(|_| lost())?.ok_or_else(lost)?;
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Calls it here, or begins it in an event loop and returns what cancels it.
    fn begin<'py>(
        &self,
        py: Python<'py>,
        home: &Home,
        method: Method,
        arguments: impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>>,
        done: Done,
    ) -> PyResult<Option<Py<PyAny>>> {
        let calls = calls(py)?;
        match self.called(py, calls, home, method, arguments) {
            Ok(Called::Answered(answer)) => done.settle(Ok(answer)),
            Ok(Called::Waiting { event_loop, function, arguments }) => {
                let cancel = calls.call_method1(intern!(py, "begin"), (event_loop, function, arguments, done))?;
                return Ok(Some(cancel.unbind()));
            }
            Err(raised) => done.settle(Err((py, raised))),
        }
        Ok(None)
    }

    fn called<'py>(
        &self,
        py: Python<'py>,
        calls: &Bound<'py, PyAny>,
        home: &Home,
        method: Method,
        arguments: impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>>,
    ) -> PyResult<Called<'py>> {
        let object = self.object.bind(py);
        let function = if method.name.is_empty() { object.clone() } else { object.getattr(method.name)? };
        let arguments = arguments(py)?.into_bound(py);
        // A coroutine function is entered in its event loop alone; whatever else may block, and may return something to await.
        if calls.call_method1(intern!(py, "is_coroutine_function"), (&function,))?.is_truthy()? {
            return Ok(Called::Waiting { event_loop: home.event_loop(py)?, function, arguments });
        }
        let answer = function.call1(arguments)?;
        if answer.hasattr(intern!(py, "__await__"))? {
            let function = calls.getattr(intern!(py, "awaiting"))?;
            return Ok(Called::Waiting { event_loop: home.event_loop(py)?, function, arguments: PyTuple::new(py, [answer])? });
        }
        Ok(Called::Answered(answer))
    }
}

enum Called<'py> {
    Answered(Bound<'py, PyAny>),
    Waiting { event_loop: Py<PyAny>, function: Bound<'py, PyAny>, arguments: Bound<'py, PyTuple> },
}

/// A method, and what people are told that it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method {
    name: &'static str,
    told: &'static str,
}

impl Method {
    pub(crate) const fn named(name: &'static str) -> Self {
        Self { name, told: name }
    }

    /// The same method under the name of the one that it belongs to.
    pub(crate) const fn told_as(self, told: &'static str) -> Self {
        Self { told, ..self }
    }

    /// The object itself, called.
    pub(crate) const fn itself() -> Self {
        Self { name: "", told: "__call__" }
    }
}

/// The name of an object's class.
pub(crate) fn class_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

fn calls(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CALLS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(CALLS.get_or_try_init(py, || py.import(intern!(py, "pgpersist._calls")).map(|module| module.into_any().unbind()))?.bind(py))
}

type Settle = Box<dyn for<'py> FnOnce(std::result::Result<Bound<'py, PyAny>, (Python<'py>, PyErr)>) + Send>;

/// What a coroutine's end is told to. When its last clone is dropped untold, that tells that there is no answer.
#[pyclass(frozen, module = "pgpersist._native")]
#[derive(Clone)]
struct Done {
    settle: Arc<Mutex<Option<Settle>>>,
}

impl Done {
    fn settle<'py>(&self, answer: std::result::Result<Bound<'py, PyAny>, (Python<'py>, PyErr)>) {
        let settle = self.settle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(settle) = settle {
            settle(answer);
        }
    }
}

#[pymethods]
impl Done {
    fn __call__<'py>(&self, py: Python<'py>, result: Bound<'py, PyAny>, error: Option<Bound<'py, PyAny>>) {
        match error {
            None => self.settle(Ok(result)),
            Some(error) => self.settle(Err((py, PyErr::from_value(error)))),
        }
    }
}

/// A call under way, as long as somebody waits for it.
#[derive(Default)]
struct Calling {
    begun: Arc<Mutex<Begun>>,
}

#[derive(Default)]
struct Begun {
    cancel: Option<Py<PyAny>>,
    is_dropped: bool,
}

impl Begun {
    fn begun(&mut self, py: Python<'_>, cancel: Py<PyAny>) {
        if self.is_dropped {
            call_off(py, &cancel);
        } else {
            self.cancel = Some(cancel);
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let cancel = {
            let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            begun.is_dropped = true;
            begun.cancel.take()
        };
        let Some(cancel) = cancel else { return };
        let cancel = move || {
            Python::try_attach(|py| call_off(py, &cancel));
        };
        match Handle::try_current() {
            // Waiting for the GIL is no work for a thread that drives others' work.
            Ok(runtime) => drop(runtime.spawn_blocking(cancel)),
            Err(_) => cancel(),
        }
    }
}

fn call_off(py: Python<'_>, cancel: &Py<PyAny>) {
    if let Err(error) = cancel.call0(py) {
        error.write_unraisable(py, None);
    }
}

/// A defect of the user's object that is not an exception of it.
pub(crate) fn defect(given: &Given, method: &str, fault: &str) -> Error {
    Error::external(
        format!("the {} has broken the contract of `{method}`", given.name()),
        ErrorKind::Bug,
        "`pgpersist.testing` tells what a store or check has to promise",
        fault.to_owned(),
    )
}
