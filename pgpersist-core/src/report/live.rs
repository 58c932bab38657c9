//! [`Live`]: what an agent adds to an overview, since it stays with the server.

use std::time::Duration;

use crate::server::recovery::RecoveryProgress;

/// What an agent knows at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// What it is doing, in one word.
    pub phase: String,
    /// For how long.
    pub phase_for: Duration,
    /// The postmaster's process id.
    pub pid: Option<i32>,
    /// How often the server was started again after it had ended by itself.
    pub restarts: u64,
    /// How far a recovery is.
    pub recovery: Option<RecoveryProgress>,
    /// Why the server ended last, when it did so by itself.
    pub last_failure: Option<String>,
}

impl Live {
    /// How much of a recovery is done, from 0 to 1, where its end is known.
    pub(crate) fn recovered_fraction(&self) -> Option<f64> {
        let recovery = self.recovery?;
        let whole = recovery.end?.0.checked_sub(recovery.from.0).filter(|whole| *whole > 0)?;
        Some((recovery.replayed.0.saturating_sub(recovery.from.0) as f64 / whole as f64).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::lsn::Lsn;

    #[test]
    fn a_fraction_needs_an_end_and_never_leaves_its_bounds() {
        let live = |from: u64, replayed: u64, end: Option<u64>| {
            let recovery = RecoveryProgress {
                from: Lsn(from),
                replayed: Lsn(replayed),
                end: end.map(Lsn),
                bytes_per_s: None,
                eta_s: None,
                elapsed_s: 1.0,
            };
            Live {
                phase: "recovering".into(),
                phase_for: Duration::ZERO,
                pid: None,
                restarts: 0,
                recovery: Some(recovery),
                last_failure: None,
            }
            .recovered_fraction()
        };
        assert_eq!(live(100, 150, Some(200)), Some(0.5));
        assert_eq!(live(100, 50, Some(200)), Some(0.0));
        assert_eq!(live(100, 500, Some(200)), Some(1.0));
        for end in [None, Some(100), Some(1)] {
            assert_eq!(live(100, 150, end), None);
        }
    }
}
