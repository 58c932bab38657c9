//! The time, as something a test can wind by hand.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use time::OffsetDateTime;

/// Tells the time. Everything that names, ages or expires asks this, never the system directly.
pub trait Clock: Debug + Send + Sync {
    /// The wall clock, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
        OffsetDateTime::now_utc()
    }
}

/// A clock that stands still until it is wound, for tests.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<OffsetDateTime>>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: OffsetDateTime) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Sets the clock, forwards or back.
    pub fn set(&self, now: OffsetDateTime) {
        *self.0.lock().expect("no code panics while it holds the clock") = now;
    }

    /// Moves the clock by `step`, which may be negative.
    pub fn advance(&self, step: time::Duration) {
        *self.0.lock().expect("no code panics while it holds the clock") += step;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().expect("no code panics while it holds the clock")
    }
}
