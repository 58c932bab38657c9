//! [`PrunePlan`]: which dumps go and which stay, with reasons; made first, shown or carried out after. Backups stand in it as their own
//! [`BackupPlan`] has them, and are carried out by others.
//!
//! - Each database is judged by itself, and so is each of its histories: after `init --new` another system identifier lives
//!   under the cluster's name, and its dumps push out none of those before, which may be all that is left. A dump whose
//!   history nothing tells counts with the newest one.
//! - A dump whose database nothing tells stays, and so does everything of other clusters.
//! - Beyond what [`retention`] promises, the newest dump that has a side file and its size stays: one
//!   without is only believed to be good.
//! - A dump of roles stays as long as a dump that stays would be loaded with it: the newest one beside it or at the top that
//!   is not later than the dump, else the oldest later one. One that is newer than every dump beside it stays too.
//! - A side file goes with its dump; one that outlived its dump by a day goes as well.
//! - Nothing is touched that has not exactly the name of a dump, or of its side file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::error::{Error, Result};
use crate::logical::name::{DumpKind, DumpName};
use crate::logical::shelf::{Contents, DumpEntry, DumpState, Globals, Shelf};
use crate::repo::backup_plan::BackupPlan;
use crate::repo::collect::Collected;
use crate::repo::names::RunName;
use crate::retention::{self, Decision, Item, Retention};
use crate::store::lease::Lease;
use crate::store::{BackupStore, ObjectKey, ObjectMeta};

/// How old the side file of nothing must be to be removed: its dump may be on its way.
const ORPHAN_AGE: Duration = Duration::DAY;
/// How many dumps are dropped between two looks at the lease.
const BATCH: usize = 16;

/// What pruning would do. As JSON it is what `prune` reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// What stays.
    pub kept: Vec<Kept>,
    /// What goes: first the dumps, the oldest first, then what belonged to them, then backups.
    pub dropped: Vec<Dropped>,
    /// How much that frees, side files included, and of backups what is removed at once.
    pub freed_bytes: u64,
    /// How much of backups is removed later, when its time of grace is over.
    pub pending_bytes: u64,
    /// Why nothing of backups is removed, where something cannot be read that may need it.
    pub blocked: Option<String>,
    /// How many uploads were removed of which the store kept parts, and which never ended. A plan tells of none.
    pub unfinished_uploads: u64,
    #[serde(skip)]
    dumps: usize,
    #[serde(skip)]
    dumps_dropped: usize,
    #[serde(skip)]
    backups: Option<BackupPlan>,
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// A dump's path in the store, or a backup's name.
    pub name: ObjectKey,
    /// Why.
    pub reason: String,
}

/// Something that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// A dump's path in the store, or a backup's name.
    pub name: ObjectKey,
    /// Why.
    pub reason: String,
    /// Its size, without its side file; of a backup what it added to the store when it was made.
    pub size_bytes: u64,
    /// Until when it can be restored at least; nothing where it is gone at once, as every dump is.
    #[serde(with = "time::serde::rfc3339::option")]
    pub removed_after: Option<OffsetDateTime>,
    #[serde(skip)]
    side_file: Option<ObjectKey>,
    #[serde(skip)]
    freed_bytes: u64,
    /// It is no object that can be removed.
    #[serde(skip)]
    is_backup: bool,
}

impl Shelf {
    /// Decides what `retention` lets go at this moment. Reads the store and changes nothing.
    ///
    /// # Errors
    /// What the store says.
    pub async fn prune_plan(&self, retention: &Retention, now: OffsetDateTime) -> Result<PrunePlan> {
        Ok(PrunePlan::new(&self.contents().await?, retention, now, &BTreeMap::new()))
    }
}

impl PrunePlan {
    /// `held` are dumps that stay whatever the rules say, each with its reason.
    pub(super) fn new(contents: &Contents, retention: &Retention, now: OffsetDateTime, held: &BTreeMap<ObjectKey, String>) -> Self {
        let mut plan = Self {
            kept: Vec::new(),
            dropped: Vec::new(),
            freed_bytes: 0,
            pending_bytes: 0,
            blocked: None,
            unfinished_uploads: 0,
            dumps: 0,
            dumps_dropped: 0,
            backups: None,
        };
        let mut staying: Vec<&DumpEntry> = contents.foreign.iter().collect();
        let newest = newest_histories(&contents.ours);
        let mut histories: BTreeMap<(&str, Option<u64>), Vec<&DumpEntry>> = BTreeMap::new();
        for entry in &contents.ours {
            match &entry.database {
                Some(database) => {
                    let history = history_of(entry).or_else(|| newest.get(database.as_str()).copied());
                    histories.entry((database, history)).or_default().push(entry);
                }
                None => {
                    staying.push(entry);
                    plan.keep(&entry.name, "nothing tells its database");
                }
            }
        }
        let mut leaving = Vec::new();
        for entries in histories.values() {
            for (entry, decision) in entries.iter().zip(decide(retention, entries, now)) {
                plan.dumps += 1;
                let reason = if decision.keep { Some(&decision.reason) } else { held.get(&entry.name) };
                if let Some(reason) = reason {
                    staying.push(entry);
                    plan.keep(&entry.name, reason);
                } else {
                    leaving.push((entry, decision.reason));
                }
            }
        }
        // A kill in between leaves the newer ones.
        leaving.sort_by_key(|(entry, _)| entry.named);
        plan.dumps_dropped = leaving.len();
        for (entry, reason) in leaving {
            plan.drop(&entry.name, reason, entry.size_bytes, entry.side_object.as_ref());
        }
        if !retention.is_empty() {
            plan.globals(&contents.globals, &staying);
            plan.orphans(&contents.orphans, now);
        }
        plan
    }

