//! [`Dropped`]: the mark of a run that was given up, a backup that retention dropped or a run that ended without a word. It stands until the
//! last of the run's packs is gone, for others may need some of them for long. So packs of a run that has neither manifest, nor intent,
//! nor such a mark tell that its manifest was lost.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Result};
use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::layout;
use crate::repo::live_runs::each;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;

/// Says that a run was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The run.
    pub run: RunName,
}

impl Dropped {
    /// The object's bytes.
    ///
    /// # Errors
    /// `NotCanonical`.
    pub fn encode(&self) -> std::result::Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(self).map_err(|_| Fault::NotCanonical)?;
        Ok(envelope::seal(ObjectKind::Dropped, &layout::dropped(self.run), &json))
    }

    /// Reads the object of a run.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(run: RunName, object: &[u8]) -> std::result::Result<Self, Fault> {
        let json = envelope::open(ObjectKind::Dropped, &layout::dropped(run), object)?;
        let dropped: Self = serde_json::from_slice(json).map_err(|_| Fault::NotCanonical)?;
        if dropped.run == run { Ok(dropped) } else { Err(Fault::NotCanonical) }
    }

    /// Puts the mark of a run, unless it stands.
    ///
    /// # Errors
    /// What the store says.
    pub async fn put(run: RunName, repository: &Repository) -> Result<()> {
        let below = layout::dropped(run);
        let bytes = Self { run }.encode().map_err(|fault| repository.wrong(&below, fault))?;
        match repository.store().put_if_absent(&repository.key(&below)?, bytes.into()).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            put => put,
        }
    }

    /// The runs whose marks stand.
    ///
    /// # Errors
    /// What the store says.
    pub async fn all(repository: &Repository) -> Result<BTreeSet<RunName>> {
        let mut all = BTreeSet::new();
        each(repository, layout::DROPPED, |key, _| all.extend(layout::parse_dropped(key))).await?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;
    use crate::repo::example;
    use crate::store::memory::MemoryBackupStore;

    fn run(number: u8) -> RunName {
        RunName::new(datetime!(2026-02-08 09:33:16 UTC), [number; 4])
    }

    #[test]
    fn a_mark_survives_a_round_trip_under_its_own_name() {
        let bytes = Dropped { run: run(1) }.encode().unwrap();
        assert_eq!(Dropped::parse(run(1), &bytes), Ok(Dropped { run: run(1) }));
        assert_eq!(Dropped::parse(run(2), &bytes), Err(Fault::Digest));
    }

    #[tokio::test]
    async fn a_mark_may_be_put_twice() {
        let repository = example::repository(Arc::new(MemoryBackupStore::new())).await;
        for number in [1, 2, 1] {
            Dropped::put(run(number), &repository).await.unwrap();
        }
        assert_eq!(Dropped::all(&repository).await.unwrap(), BTreeSet::from([run(1), run(2)]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Dropped::parse(run(1), &bytes);
            let _ = Dropped::parse(run(1), &envelope::seal(ObjectKind::Dropped, &layout::dropped(run(1)), &bytes));
        }
    }
}
