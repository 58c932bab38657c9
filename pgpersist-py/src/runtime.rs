//! The one Tokio runtime: made at the first operation, not at import; anew in a forked child; closed when the interpreter ends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

/// Operations wait for processes, disks and networks; what computes has threads of its own.
const WORKERS: usize = 2;
/// How long the interpreter's end waits for blocking work. It publishes last, so what is cut off here was not there yet.
const GRACE: Duration = Duration::from_secs(5);

/// Locked by whoever holds the GIL, and never across its release: so nobody holds it at the moment of a fork.
static SLOT: Mutex<Slot> = Mutex::new(Slot { process: 0, runtime: None, closed: false });

struct Slot {
    process: u32,
    runtime: Option<Runtime>,
    closed: bool,
}

/// The runtime of this process.
///
/// # Errors
/// `RuntimeError` when the interpreter is ending, or no thread can be started.
pub(crate) fn handle(_py: Python<'_>) -> PyResult<Handle> {
    let mut slot = SLOT.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.process != std::process::id() {
        // After a fork: the threads of the old runtime exist in the parent alone, and waiting for them would last for ever.
        std::mem::forget(slot.runtime.take());
        slot.process = std::process::id();
        slot.closed = false;
    }
    if slot.closed {
        return Err(PyRuntimeError::new_err("the interpreter is ending: pgpersist begins nothing any more"));
    }
    if slot.runtime.is_none() {
        let built = Builder::new_multi_thread().worker_threads(WORKERS).thread_name("pgpersist").enable_all().build();
        let built = built.map_err(|error| PyRuntimeError::new_err(format!("could not start threads: {error}")))?;
        slot.runtime = Some(built);
    }
    match &slot.runtime {
        Some(runtime) => Ok(runtime.handle().clone()),
        None => Err(PyRuntimeError::new_err("pgpersist has no threads")),
    }
}

/// Closes what a forked child has of its parent's locks and pipes: the child would keep them for as long as it lives.
#[pyfunction]
pub(crate) fn after_fork() {
    pgpersist_core::fs::forked::let_go();
}

/// Cancels what still goes on, and takes no more: for the interpreter's end, when nobody may call into Python any more.
#[pyfunction]
pub(crate) fn close(py: Python<'_>) {
    let runtime = {
        let mut slot = SLOT.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.process != std::process::id() {
            return;
        }
        slot.closed = true;
        slot.runtime.take()
    };
    if let Some(runtime) = runtime {
        py.detach(|| runtime.shutdown_timeout(GRACE));
    }
}