    fn keep(&mut self, name: &ObjectKey, reason: impl Into<String>) {
        self.kept.push(Kept { name: name.clone(), reason: reason.into() });
    }

    fn drop(&mut self, name: &ObjectKey, reason: impl Into<String>, size_bytes: u64, side_object: Option<&ObjectMeta>) {
        let freed_bytes = size_bytes + side_object.map_or(0, |side_object| side_object.size_bytes);
        self.freed_bytes += freed_bytes;
        let side_file = side_object.map(|side_object| side_object.key.clone());
        let (name, reason) = (name.clone(), reason.into());
        self.dropped.push(Dropped { name, reason, size_bytes, removed_after: None, side_file, freed_bytes, is_backup: false });
    }

    /// Takes up what goes and stays of the backups in the same store.
    pub(super) fn add_backups(&mut self, backups: BackupPlan) {
        for kept in &backups.kept {
            self.keep(&key_of(kept.name), &*kept.reason);
        }
        self.dropped.extend(backups.dropped.iter().map(|dropped| Dropped {
            name: key_of(dropped.name),
            reason: dropped.reason.clone(),
            size_bytes: dropped.size_bytes,
            removed_after: dropped.removed_after,
            side_file: None,
            freed_bytes: 0,
            is_backup: true,
        }));
        self.freed_bytes += backups.freed_bytes;
        self.pending_bytes = backups.pending_bytes;
        self.blocked = backups.blocked.clone();
        self.backups = Some(backups);
    }

    /// What goes and stays of the backups.
    pub(super) fn backups(&self) -> Option<&BackupPlan> {
        self.backups.as_ref()
    }

    /// Tells what came of it in place of what was planned of the backups.
    pub(super) fn collected(&mut self, collected: Collected) {
        let planned = self.backups.as_ref().map_or(0, |backups| backups.freed_bytes);
        self.freed_bytes = self.freed_bytes.saturating_sub(planned) + collected.freed_bytes;
        self.pending_bytes = collected.pending_bytes;
        self.blocked = collected.blocked;
    }

    /// Whether there is anything to do.
    pub(super) fn has_work(&self) -> bool {
        !self.dropped.is_empty() || self.backups.as_ref().is_some_and(BackupPlan::has_work)
    }

    fn globals(&mut self, globals: &[Globals], staying: &[&DumpEntry]) {
        let needed: BTreeSet<_> = staying.iter().filter_map(|dump| loaded_with(dump, globals)).collect();
        for one in globals {
            let key = &one.object.key;
            let beside = |dump: &&&DumpEntry| key.folder().is_none() || dump.name.folder() == key.folder();
            let followed = staying.iter().filter(beside).any(|dump| dump.named_time() > one.named.time());
            if needed.contains(key) {
                self.keep(key, "a dump that is kept needs it");
            } else if followed {
                self.drop(key, "no dump that is kept needs it", one.object.size_bytes, one.side_object.as_ref());
            } else {
                self.keep(key, "newer than the dumps beside it");
            }
        }
    }

    fn orphans(&mut self, orphans: &[ObjectMeta], now: OffsetDateTime) {
        for orphan in orphans.iter().filter(|orphan| orphan.modified.saturating_add(ORPHAN_AGE) < now) {
            self.drop(&orphan.key, "the side file of a dump that is gone", orphan.size_bytes, None);
        }
    }

    /// Whether more than half of the dumps, or of the backups, would go at once: something for a person to confirm.
    pub fn drops_more_than_half(&self) -> bool {
        self.drops_too_many_dumps() || self.backups.as_ref().is_some_and(BackupPlan::drops_more_than_half)
    }

    fn drops_too_many_dumps(&self) -> bool {
        self.dumps_dropped * 2 > self.dumps
    }

    /// Refuses a plan that drops more than half of the dumps or backups at once: for a caller to whom nobody has said that they may go.
    ///
    /// # Errors
    /// [`Error::ConsentNeeded`].
    pub fn refuse_unconfirmed(&self) -> Result<()> {
        if !self.drops_more_than_half() {
            return Ok(());
        }
        let what = if self.drops_too_many_dumps() { "dumps" } else { "backups" };
        Err(Error::ConsentNeeded {
            action: format!("dropping more than half of the {what} at once"),
            plan: self.dropped.iter().map(|dropped| format!("drop {} ({})", dropped.name, dropped.reason)).collect(),
        })
    }

