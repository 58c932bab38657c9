//! Runs what waits: builds the async runtime for the commands that need one, and turns Ctrl-C into a cancelled command.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use pgpersist_core::error::{Error, Result};
use pgpersist_core::store::cleanup;

/// How long blocking work may go on after its command was cancelled. It publishes last, so what is cut off here was not
/// there yet, and the next run finds its leftovers.
const GRACE: Duration = Duration::from_secs(5);

/// How long a store may be told to forget what was begun in it.
const FAREWELL: Duration = Duration::from_secs(10);

/// Work whose result is kept elsewhere: of one type, so that the runtime's code is compiled once and not for each command.
type Work<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Runs a command to its end, or until SIGINT, SIGTERM or SIGHUP: its future is then dropped, which leaves either the old
/// state or the new one. `what` completes "… was cancelled".
pub(crate) fn block_on<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    kept(work, |work| drive(Box::pin(interruptible(what, work))))
}

/// Runs a command to its end. What signals mean is its own affair.
pub(crate) fn uninterrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    kept(work, drive)
}

/// Has work run, and gives back what it came to.
fn kept<T>(work: impl Future<Output = Result<T>>, run: impl FnOnce(Work<'_>) -> Result<()>) -> Result<T> {
    let mut kept = None;
    run(Box::pin(async {
        kept = Some(work.await?);
        Ok(())
    }))?;
    kept.ok_or_else(|| Error::Bug("a command ended without a result".to_owned()))
}

async fn interruptible(what: &str, work: Work<'_>) -> Result<()> {
    let register = |kind| signal(kind).map_err(|e| Error::Bug(format!("could not listen to signals: {e}")));
    let (mut interrupt, mut terminate) = (register(SignalKind::interrupt())?, register(SignalKind::terminate())?);
    let mut hangup = register(SignalKind::hangup())?;
    let cancelled = Err(Error::Cancelled { what: what.to_owned() });
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => cancelled,
        _ = terminate.recv() => cancelled,
        _ = hangup.recv() => cancelled,
    }
}

fn drive(work: Work<'_>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::unavailable(format!("could not start threads: {e}"), "look at the limits of processes and files"))?;
    let result = runtime.block_on(async {
        let result = work.await;
        cleanup::settled(FAREWELL).await;
        result
    });
    runtime.shutdown_timeout(GRACE);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgpersist_core::error::ErrorKind;

    #[test]
    fn a_signal_cancels_and_drops_the_work() {
        struct Dropped(std::sync::Arc<std::sync::atomic::AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let guard = Dropped(seen.clone());
        let result: Result<()> = block_on("the test", async move {
            let _guard = guard;
            // The handlers are registered before the work is first polled.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
            std::future::pending().await
        });
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Cancelled, "the test was cancelled"));
        assert!(seen.load(std::sync::atomic::Ordering::SeqCst));
    }
}
