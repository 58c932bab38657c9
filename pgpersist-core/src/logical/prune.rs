//! Retention, applied to one store: planned, confirmed where much would go, and carried out by one at a time. What uploads have left
//! that never ended goes as well, unseen as it was.
//!
//! Dumps go at once. Backups share what they are made of, so they go by garbage collection: see [`collect`].
//!
//! # What copies hold back
//! A dump that a copy lacks and would keep is not dropped from the primary store before the copy has it: else a store that was
//! down for a week would miss that week for ever. Of a copy that does not answer it is taken for granted that it has nothing.
//! So a copy with longer rules, or none, that is down for long lets the primary store grow; `health` tells of both. A copy
//! by the same rules holds nothing back: what expires here it would not keep either.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::logical::cluster_card::FOLDER;
use crate::logical::name::folder_of;
use crate::logical::prune_plan::PrunePlan;
use crate::logical::shelf::{Contents, Shelf};
use crate::logical::sync::plan::SyncPlan;
use crate::logical::sync::report::StoreError;
use crate::logical::{maintenance, unfinished};
use crate::repo::backup_plan::{BackupPlan, Patience};
use crate::repo::collect::collect;
use crate::repo::repository::Repository;
use crate::retention::Retention;
use crate::store::ObjectKey;
use crate::store::lease::{Lease, LeaseOptions};

/// How long a copy may take to say what it has.
const LOOK: Duration = Duration::from_secs(5 * 60);

/// Whether somebody has said that more than half of the dumps or backups of a store may go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Nobody has.
    Missing,
    /// Somebody has.
    Given,
}

/// One store and its rules.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The dumps in it. Its copies hold back what they lack.
    pub shelf: Shelf,
    /// What is kept.
    pub retention: Retention,
    /// What of backups, where that is something else.
    pub of_backups: Option<Retention>,
    /// Its place among the stores; the primary has 1.
    pub place: usize,
    /// How the store is reserved meanwhile.
    pub lease: LeaseOptions,
    /// For how long an upload must have shown no sign of life to be taken for one that never ends; a day unless set.
    pub given_up_after: Duration,
    /// How long what backups are made of stays after nobody needs it any more.
    pub patience: Patience,
}

/// What became of one store, or would. As JSON it is an entry of `stores[]` of `prune`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorePrune {
    /// Its place among the stores.
    pub place: usize,
    /// What it is called.
    pub store: String,
    /// What stayed and what went; nothing where that failed.
    #[serde(flatten)]
    pub plan: Option<PrunePlan>,
    /// Why it failed.
    #[serde(flatten)]
    pub error: StoreError,
}

impl PruneRequest {
    /// The rules of one store that stands alone, or has copies.
    pub fn new(shelf: Shelf, retention: Retention) -> Self {
        Self {
            shelf,
            retention,
            of_backups: None,
            place: 1,
            lease: LeaseOptions::new("prune"),
            given_up_after: unfinished::GIVEN_UP_AFTER,
            patience: Patience::default(),
        }
    }

    /// Decides what goes at this moment. Reads the store and its copies, and changes nothing.
    ///
    /// # Errors
    /// What the store says. A copy that does not answer is no error.
    pub async fn plan(&self, now: OffsetDateTime) -> Result<PrunePlan> {
        let (plan, repository) = self.look(now).await?;
        repository.map(|_| plan)
    }

    /// The plan, and the repository, where there is one. What is wrong with that keeps no dump from being dropped.
    async fn look(&self, now: OffsetDateTime) -> Result<(PrunePlan, Result<Option<Repository>>)> {
        let mut plan = self.plan_dumps(now).await?;
        let repository = self.plan_backups(&mut plan, now).await;
        Ok((plan, repository))
    }

    async fn plan_dumps(&self, now: OffsetDateTime) -> Result<PrunePlan> {
        let here = self.shelf.contents().await?;
        if self.retention.is_empty() {
            return Ok(PrunePlan::new(&here, &self.retention, now, &BTreeMap::new()));
        }
        let held = self.held(&here, now).await?;
        Ok(PrunePlan::new(&here, &self.retention, now, &held))
    }

