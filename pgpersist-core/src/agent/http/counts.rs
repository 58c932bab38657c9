//! What came in, for the metrics: counted as long as the agent lives, whatever is reloaded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The path of a request that was none.
pub(crate) const MALFORMED: &str = "malformed";
/// The path of a request for what there is not. Whatever a client asks for, there are only so many counters.
pub(crate) const ELSEWHERE: &str = "other";

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Connections that were closed for one that came later.
    pub(crate) displaced: AtomicU64,
}

impl Counts {
    /// One more answer.
    pub(crate) fn answered(&self, path: &'static str, status: u16) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((path, status)).or_default() += 1;
    }

    /// One more connection that had to go.
    pub(crate) fn displace(&self) {
        self.displaced.fetch_add(1, Ordering::Relaxed);
    }

    /// The answers so far, in order.
    pub(crate) fn requests(&self) -> Vec<(&'static str, u16, u64)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|((path, status), count)| (*path, *status, *count)).collect()
    }
}
