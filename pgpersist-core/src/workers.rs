//! The one door between async and blocking code: disk and CPU work runs here, never on an async thread.

use crate::error::{Error, Result};

/// Runs blocking work on a thread made for it and waits for its result.
///
/// Dropping the returned future does not stop the work: blocking code therefore publishes last, and what it leaves behind
/// when nobody waits any more is found and cleaned up by the next run.
///
/// # Errors
/// What the work returns; [`Error::Bug`] when it panicked.
pub async fn run<T, F>(work: F) -> Result<T>
where
    F: FnOnce() -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Bug(format!("a worker failed: {error}"))),
    }
}