    async fn plan_backups(&self, plan: &mut PrunePlan, now: OffsetDateTime) -> Result<Option<Repository>> {
        let folder = format!("{FOLDER}/{}/repository", folder_of(self.shelf.cluster())).parse()?;
        let Some(repository) = Repository::open(self.shelf.store().clone(), folder).await? else { return Ok(None) };
        let repository = repository.with_keys(self.shelf.repository_keys()?);
        plan.add_backups(BackupPlan::look(&repository, self.of_backups.as_ref().unwrap_or(&self.retention), now, &self.patience).await?);
        Ok(Some(repository))
    }

    /// Drops what goes at this moment, and tells what stayed: also what the store keeps locked against the rules. Then has the store
    /// forget uploads that never ended. May be repeated.
    ///
    /// # Errors
    /// [`Error::ConsentNeeded`] when more than half of the dumps or backups would go and nobody has said so; `Conflict` when somebody else
    /// is at it; what the store says: what was dropped so far stays dropped.
    pub async fn carry_out(&self, consent: Consent, now: OffsetDateTime) -> Result<PrunePlan> {
        let mut done = self.apply(consent, now).await?;
        // Others may do that at the same time, so it needs no lease.
        done.unfinished_uploads = unfinished::remove(self.shelf.store().as_ref(), self.given_up_after).await;
        Ok(done)
    }

    async fn apply(&self, consent: Consent, now: OffsetDateTime) -> Result<PrunePlan> {
        let (plan, repository) = self.look(now).await?;
        check(&plan, consent)?;
        if !plan.has_work() {
            return repository.map(|_| plan);
        }
        let lease = match maintenance::lease(&self.shelf, &self.lease).await {
            Ok(lease) => Some(lease),
            // Dropping old dumps is the way out of a full disk, so it needs no room. Two at once drop the same ones, or each what it
            // may: without a lease no promise about a name is lost.
            Err(error) if lacks_room(&error) => None,
            Err(error) => return Err(error),
        };
        let done = async {
            // What stood there may have changed while we waited.
            let (plan, repository) = self.look(now).await?;
            check(&plan, consent)?;
            let done = match &lease {
                Some(lease) => plan.execute_under(lease, self.shelf.store().as_ref()).await?,
                None => plan.execute(self.shelf.store().as_ref()).await?,
            };
            self.collect(done, repository?, lease.as_ref(), now).await
        };
        let done = done.await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        done
    }

    /// Buries the backups that go, and removes what was buried for long enough.
    async fn collect(
        &self,
        mut done: PrunePlan,
        repository: Option<Repository>,
        lease: Option<&Lease>,
        now: OffsetDateTime,
    ) -> Result<PrunePlan> {
        let Some(repository) = repository else { return Ok(done) };
        let dropped = done.backups().map(BackupPlan::names).unwrap_or_default();
        done.collected(collect(&repository, &dropped, &self.patience, lease, now).await?);
        Ok(done)
    }

    /// What one result comes to among those of several stores.
    pub fn told(&self, result: Result<PrunePlan>) -> StorePrune {
        let (plan, error) = match result {
            Ok(plan) => (Some(plan), StoreError::default()),
            Err(error) => (None, StoreError::from(&error)),
        };
        StorePrune { place: self.place, store: self.shelf.store().to_string(), plan, error }
    }

    /// The dumps that copies lack and would keep, with the first one that does.
    async fn held(&self, here: &Contents, now: OffsetDateTime) -> Result<BTreeMap<ObjectKey, String>> {
        let mut held = BTreeMap::new();
        let copies = self.shelf.copies();
        let there = join_all(copies.iter().map(|copy| tokio::time::timeout(LOOK, copy.shelf.contents()))).await;
        for (copy, there) in copies.iter().zip(there) {
            let store = copy.shelf.store();
            let (there, why) = match there {
                Ok(Ok(there)) => (there, format!("{store} does not have it yet, and would keep it")),
                Ok(Err(_)) | Err(_) => (Contents::default(), format!("{store} would keep it, and cannot be asked whether it has it")),
            };
            for name in SyncPlan::new(here, &there, copy, now)?.wanted() {
                held.entry(name.clone()).or_insert_with(|| why.clone());
            }
        }
        Ok(held)
    }
}

/// Whether a store has no room for one more object.
fn lacks_room(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn check(plan: &PrunePlan, consent: Consent) -> Result<()> {
    if consent == Consent::Given { Ok(()) } else { plan.refuse_unconfirmed() }
}
