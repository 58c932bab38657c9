//! [`Pace`]: so many bytes a second, and no more.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// A limit that all transfers of one store share. What is moved is paid for in advance, by waiting.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When what was let through so far has been paid for.
    paid: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid: Mutex::new(None) }
    }

    /// Waits until so many bytes may be moved.
    pub(super) async fn pass(&self, bytes: u64) {
        let until = {
            let mut paid = self.paid.lock().expect("no code panics while it holds the time");
            let now = Instant::now();
            let begin = paid.filter(|paid| *paid > now).unwrap_or(now);
            *paid = Some(begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64));
            begin
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_moved_takes_its_time() {
        let (pace, start) = (Pace::new(1_000), Instant::now());
        futures_util::future::join_all((0..10).map(|_| pace.pass(1_000))).await;
        // The first one goes at once, each other when the one before it is paid for.
        assert_eq!(start.elapsed().as_secs(), 9);
        tokio::time::sleep(Duration::from_secs(100)).await;
        pace.pass(500).await;
        assert_eq!(start.elapsed().as_secs(), 109);
    }
}
