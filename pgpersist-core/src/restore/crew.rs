//! Several who work on one thing: when one of them fails the others stop, and when that is told nobody is at work any more. Whoever tries again
//! in the same process must not meet those of the last time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::workers;

/// Tells whether one of them has failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Halt(Arc<AtomicBool>);

impl Halt {
    /// To be asked before each piece of work.
    ///
    /// # Errors
    /// `Cancelled` when one of the others has failed.
    pub(crate) fn pass(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled { what: "the work of others".to_owned() }) } else { Ok(()) }
    }

    fn call(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has each work done by a task of its own, and waits for all of them. Those who work on ask `halt`.
///
/// # Errors
/// What the first one that failed said.
pub(crate) async fn work<F>(works: impl IntoIterator<Item = F>, halt: &Halt) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let begin = |work| match workers::held() {
        Some(held) => tokio::spawn(workers::holding(held, work)),
        None => tokio::spawn(work),
    };
    let mut at_work: FuturesUnordered<Aborting> = works.into_iter().map(|work| Aborting(begin(work))).collect();
    let mut result = Ok(());
    while let Some(ended) = at_work.next().await {
        if ended.is_err() && result.is_ok() {
            halt.call();
            result = ended;
        }
    }
    result
}

/// A task that ends when nobody waits for it any more.
struct Aborting(JoinHandle<Result<()>>);

impl Future for Aborting {
    type Output = Result<()>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let joined = std::pin::Pin::new(&mut self.0).poll(context);
        joined.map(|joined| joined.unwrap_or_else(|error| Err(Error::Bug(format!("one of several failed: {error}")))))
    }
}

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_first_failure_is_told_when_all_the_others_have_stopped() {
        let (halt, at_work) = (Halt::default(), Arc::new(AtomicU64::new(0)));
        let works = (0..4_u64).map(|number| {
            let (halt, at_work) = (halt.clone(), Arc::clone(&at_work));
            async move {
                if number == 2 {
                    return Err(Error::not_found("the first", ""));
                }
                loop {
                    halt.pass()?;
                    let at_work = Arc::clone(&at_work);
                    workers::run(move || {
                        at_work.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(30));
                        at_work.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    })
                    .await?;
                }
            }
        });
        let error = work(works, &halt).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), at_work.load(Ordering::SeqCst)), ("the first", 0));
    }

    #[tokio::test]
    async fn work_that_is_done_is_done() {
        let done = Arc::new(AtomicU64::new(0));
        let works = (0..3).map(|_| {
            let done = Arc::clone(&done);
            async move {
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        });
        work(works, &Halt::default()).await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 3);
    }
}
