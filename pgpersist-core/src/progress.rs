//! Operations report what they are doing; whoever runs them decides how to show it.

use std::fmt::Debug;

/// Something an operation wants its watcher to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A step began: a short text for people, such as `dumping customerInvoice`.
    Step(String),
    /// So many bytes of the current step are done, of a total where it is known.
    Bytes {
        /// Bytes done so far.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Something the user should know although the operation goes on; the command ends with exit code 3.
    Warning(String),
}

/// Takes events. Called from any thread, never while a lock is held; it must not block for long.
pub trait ProgressSink: Debug + Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// A sink that forgets everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl ProgressSink for Silent {
    fn event(&self, _event: Event) {}
}
