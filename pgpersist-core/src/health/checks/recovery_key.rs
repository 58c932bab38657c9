//! `encryption:<n>`: was a key that opens what is encrypted in the store tested within the last year?

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::encryption::settings::EncryptionSettings;
use crate::health::checks::judgement::not_known;
use crate::health::{Finding, HealthCheck};
use crate::logical::recovery_key::RecoveryKey;
use crate::logical::shelf::Shelf;
use crate::store::open::StoreSource;
use crate::wording::ago;

/// Looks for the newest test of a recovery key.
#[derive(Debug, Clone)]
pub struct RecoveryKeyCheck {
    name: String,
    store: StoreSource,
    cluster: String,
    encryption: EncryptionSettings,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl RecoveryKeyCheck {
    /// A check of the store with this number, counted from 1, in which the cluster has this name.
    pub fn new(
        number: usize,
        store: StoreSource,
        cluster: impl Into<String>,
        encryption: EncryptionSettings,
        clock: Arc<dyn Clock>,
        deadline: Duration,
    ) -> Self {
        Self { name: format!("encryption:{number}"), store, cluster: cluster.into(), encryption, clock, deadline }
    }

    async fn look(&self) -> crate::error::Result<RecoveryKey> {
        let shelf = Shelf::new(self.store.open().await?, self.cluster.clone(), Vec::new());
        shelf.with_clock(self.clock.clone()).encrypted(self.encryption.clone())?.recovery_key().await
    }
}

#[async_trait]
impl HealthCheck for RecoveryKeyCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Finding {
        match self.look().await {
            Ok(known) => judge(&self.name, &known, self.clock.now()),
            Err(error) => not_known(&self.name, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(name: &str, known: &RecoveryKey, now: OffsetDateTime) -> Finding {
    let finding = match (known.advice(now), known) {
        (Some((what, remedy)), _) => Finding::warn(name, what, remedy),
        (None, RecoveryKey::Tested(proof)) => {
            let age = Duration::try_from(now - proof.proven_at).unwrap_or_default();
            Finding::pass(name, format!("a recovery key was tested {}", ago(age)))
        }
        (None, _) => Finding::pass(name, "nothing is encrypted"),
    };
    let RecoveryKey::Tested(proof) = known else { return finding };
    let proven_at = proof.proven_at.format(&Rfc3339).unwrap_or_default();
    finding.observing("holder", proof.holder.clone()).observing("proven_at", json!(proven_at))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::health::Status;
    use crate::key_ring::proof::KeyProof;

    #[test]
    fn a_key_that_nobody_tested_within_a_year_is_a_warning() {
        let now = datetime!(2026-02-08 09:33:16 UTC);
        let tested = |days| {
            RecoveryKey::Tested(KeyProof { format: 1, holder: "age1x".into(), proven_at: now - time::Duration::days(days), data_keys: 1 })
        };
        for (known, status, told) in [
            (RecoveryKey::NotNeeded, Status::Pass, "nothing is encrypted"),
            (RecoveryKey::NeverTested, Status::Warn, "no recovery key was ever tested"),
            (tested(364), Status::Pass, "a recovery key was tested"),
            (tested(366), Status::Warn, "the last time"),
            (tested(-1), Status::Pass, "a recovery key was tested"),
        ] {
            let finding = judge("encryption:1", &known, now);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.summary.contains(told) && finding.remedy.is_some() == (status == Status::Warn), "{finding:?}");
            assert_eq!(finding.observed.contains_key("proven_at"), matches!(known, RecoveryKey::Tested(_)));
        }
    }
}
