//! Bringing all copies up to date, each by itself: a store that is down, or hangs, delays no other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use futures_util::stream::TryStreamExt;
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::logical::cluster_card::{ClusterCard, FOLDER};
use crate::logical::known_store::KnownStores;
use crate::logical::maintenance;
use crate::logical::name::folder_of;
use crate::logical::shelf::{Contents, CopyShelf, Shelf};
use crate::logical::sync::bringing::Bringing;
use crate::logical::sync::objects::{Way, within};
use crate::logical::sync::plan::{Left, PlannedCopy, Step, SyncPlan};
use crate::logical::sync::report::{StoreError, StorePlan, StoreSync, SyncReport};
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::Cluster;
use crate::store::lease::{Lease, LeaseOptions};
use crate::store::{BackupStore, ObjectKey};

/// What is to be brought up to date, and how.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// The primary store, with its copies.
    pub shelf: Shelf,
    /// The cluster, where it is at hand: it remembers which stores took its dumps.
    pub cluster: Option<Cluster>,
    /// Goes on with a copy that took dumps of this cluster and has no trace of them any more. Its volume is most likely not
    /// mounted, so somebody has to say so.
    pub begin_anew: bool,
    /// How long listing a store with its side files may take.
    pub look: Duration,
    /// How long a store may take for a part of an object.
    pub stall: Duration,
    /// How long it may take altogether to bring one copy up to date.
    pub deadline: Duration,
    /// How copies are reserved while they are written.
    pub lease: LeaseOptions,
}

impl SyncRequest {
    /// All copies of a shelf: a quarter of an hour for listing, five minutes for each part of an object, twelve hours for all.
    pub fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            cluster: None,
            begin_anew: false,
            look: Duration::from_secs(15 * 60),
            stall: Duration::from_secs(5 * 60),
            deadline: Duration::from_secs(12 * 60 * 60),
            lease: LeaseOptions::new("sync"),
        }
    }

    /// What would be done with each copy, in their order. Looks only.
    ///
    /// # Errors
    /// What the primary store says, and `Invalid` where there is no copy. What a copy says is part of its own plan.
    pub fn plan<'a>(&'a self) -> BoxFuture<'a, Result<Vec<StorePlan>>> {
        Box::pin(async move {
            let here = self.here().await?;
            let now = self.shelf.clock().now();
            let plans = join_all(self.shelf.copies().iter().map(|copy| self.look_at(copy, &here, now))).await;
            let each = self.shelf.copies().iter().zip(plans).enumerate();
            let told = each.map(|(place, (copy, plan))| {
                let (plan, error) = match plan {
                    Ok((plan, _)) => (Some(plan), StoreError::default()),
                    Err(error) => (None, StoreError::from(&error)),
                };
                StorePlan { place: place + 2, store: copy.shelf.store().to_string(), plan, error }
            });
            Ok(told.collect())
        })
    }

    /// Brings all copies up to date. What is dropped half-way leaves what was copied so far, and nothing half.
    ///
    /// # Errors
    /// As [`plan`](Self::plan): what concerns one copy alone is part of the report.
    pub fn carry_out<'a>(&'a self, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<SyncReport>> {
        Box::pin(async move {
            let here = self.here().await?;
            let now = self.shelf.clock().now();
            let known = match &self.cluster {
                Some(cluster) => KnownStores::of(cluster, self.shelf.cluster()).await?.map(Arc::new),
                None => None,
            };
            let copies = self.shelf.copies().iter().enumerate();
            let each = copies.map(|(place, copy)| {
                let (here, known) = (&here, known.clone());
                async move {
                    let mut report = StoreSync {
                        place: place + 2,
                        store: copy.shelf.store().to_string(),
                        copied: 0,
                        bytes: 0,
                        behind: None,
                        behind_s: None,
                        conflicts: Vec::new(),
                        damaged: Vec::new(),
                        error: StoreError::default(),
                    };
                    let brought = self.bring(copy, here, now, known.as_deref(), &mut report, progress);
                    let brought = within(self.deadline, brought, || format!("bring {} up to date", copy.shelf.store())).await;
                    if let Err(error) = brought {
                        report.error = StoreError::from(&error);
                    }
                    report
                }
            });
            let stores = join_all(each).await;
            if let Some(known) = known {
                // One after the other: they share a file.
                for (copy, _) in self.shelf.copies().iter().zip(&stores).filter(|(_, report)| report.error.error.is_none()) {
                    remember(&known, copy, progress).await;
                }
            }
            Ok(SyncReport { stores })
        })
    }

    async fn here(&self) -> Result<Contents> {
        if self.shelf.copies().is_empty() {
            return Err(Error::invalid(
                "there is no second store to be brought up to date",
                "write a second `[[store]]` into pgpersist.toml, or give `--store` twice: the first one is copied to the others",
            ));
        }
        within(self.look, self.shelf.contents(), || format!("list {}", self.shelf.store())).await
    }

    async fn look_at(&self, copy: &CopyShelf, here: &Contents, now: OffsetDateTime) -> Result<(SyncPlan, Contents)> {
        let there = within(self.look, copy.shelf.contents(), || format!("list {}", copy.shelf.store())).await?;
        Ok((SyncPlan::new(here, &there, copy, now)?, there))
    }

    async fn bring(
        &self,
        copy: &CopyShelf,
        here: &Contents,
        now: OffsetDateTime,
        known: Option<&KnownStores>,
        report: &mut StoreSync,
        progress: &dyn ProgressSink,
    ) -> Result<()> {
        let to = copy.shelf.store();
        if let (Some(known), false) = (known, self.begin_anew) {
            within(self.stall, known.check(to.as_ref()), || format!("look at {to}")).await?;
        }
        let (plan, there) = self.look_at(copy, here, now).await?;
        report.note(&plan);
        self.bring_cards(copy, here, &there).await?;
        if plan.is_empty() {
            return Ok(());
        }
        let lease = maintenance::lease(&copy.shelf, &self.lease).await?;
        let brought = async {
            // Somebody else may have brought some of it while we waited.
            let (plan, _) = self.look_at(copy, here, now).await?;
            report.note(&plan);
            self.execute(&plan, copy, &lease, report, progress).await
        };
        let brought = brought.await;
        lease.release().await;
        brought
    }

    async fn execute(
        &self,
        plan: &SyncPlan,
        copy: &CopyShelf,
        lease: &Lease,
        report: &mut StoreSync,
        progress: &dyn ProgressSink,
    ) -> Result<()> {
        let way = Way { from: self.shelf.store(), to: copy.shelf.store(), stall: self.stall, progress };
        let there = match &self.cluster {
            Some(cluster) => copy.shelf.clone().remembering_keys(cluster.directory().own_folder().clone()),
            None => copy.shelf.clone(),
        };
        let bringing = Bringing::new(way, there);
        for planned in &plan.copies {
            within(self.stall, lease.check(), || format!("look at {}", way.to)).await?;
            match bringing.step(planned).await {
                Ok(true) => {
                    report.copied += 1;
                    report.bytes += planned.bytes;
                }
                Ok(false) => {}
                // Dropped by retention since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Damaged => report.damaged.push(left(planned, &error)),
                Err(error) if error.kind() == ErrorKind::Conflict => report.conflicts.push(left(planned, &error)),
                Err(error) => return Err(error),
            }
            if let (Step::Dump { .. }, Some(behind)) = (&planned.step, &mut report.behind) {
                *behind -= 1;
            }
        }
        // What is left now is left on purpose: it is damaged, or stands in conflict.
        report.behind = Some(0);
        report.behind_s = Some(0.0);
        Ok(())
    }

    /// Makes the copy one of this cluster. It never takes a name over that the primary store has not taken over itself.
    async fn bring_cards(&self, copy: &CopyShelf, here: &Contents, there: &Contents) -> Result<()> {
        let (from, to, cluster) = (self.shelf.store().as_ref(), copy.shelf.store().as_ref(), self.shelf.cluster());
        let call = async {
            let standing = ClusterCard::read(to, cluster).await?;
            let Some(card) = ClusterCard::read(from, cluster).await? else {
                // Dumps that were made elsewhere have none; a store that was lost has neither.
                let is_lost = here.ours.is_empty() && (standing.is_some() || !there.ours.is_empty());
                return if is_lost { Err(lost(from, to)) } else { Ok(()) };
            };
            match standing {
                None => card.claim(to).await.map(drop)?,
                Some(standing) if standing.system_identifier == card.system_identifier => {}
                Some(standing) if ClusterCard::was(from, cluster, standing.system_identifier).await? => card.renew(to).await.map(drop)?,
                Some(standing) => {
                    return Err(Error::refused(
                        format!(
                            "the store {to} serves another cluster named `{cluster}`: its system identifier is {}, and that of the primary \
                             store's is {}",
                            standing.system_identifier, card.system_identifier
                        ),
                        "give this cluster a name of its own (`[cluster] name`), or its copies another store",
                    ));
                }
            }
            // The keys of encrypted dumps before the first of these: a copy that nobody can open is none.
            for what in ["history", "keys"] {
                let prefix = format!("{FOLDER}/{}/{what}/", folder_of(cluster));
                let mut listed = from.list(&prefix);
                while let Some(object) = listed.try_next().await? {
                    bring_object(from, to, &object.key).await?;
                }
            }
            Ok(())
        };
        within(self.stall, call, || format!("bring the cluster's cards and keys to {to}")).await
    }
}

