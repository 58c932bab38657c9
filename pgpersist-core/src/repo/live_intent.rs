//! [`LiveIntent`]: an intent whose run shows again and again that it lives, by a *beat* beside the intent.
//!
//! Only the store's clock is asked: a run lives while its intent, or its last beat, is younger than [`DEAD_AFTER`] beside something that
//! was put just now. Who is taken for dead loses the intent before anything else, so it can see that it was: see
//! [`stands`](LiveIntent::stands).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, ProgressSink};
use crate::repo::envelope::{self, ObjectKind};
use crate::repo::fault::Fault;
use crate::repo::intent::Intent;
use crate::repo::layout;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;

/// How often a run shows that it lives.
pub const BEAT: Duration = Duration::from_secs(60);
/// How long it must have shown nothing to be taken for dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(60 * 60);

/// An intent that stands, and lives until this is dropped.
#[derive(Debug)]
pub struct LiveIntent {
    repository: Repository,
    intent: Intent,
    beats: Arc<Beats>,
    beating: JoinHandle<()>,
    done: Arc<Notify>,
}

/// What was put beside the intent.
#[derive(Debug)]
struct Beats {
    run: RunName,
    /// How many were put. Where nothing may be replaced, as many objects stand.
    put: AtomicU32,
    /// How many of them have names of their own.
    added: AtomicU32,
}

/// The object of a beat; when it was put is what counts.
#[derive(Debug, Serialize)]
struct Beat {
    run: RunName,
    number: u32,
}

impl LiveIntent {
    /// Puts the intent, before anything else of the run. Needs tokio's runtime.
    ///
    /// # Errors
    /// As [`Intent::put`].
    pub async fn begin(repository: &Repository, intent: Intent) -> Result<Self> {
        Self::beating(repository, intent, BEAT).await
    }

    /// The same for an operation that reads these backups and changes nothing. It goes on where this fails, for with credentials that only
    /// read, or on a full disk, a backup must be restored all the same.
    ///
    /// # Errors
    /// As [`Intent::put`].
    pub async fn reading(repository: &Repository, operation: &str, reads: Vec<RunName>) -> Result<Self> {
        let now = SystemClock.now();
        Self::begin(repository, Intent::of_reading(RunName::new(now, rand::random()), operation, reads, now)).await
    }

    /// As [`reading`](Self::reading); where it fails, that is a warning.
    pub async fn reading_or_warn(
        repository: &Repository,
        operation: &str,
        reads: Vec<RunName>,
        progress: &dyn ProgressSink,
    ) -> Option<Self> {
        Self::reading(repository, operation, reads)
            .await
            .inspect_err(|error| {
                let what = format!("{} was not told of this {operation}, so do not prune meanwhile: {error}", repository.store());
                progress.event(Event::Warning(what));
            })
            .ok()
    }

    async fn beating(repository: &Repository, intent: Intent, every: Duration) -> Result<Self> {
        intent.put(repository).await?;
        let beats = Arc::new(Beats { run: intent.run, put: AtomicU32::new(0), added: AtomicU32::new(0) });
        let done = Arc::new(Notify::new());
        let beating = tokio::spawn(beat(repository.clone(), Arc::clone(&beats), every, Arc::clone(&done)));
        Ok(Self { repository: repository.clone(), intent, beats, beating, done })
    }

