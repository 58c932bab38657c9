//! An answer that is found out once for all who ask at the same time, and kept for a while.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

/// An answer, and when it was found.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    at: Instant,
    begun: Instant,
}

impl<T> Found<T> {
    /// When finding it out began: what happened later is not in it.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }
}

type Asked<T> = Shared<BoxFuture<'static, Option<Arc<Found<T>>>>>;

/// The last answer, or the one that is being found out.
pub(crate) struct Kept<T> {
    lasts: Duration,
    last: Mutex<Option<Asked<T>>>,
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// Nothing yet; what is found stays for this long.
    pub(crate) fn new(lasts: Duration) -> Self {
        Self { lasts, last: Mutex::new(None) }
    }

    /// The answer; `None` when finding it out panicked.
    ///
    /// It goes on when whoever asked goes away, and is not begun a second time as long as it goes on: however many ask, and
    /// however long it hangs, there is one at a time.
    pub(crate) async fn get<F: Future<Output = T> + Send + 'static>(&self, find: impl Fn() -> F) -> Option<Arc<Found<T>>> {
        loop {
            let (asked, is_new) = self.ask(&find);
            let found = asked.await;
            // One that was found while nobody waited may be old by now.
            if is_new || found.as_ref().is_none_or(|found| self.is_fresh(found)) {
                return found;
            }
        }
    }

    fn ask<F: Future<Output = T> + Send + 'static>(&self, find: impl Fn() -> F) -> (Asked<T>, bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = last.as_ref()
            && asked.peek().is_none_or(|found| found.as_ref().is_some_and(|found| self.is_fresh(found)))
        {
            return (asked.clone(), false);
        }
        let finding = find();
        let begun = Instant::now();
        let task = tokio::spawn(async move { Arc::new(Found { value: finding.await, at: Instant::now(), begun }) });
        let asked = async move { task.await.ok() }.boxed().shared();
        *last = Some(asked.clone());
        (asked, true)
    }

    /// Forgets an answer that was found. One that is being found out is still the next one.
    pub(crate) fn forget(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|asked| asked.peek().is_some()) {
            *last = None;
        }
    }

    fn is_fresh(&self, found: &Found<T>) -> bool {
        found.at.elapsed() < self.lasts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn counted(times: Arc<AtomicU32>, takes: Duration) -> u32 {
        let number = times.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(takes).await;
        number
    }

    #[tokio::test]
    async fn many_ask_and_one_finds_out_until_it_is_old() {
        let (kept, times) = (Kept::new(Duration::from_millis(100)), Arc::new(AtomicU32::new(0)));
        let get = || async { kept.get(|| counted(times.clone(), Duration::from_millis(50))).await.unwrap().value };
        assert_eq!(tokio::join!(get(), get(), get()), (1, 1, 1));
        assert_eq!(get().await, 1);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(tokio::join!(get(), get()), (2, 2));
        kept.forget();
        assert_eq!(get().await, 3);
    }

    #[tokio::test]
    async fn who_goes_away_neither_ends_nor_repeats_it() {
        let (kept, times) = (Kept::new(Duration::from_millis(50)), Arc::new(AtomicU32::new(0)));
        let get = || kept.get(|| counted(times.clone(), Duration::from_millis(100)));
        for _ in 0..5 {
            assert!(tokio::time::timeout(Duration::from_millis(10), get()).await.is_err());
        }
        assert_eq!(times.load(Ordering::SeqCst), 1);
        // It was found long ago, and nobody was there to hear it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(get().await.unwrap().value, 2);
    }

    #[tokio::test]
    async fn a_panic_is_no_answer_and_the_next_one_asks_again() {
        let (kept, times) = (Kept::new(Duration::from_secs(60)), Arc::new(AtomicU32::new(0)));
        let get = || {
            let times = times.clone();
            kept.get(move || {
                let first = times.fetch_add(1, Ordering::SeqCst) == 0;
                async move {
                    assert!(!first, "a cable is loose");
                    7
                }
            })
        };
        assert!(get().await.is_none());
        assert_eq!(get().await.unwrap().value, 7);
    }
}
