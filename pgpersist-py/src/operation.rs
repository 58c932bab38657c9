//! One prepared piece of work, and the two ways in which Python waits for it.
//!
//! An operation is prepared once, from checked arguments, and runs once: [`wait`](Operation::wait) blocks with the GIL
//! released, [`start`](Operation::start) calls back. Cancelling drops the Rust future, and whoever cancelled goes on only
//! when that is done: so nothing is half-done when Python sees the exception.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde::Serialize;
use serde_json::Value;
use tokio::task::{AbortHandle, JoinError};

use crate::exceptions;
use crate::home::Home;
use crate::progress::Told;
use crate::{runtime, value};
use pgpersist_core::error::{Error, Result};

/// How often a blocking wait lets Python look for signals.
const SIGNALS: Duration = Duration::from_millis(50);
/// How long a cancelled operation may take to let go.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Makes the Python object of a result, where there is an interpreter at hand.
pub(crate) type Answer = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// How work fails: by an error of the library, or by an exception that a caller's own code has thrown.
#[derive(Debug)]
pub(crate) enum Failure {
    Core(Error),
    /// The same, for several who ask how something ended.
    Shared(Arc<Error>),
    Python(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

/// How work ends.
pub(crate) type Outcome = std::result::Result<Answer, Failure>;
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;
/// Of one type, so that what follows is compiled once and not for each operation.
type Answering = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

async fn untold(work: Answering) -> Outcome {
    Ok(work.await?)
}

async fn heard(told: Arc<Told>, work: Answering) -> Outcome {
    tokio::select! {
        biased;
        thrown = told.thrown() => Err(Failure::Python(thrown)),
        result = work => {
            let answer = result?;
            match told.take_thrown() {
                // Done, and what was done stands; but the exception is not swallowed.
                Some(thrown) => Err(Failure::Python(thrown)),
                None => Ok(answer),
            }
        }
    }
}

/// A prepared operation.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct Operation {
    what: &'static str,
    work: Mutex<Option<Work>>,
    running: Mutex<Option<AbortHandle>>,
}

impl Operation {
    /// Work that tells nothing meanwhile. `what` completes "… was cancelled".
    pub(crate) fn new(what: &'static str, work: impl Future<Output = Result<Answer>> + Send + 'static) -> Self {
        Self::from_work(what, Box::pin(untold(Box::pin(work))))
    }

    /// Work that tells how far it is. An exception of the listener ends it.
    pub(crate) fn told(what: &'static str, told: Arc<Told>, work: impl Future<Output = Result<Answer>> + Send + 'static) -> Self {
        Self::from_work(what, Box::pin(heard(told, Box::pin(work))))
    }

    /// Work that may fail by an error that it shares with others.
    pub(crate) fn from_outcome(what: &'static str, work: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self::from_work(what, Box::pin(work))
    }

    fn from_work(what: &'static str, work: Work) -> Self {
        Self { what, work: Mutex::new(Some(work)), running: Mutex::new(None) }
    }

    fn take(&self) -> PyResult<Work> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.ok_or_else(|| PyRuntimeError::new_err("an operation runs once"))
    }
}

#[pymethods]
impl Operation {
    /// Runs it to its end and returns its result. Signals are heard meanwhile: what a handler raises, as Ctrl-C does, cancels it.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let runtime = runtime::handle(py)?;
        let work = self.take()?;
        let (sender, mut receiver) = sync_channel(1);
        let work = Home::of_this_thread().scope(work);
        let task = runtime.spawn(async move {
            let _ = sender.send(work.await);
        });
        loop {
            match py.detach(|| next(&mut receiver, SIGNALS)) {
                Ok(outcome) => return finished(py, outcome),
                Err(RecvTimeoutError::Disconnected) => return Err(self.lost(py)),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(interrupt) = py.check_signals() {
                        task.abort();
                        // Until the future is dropped; a result that came after all is dropped, too.
                        let _ = py.detach(|| next(&mut receiver, LETTING_GO));
                        return Err(interrupt);
                    }
                }
            }
        }
    }

    /// Begins it; `done(result, exception)` is called once, from a thread of the library, one of the two being `None`. What the
    /// caller's own code awaits meanwhile, it awaits in `event_loop`.
    #[pyo3(signature = (done, event_loop=None))]
    fn start(&self, py: Python<'_>, done: Py<PyAny>, event_loop: Option<Py<PyAny>>) -> PyResult<()> {
        let runtime = runtime::handle(py)?;
        let home = event_loop.map_or(Home::Background, |event_loop| Home::Awaiting(Arc::new(event_loop)));
        let task = runtime.spawn(home.scope(self.take()?));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        let what = self.what;
        runtime.spawn(async move {
            let ended = task.await;
            // Whoever waits for the GIL drives nobody else's work meanwhile: another thread takes that over. Handing the result to
            // another thread instead would cost an idle machine the time to wake it.
            tokio::task::block_in_place(move || {
                Python::try_attach(|py| {
                    call_back(py, what, ended, &done);
                    // Here, and not when somebody calls next: it holds the task that waits, and its event loop.
                    done.drop_ref(py);
                })
            });
        });
        Ok(())
    }

    /// Cancels it, if it still runs; `done` is called when it has let go.
    fn cancel(&self) {
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.abort();
        }
    }
}

impl Operation {
    /// The future is gone and has left no result: it panicked, or the runtime was closed.
    fn lost(&self, py: Python<'_>) -> PyErr {
        match runtime::handle(py) {
            Ok(_) => exceptions::made(py, &Error::Bug(format!("{} ended without a result", self.what))),
            Err(closed) => closed,
        }
    }
}

/// Mutable, since a receiver cannot be shared between threads, and releasing the GIL is taken for that.
fn next(receiver: &mut Receiver<Outcome>, deadline: Duration) -> std::result::Result<Outcome, RecvTimeoutError> {
    receiver.recv_timeout(deadline)
}

fn finished(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    match outcome {
        Ok(answer) => answer(py),
        Err(Failure::Core(error)) => Err(exceptions::made(py, &error)),
        Err(Failure::Shared(error)) => Err(exceptions::made(py, &error)),
        Err(Failure::Python(thrown)) => Err(thrown),
    }
}

fn call_back(py: Python<'_>, what: &'static str, ended: std::result::Result<Outcome, JoinError>, done: &Py<PyAny>) {
    let result = match ended {
        Ok(outcome) => finished(py, outcome),
        Err(error) if error.is_cancelled() => Err(exceptions::made(py, &Error::Cancelled { what: what.to_owned() })),
        Err(_) => Err(exceptions::made(py, &Error::Bug(format!("{what} panicked")))),
    };
    let called = match result {
        Ok(value) => done.call1(py, (value, py.None())),
        Err(error) => done.call1(py, (py.None(), error.into_value(py))),
    };
    if let Err(error) = called {
        error.write_unraisable(py, None);
    }
}

/// A report, as the document that `--json` prints.
pub(crate) fn document(report: &impl Serialize) -> Result<Value> {
    serde_json::to_value(report).map_err(|error| Error::Bug(format!("a report is no document: {error}")))
}

/// A document as the answer.
pub(crate) fn value_answer(document: Value) -> Answer {
    Box::new(move |py| value::to_python(py, &document))
}

/// The same, with what was warned of on the way.
pub(crate) fn with_warnings(mut document: Value, told: &Told) -> Answer {
    document["warnings"] = told.warnings().into();
    value_answer(document)
}

/// Nothing but that it was done.
pub(crate) fn nothing() -> Answer {
    Box::new(|py| Ok(py.None()))
}