    /// The same, by who holds this lease: whether it still does is asked again and again.
    ///
    /// # Errors
    /// As [`execute`](Self::execute); `Conflict` when the lease was lost.
    pub(super) async fn execute_under(&self, lease: &Lease, store: &dyn BackupStore) -> Result<Self> {
        self.carry_out(Some(lease), store).await
    }

    /// Carries out what the plan says of dumps. A dump goes before its side file, so that a kill in between leaves a side file of
    /// nothing, which a later pruning removes, and never a dump about which nothing is known. May be repeated.
    ///
    /// Returns what came of it: what the store itself keeps locked is among what is kept.
    ///
    /// # Errors
    /// What the store says; what was dropped so far stays dropped.
    pub async fn execute(&self, store: &dyn BackupStore) -> Result<Self> {
        self.carry_out(None, store).await
    }

    async fn carry_out(&self, lease: Option<&Lease>, store: &dyn BackupStore) -> Result<Self> {
        let mut done = Self { dropped: Vec::new(), ..self.clone() };
        let mut has_locked_dumps = false;
        for batch in self.dropped.chunks(BATCH) {
            if let Some(lease) = lease {
                lease.check().await?;
            }
            for dropped in batch {
                if dropped.is_backup {
                    done.dropped.push(dropped.clone());
                    continue;
                }
                // Dumps go first, so by now it is known which of them stay against the rules.
                if has_locked_dumps && dropped.holds_roles() {
                    done.stays(dropped, "a dump that is locked in the store may need it".to_owned());
                    continue;
                }
                match dropped.carry_out(store).await {
                    Ok(()) => done.dropped.push(dropped.clone()),
                    Err(Error::Locked { until, .. }) => {
                        has_locked_dumps |= !dropped.holds_roles();
                        let until = until.and_then(|until| until.format(&Rfc3339).ok()).map(|until| format!(" until {until}"));
                        done.stays(dropped, format!("locked in the store{}", until.unwrap_or_default()));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(done)
    }

    /// Something that was to go and could not.
    fn stays(&mut self, dropped: &Dropped, reason: String) {
        self.freed_bytes = self.freed_bytes.saturating_sub(dropped.freed_bytes);
        self.keep(&dropped.name, reason);
    }
}

impl Dropped {
    async fn carry_out(&self, store: &dyn BackupStore) -> Result<()> {
        store.delete(&self.name).await?;
        match &self.side_file {
            // One that is locked outlives its dump, and goes as the side file of nothing.
            Some(side_file) => match store.delete(side_file).await {
                Err(Error::Locked { .. }) => Ok(()),
                deleted => deleted,
            },
            None => Ok(()),
        }
    }

    fn holds_roles(&self) -> bool {
        DumpName::parse(self.name.file_name()).is_some_and(|name| name.kind() == DumpKind::Globals)
    }
}

fn key_of(backup: RunName) -> ObjectKey {
    backup.to_string().parse().expect("the name of a backup is a key")
}

/// The cluster that a dump was made of, where its side file tells.
fn history_of(entry: &DumpEntry) -> Option<u64> {
    entry.side_file.as_ref().map(|side_file| side_file.system_identifier)
}

/// For each database the history of its newest dump of which one is known. The entries are in order, newest first.
fn newest_histories(entries: &[DumpEntry]) -> BTreeMap<&str, u64> {
    let mut newest = BTreeMap::new();
    for entry in entries {
        if let (Some(database), Some(history)) = (&entry.database, history_of(entry)) {
            newest.entry(database.as_str()).or_insert(history);
        }
    }
    newest
}

fn decide(retention: &Retention, entries: &[&DumpEntry], now: OffsetDateTime) -> Vec<Decision> {
    let item = |entry: &&DumpEntry| Item {
        name: entry.name.to_string(),
        taken_at: entry.named_time(),
        size_bytes: entry.size_bytes,
        good: entry.is_good(),
    };
    let items: Vec<_> = entries.iter().map(item).collect();
    let mut decisions = retention::plan(retention, &items, now);
    // The entries are in order, newest first.
    if let Some(proven) = entries.iter().position(|entry| entry.state == DumpState::Complete)
        && !decisions[proven].keep
    {
        decisions[proven].keep = true;
        decisions[proven].reason = "the newest one that is known to be complete is never dropped".to_owned();
    }
    decisions
}

/// The dump of roles that a dump would be loaded with.
pub(super) fn loaded_with<'a>(dump: &DumpEntry, globals: &'a [Globals]) -> Option<&'a ObjectKey> {
    let beside = |one: &&Globals| one.object.key.folder().is_none() || one.object.key.folder() == dump.name.folder();
    let rank = |one: &&Globals| (one.named.time(), one.object.key.folder() == dump.name.folder());
    let (before, after): (Vec<_>, Vec<_>) = globals.iter().filter(beside).partition(|one| one.named.time() <= dump.named_time());
    before.into_iter().max_by_key(rank).or_else(|| after.into_iter().min_by_key(rank)).map(|one| &one.object.key)
}