/// Brings a small object that is written once, where it is missing.
async fn bring_object(from: &dyn BackupStore, to: &dyn BackupStore, key: &ObjectKey) -> Result<()> {
    match to.head(key).await {
        Err(error) if error.kind() == ErrorKind::NotFound => match to.put_if_absent(key, from.get(key).await?).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            put => put,
        },
        head => head.map(drop),
    }
}

impl StoreSync {
    fn note(&mut self, plan: &SyncPlan) {
        self.conflicts.clone_from(&plan.conflicts);
        self.damaged.clone_from(&plan.damaged);
        (self.behind, self.behind_s) = (Some(plan.dumps()), plan.behind_s);
    }
}

fn left(planned: &PlannedCopy, error: &Error) -> Left {
    Left { name: planned.name.clone(), reason: error.to_string() }
}

fn lost(from: &dyn crate::store::BackupStore, to: &dyn crate::store::BackupStore) -> Error {
    Error::refused(
        format!("the primary store {from} knows nothing of this cluster, and its copy in {to} does"),
        format!(
            "if its volume is not mounted, mount it; if it is lost, fill it from the copy: `pgpersist sync --store {to} --store {from}`, the \
             one that is copied first"
        ),
    )
}

async fn remember(known: &KnownStores, copy: &CopyShelf, progress: &dyn ProgressSink) {
    match known.remember(copy.shelf.store().as_ref()).await {
        // Whoever may read a cluster need not be able to write beside its data.
        Err(error) if error.kind() != ErrorKind::Denied => {
            progress.event(Event::Warning(format!("a store that is not mounted will not be noticed: {error}")));
        }
        _ => {}
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
