//! Where the coroutines of a caller's own code run: in the event loop that awaits the operation, or in the library's own.

use std::cell::Cell;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

tokio::task_local! {
    static HOME: Home;
}

thread_local! {
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Which event loop runs coroutines for an operation.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// The one that awaits the operation.
    Awaiting(Arc<Py<PyAny>>),
    /// The one of the library's background thread, since the caller blocks.
    Background,
    /// None: the caller blocks that very thread, so a coroutine there would wait for ever.
    Blocked,
}

impl Home {
    /// For a caller that blocks this thread.
    pub(crate) fn of_this_thread() -> Self {
        if IS_BACKGROUND.get() { Self::Blocked } else { Self::Background }
    }

    /// Of the operation that runs here. Asked for in the operation's own task: others that it spawns do not know.
    pub(crate) fn current() -> Self {
        HOME.try_with(Clone::clone).unwrap_or(Self::Background)
    }

    /// Runs the work of an operation that has this home.
    pub(crate) fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        HOME.scope(self, work)
    }

    /// The event loop, or nothing for the library's own.
    ///
    /// # Errors
    /// `RuntimeError` where a coroutine would wait for ever.
    pub(crate) fn event_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Awaiting(event_loop) => Ok(event_loop.clone_ref(py)),
            Self::Background => Ok(py.None()),
            Self::Blocked => Err(PyRuntimeError::new_err(
                "a coroutine of a store or check has called a blocking operation that needs another coroutine, and would wait for \
                 ever: await the operation's `…_async` face instead",
            )),
        }
    }
}

/// Called once by the thread of the library's own event loop.
#[pyfunction]
pub(crate) fn enter_background() {
    IS_BACKGROUND.set(true);
}
