//! The one door between async and blocking code: disk and CPU work runs here, never on an async thread.

use std::any::Any;
use std::sync::Arc;

use crate::error::{Error, Result};

/// What must not be given back while any of an operation's blocking work goes on: its claims and locks.
pub type Held = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static HELD: Held;
}

/// Carries an operation out and gives back what it holds when none of its blocking work goes on any more, also when the operation itself was
/// dropped: whoever comes next then waits, or is refused, instead of meeting it.
pub async fn holding<F: Future>(held: Held, operation: F) -> F::Output {
    HELD.scope(held, operation).await
}

/// What the operation holds that this is part of: to be handed to a task that is made for a part of it.
pub fn held() -> Option<Held> {
    HELD.try_with(Arc::clone).ok()
}

/// Runs blocking work on a thread made for it and waits for its result.
///
/// Dropping the returned future does not stop the work: blocking code therefore publishes last, and what it leaves behind
/// when nobody waits any more is found and cleaned up by the next run. What the operation [holds](holding) it keeps until it ends.
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
    let held = held();
    let task = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(held);
        result
    });
    match task.await {
        Ok(result) => result,
        Err(error) => Err(Error::Bug(format!("a worker failed: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_a_dropped_operation_holds_is_kept_until_its_blocking_work_has_ended() {
        let (guard, (go_on, told)) = (Arc::new(()), mpsc::channel::<()>());
        let operation = holding(guard.clone(), run(move || Ok(told.recv().is_ok())));
        assert!(tokio::time::timeout(Duration::from_millis(50), operation).await.is_err(), "it waits to be told");
        assert_eq!(Arc::strong_count(&guard), 2, "its work goes on");
        go_on.send(()).unwrap();
        while Arc::strong_count(&guard) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(held().is_none(), "nothing is held outside of an operation");
    }
}
