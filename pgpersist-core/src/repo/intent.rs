//! [`Intent`]: what a run builds on. As long as it lives, garbage collection takes nothing that the run may need, nor what it wrote.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{ErrorKind, Result};
use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The run.
    pub run: RunName,
    /// What it does: `backup`, `restore`, `verify`, `prune`.
    pub operation: String,
    /// The backup that it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunName>,
    /// The backups that it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<RunName>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub began_at: OffsetDateTime,
}

impl Intent {
    /// Of a backup that builds on another one.
    pub fn of_backup(run: RunName, parent: Option<RunName>, began_at: OffsetDateTime) -> Self {
        Self { run, operation: "backup".to_owned(), parent, reads: Vec::new(), began_at }
    }

    /// Of what only reads these backups.
    pub fn of_reading(run: RunName, operation: &str, reads: Vec<RunName>, began_at: OffsetDateTime) -> Self {
        Self { run, operation: operation.to_owned(), parent: None, reads, began_at }
    }

    /// The backups that must stay for it.
    pub fn needs(&self) -> impl Iterator<Item = RunName> {
        self.parent.into_iter().chain(self.reads.iter().copied())
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// `NotCanonical`.
    pub fn encode(&self) -> std::result::Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(self).map_err(|_| Fault::NotCanonical)?;
        Ok(envelope::seal(ObjectKind::Intent, &layout::intent(self.run), &json))
    }

    /// Reads the object of a run.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(run: RunName, object: &[u8]) -> std::result::Result<Self, Fault> {
        let json = envelope::open(ObjectKind::Intent, &layout::intent(run), object)?;
        let intent: Self = serde_json::from_slice(json).map_err(|_| Fault::NotCanonical)?;
        if intent.run == run { Ok(intent) } else { Err(Fault::NotCanonical) }
    }

    /// Puts it, before anything else of the run.
    ///
    /// # Errors
    /// `Conflict` when there is such a run; what the store says.
    pub async fn put(&self, repository: &Repository) -> Result<()> {
        let below = layout::intent(self.run);
        let bytes = self.encode().map_err(|fault| repository.wrong(&below, fault))?;
        repository.store().put_if_absent(&repository.key(&below)?, bytes.into()).await
    }

    /// Takes it away: the run is over, and what it published stands for itself. Who may not remove anything leaves it to who may.
    ///
    /// # Errors
    /// What the store says.
    pub async fn remove(&self, repository: &Repository) -> Result<()> {
        match repository.store().delete(&repository.key(&layout::intent(self.run))?).await {
            Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
            removed => removed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_intent_survives_a_round_trip_under_its_own_name() {
        let began_at = datetime!(2026-02-08 09:33:16 UTC);
        let run = RunName::new(began_at, [1, 2, 3, 4]);
        let intent = Intent::of_backup(run, Some(RunName::new(began_at, [5, 6, 7, 8])), began_at);
        let bytes = intent.encode().unwrap();
        assert_eq!(Intent::parse(run, &bytes), Ok(intent));
        assert_eq!(Intent::parse(RunName::new(began_at, [0; 4]), &bytes), Err(Fault::Digest));
        let reading = Intent::of_reading(run, "verify", vec![RunName::new(began_at, [9; 4])], began_at);
        assert_eq!(Intent::parse(run, &reading.encode().unwrap()), Ok(reading));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let run = RunName::new(datetime!(2026-02-08 09:33:16 UTC), [1, 2, 3, 4]);
            let _ = Intent::parse(run, &bytes);
            let _ = Intent::parse(run, &envelope::seal(ObjectKind::Intent, &layout::intent(run), &bytes));
        }
    }
}
