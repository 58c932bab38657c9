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
        let until = self.due(bytes, Instant::now());
        tokio::time::sleep_until(until).await;
    }

    /// When so many bytes may be moved; whoever asks next comes after them.
    fn due(&self, bytes: u64, now: Instant) -> Instant {
        let mut paid = self.paid.lock().expect("no code panics while it holds the time");
        let begin = paid.filter(|paid| *paid > now).unwrap_or(now);
        *paid = Some(begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64));
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_takes_its_time() {
        let (pace, now) = (Pace::new(1_000), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        // The first one goes at once, each other when those before it are paid for.
        let due: Vec<_> = (0..4).map(|_| pace.due(2_000, now)).collect();
        assert_eq!(due, [now, after(2), after(4), after(6)]);
        // Time that nobody used is gone.
        assert_eq!(pace.due(500, after(100)), after(100));
        assert_eq!(pace.due(500, after(100)), after(100) + Duration::from_millis(500));
    }
}
