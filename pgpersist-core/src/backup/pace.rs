//! [`Pace`]: how fast files may be read, and whether they are to be read at all any more. All threads that read share it.

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How soon a thread that waits sees that it need not any more.
const LOOK: Duration = Duration::from_millis(100);

/// Lets so many bytes pass a second; what was not used up is not made up for.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<NonZeroU64>,
    /// When all that passed so far has had its time.
    due: Mutex<Instant>,
    stopped: AtomicBool,
}

impl Pace {
    /// So many bytes a second for all threads together; as fast as can be without a number.
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bytes_per_second, due: Mutex::new(Instant::now()), stopped: AtomicBool::new(false) }
    }

    /// From here on nothing passes.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits until so many bytes may be read. Blocking.
    ///
    /// # Errors
    /// `Cancelled` once it was [stopped](Self::stop).
    pub fn pass(&self, bytes: u64) -> Result<()> {
        let mut wait = self.reserve(bytes, Instant::now());
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Error::Cancelled { what: "reading the cluster's files".to_owned() });
            }
            if wait.is_zero() {
                return Ok(());
            }
            let nap = wait.min(LOOK);
            thread::sleep(nap);
            wait -= nap;
        }
    }

    /// How long these bytes have to wait for those before them.
    fn reserve(&self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second.filter(|_| bytes > 0) else { return Duration::ZERO };
        let mut due = self.due.lock().expect("no code panics while it holds the moment");
        let begin = (*due).max(now);
        *due = begin + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        begin - now
    }
}

/// Stops when it is dropped: with the future that waits for the threads, they end, too.
#[derive(Debug)]
pub(super) struct StopWhenDropped<'a>(pub(super) &'a Pace);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_for_those_before_them_and_idle_time_is_not_saved_up() {
        let pace = Pace::new(NonZeroU64::new(1000));
        let now = Instant::now() + Duration::from_secs(5);
        assert_eq!(pace.reserve(500, now), Duration::ZERO);
        assert_eq!(pace.reserve(500, now), Duration::from_millis(500));
        assert_eq!(pace.reserve(0, now), Duration::ZERO);
        assert_eq!(pace.reserve(1, now), Duration::from_secs(1));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.reserve(1000, later), Duration::ZERO);
        assert_eq!(pace.reserve(1000, later), Duration::from_secs(1));
    }

    #[test]
    fn without_a_rate_nothing_waits_and_after_a_stop_nothing_passes() {
        let pace = Pace::new(None);
        pace.pass(u64::MAX).unwrap();
        drop(StopWhenDropped(&pace));
        assert!(matches!(pace.pass(1), Err(Error::Cancelled { .. })));
    }

    #[test]
    fn a_thread_that_waits_ends_when_it_is_stopped() {
        let pace = Pace::new(NonZeroU64::new(1));
        pace.pass(3600).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.pass(1));
            pace.stop();
            assert!(waiting.join().unwrap().is_err());
        });
    }
}