    /// The intent.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Whether the intent stands. It does not when the run was silent for so long that it was taken for dead, as one whose machine
    /// slept: then what it relied on may be gone.
    ///
    /// # Errors
    /// What the store says.
    pub async fn stands(&self) -> Result<bool> {
        match self.repository.store().head(&self.repository.key(&layout::intent(self.intent.run))?).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes it away: the run is over, and what it published stands for itself. Who may not remove anything leaves it to who may.
    ///
    /// # Errors
    /// What the store says.
    pub async fn end(mut self) -> Result<()> {
        // No beat may come after the intent is gone, so one that is on its way is waited for.
        self.done.notify_one();
        let _ = (&mut self.beating).await;
        if self.beats.put.load(Ordering::Relaxed) > 0 {
            for number in 0..=self.beats.added.load(Ordering::Relaxed) {
                match self.repository.store().delete(&self.repository.key(&layout::beat(self.beats.run, number))?).await {
                    Err(error) if error.kind() == ErrorKind::Denied => break,
                    removed => removed?,
                }
            }
        }
        self.intent.remove(&self.repository).await
    }

    /// As [`end`](Self::end); what cannot be taken away now, garbage collection takes away later.
    pub async fn end_or_leave(self) {
        let _ = self.end().await;
    }
}

impl Drop for LiveIntent {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// Shows again and again that the run lives, until it is done. A beat that fails is tried again with the next one.
async fn beat(repository: Repository, beats: Arc<Beats>, every: Duration, done: Arc<Notify>) {
    while tokio::time::timeout(every, done.notified()).await.is_err() {
        let _ = beats.put(&repository).await;
    }
}

impl Beats {
    async fn put(&self, repository: &Repository) -> Result<()> {
        let number = self.put.fetch_add(1, Ordering::Relaxed);
        let added = self.added.load(Ordering::Relaxed);
        if added == 0 {
            match put(repository, self.run, 0, number).await {
                // For good: once it has seen that nothing may be replaced.
                Err(error) if error.kind() == ErrorKind::Denied && number > 0 => {}
                put => return put,
            }
        }
        let added = added + 1;
        self.added.store(added, Ordering::Relaxed);
        put(repository, self.run, added, number).await
    }
}

/// Puts the beat of this name.
async fn put(repository: &Repository, run: RunName, name: u32, number: u32) -> Result<()> {
    let below = layout::beat(run, name);
    let json = serde_json::to_vec(&Beat { run, number }).map_err(|_| repository.wrong(&below, Fault::NotCanonical))?;
    let object = envelope::seal(ObjectKind::Beat, &below, &json);
    let key = repository.key(&below)?;
    repository.store().put(&key, object.into()).await
}

/// Puts a beat of a run from outside of it, for tests that have no time.
#[cfg(test)]
pub(crate) async fn beat_once(repository: &Repository, run: RunName) {
    put(repository, run, 0, 0).await.unwrap();
}

/// The error of a run that was taken for dead.
pub fn taken_for_dead(repository: &Repository, run: RunName) -> Error {
    Error::conflict(format!("{run} was silent for so long that {} was cleared of what it had written", repository.store()), "run it again")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::repo::live_runs;
    use crate::store::BackupStore;
    use crate::store::faulty::{Calls, Effect, Fault as StoreFault, FaultPlan, FaultyStore, Operation};
    use crate::store::memory::MemoryBackupStore;

    async fn repository(store: Arc<dyn BackupStore>) -> Repository {
        let folder = ".pgpersist/main/repository".parse().unwrap();
        Repository::open_or_make(store, folder, 7, datetime!(2026-02-08 09:33:16 UTC)).await.unwrap()
    }

    fn intent() -> Intent {
        let began_at = datetime!(2026-02-08 09:33:16 UTC);
        Intent::of_backup(RunName::new(began_at, [1, 2, 3, 4]), None, began_at)
    }

    /// Lets a run beat until it was seen to, so many times.
    async fn beat_until(live: &LiveIntent, beats: u32) {
        while live.beats.put.load(Ordering::Relaxed) < beats {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_run_that_beats_stands_and_leaves_nothing_when_it_ends() {
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let repository = repository(Arc::clone(&store)).await;
        let live = LiveIntent::beating(&repository, intent(), Duration::from_millis(2)).await.unwrap();
        let began = live_runs::runs(&repository).await.unwrap()[&intent().run].seen;
        beat_until(&live, 3).await;
        assert!(live_runs::runs(&repository).await.unwrap()[&intent().run].seen > began);
        assert!(live.stands().await.unwrap());
        live.end().await.unwrap();
        assert!(live_runs::runs(&repository).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn where_nothing_may_be_replaced_each_beat_has_a_name_of_its_own() {
        let memory: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let fault = StoreFault { operation: Operation::Put, calls: Calls::From(1), effect: Effect::FailIfThere(ErrorKind::Denied) };
        let faulty: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(Arc::clone(&memory), FaultPlan { seed: 0, faults: vec![fault] }));
        let repository = repository(faulty).await;
        let live = LiveIntent::beating(&repository, intent(), Duration::from_millis(2)).await.unwrap();
        beat_until(&live, 4).await;
        let runs = live_runs::runs(&repository).await.unwrap();
        assert!(runs[&intent().run].beats.len() >= 2, "{runs:?}");
        live.end().await.unwrap();
        assert!(live_runs::runs(&repository).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_may_only_read_is_warned_and_goes_on() {
        let memory: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        repository(Arc::clone(&memory)).await;
        let fault = StoreFault { operation: Operation::PutIfAbsent, calls: Calls::From(1), effect: Effect::Fail(ErrorKind::Denied) };
        let repository = repository(Arc::new(FaultyStore::new(memory, FaultPlan { seed: 0, faults: vec![fault] }))).await;
        let live = LiveIntent::reading_or_warn(&repository, "restore", vec![intent().run], &crate::progress::Silent).await;
        assert!(live.is_none());
    }
}
