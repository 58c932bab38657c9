//! Whether, and when, a server that ended by itself is started again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// So many restarts within the window, and the next end of the server is the agent's.
    pub most: usize,
    /// The window.
    pub window: Duration,
    /// The wait before the second restart within the window; the first one does not wait, and each later one twice as long as
    /// the one before.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
}

impl Default for RestartPolicy {
    /// Six restarts in ten minutes, at once, then after 1, 2, 4, 8, 16 seconds.
    fn default() -> Self {
        Self { most: 6, window: Duration::from_secs(600), first_wait: Duration::from_secs(1), longest_wait: Duration::from_secs(30) }
    }
}

/// The restarts of late.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    recent: VecDeque<Instant>,
    /// In all.
    pub(crate) count: u64,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new(), count: 0 }
    }

    /// Counts one more end, and tells how long to wait before the next start; `None` when it was one too many.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        self.recent.retain(|at| now.duration_since(*at) < self.policy.window);
        if self.recent.len() >= self.policy.most {
            return None;
        }
        let earlier = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        self.recent.push_back(now);
        self.count += 1;
        let doubled = earlier.checked_sub(1).map(|times| self.policy.first_wait.saturating_mul(2_u32.saturating_pow(times)));
        Some(doubled.unwrap_or_default().min(self.policy.longest_wait))
    }

    /// The limit, for people.
    pub(crate) fn describe(&self) -> String {
        format!("{} times within {} minutes", self.policy.most, self.policy.window.as_secs() / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_the_limit_is_final_until_the_window_has_passed() {
        let mut restarts = Restarts::new(RestartPolicy::default());
        let begin = Instant::now();
        let waits: Vec<Option<u64>> =
            (0..8).map(|second| restarts.next(begin + Duration::from_secs(second)).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(0), Some(1), Some(2), Some(4), Some(8), Some(16), None, None]);
        assert_eq!(restarts.next(begin + Duration::from_secs(605)), Some(Duration::ZERO));
        assert_eq!(restarts.count, 7);
    }
}
