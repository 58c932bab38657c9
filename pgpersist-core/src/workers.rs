//! The one door between async and blocking code: disk and CPU work runs here, never on an async thread.

use std::any::Any;

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
    let done = any(Box::new(move || work().map(|result| Box::new(result) as Box<dyn Any + Send>))).await?;
    done.downcast().map(|result| *result).map_err(|_| Error::Bug("a worker had another result than its work".to_owned()))
}

/// How many of them an operation has at once unless it is told otherwise: one for each processor, and eight at most.
pub fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, |count| count.get().min(8))
}

type Work = Box<dyn FnOnce() -> Result<Box<dyn Any + Send>> + Send>;

/// Of one type, whatever the work is: for each type that the runtime is given, all its code for tasks is made again.
async fn any(work: Work) -> Result<Box<dyn Any + Send>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Bug(format!("a worker failed: {error}"))),
    }
}
