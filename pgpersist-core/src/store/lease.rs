//! [`Lease`]: the right to be the only one who does something in a store, for as long as its holder is seen to live.
//!
//! Every holder leaves an object of its own, whose name is a number greater than all before: its *token*. It is put only
//! where none is, so of several who reach for one number exactly one gets it. The holder changes its object at each beat, and
//! marks it when it is done. Whoever comes later looks at the highest number: marked, and the next number is to be had;
//! unchanged for so long by *his own* monotonic clock as its holder has promised to beat, and the holder is taken for dead.
//! No wall clock is compared with another one, so none can be wrong. A holder of the same machine whose process has ended is
//! dead without waiting.
//!
//! A holder that cannot beat stops earlier than anybody may take its place. One that was stopped, or whose machine slept,
//! cannot know how long: so it looks at the store before each thing that cannot be undone ([`Lease::check`]). Between this
//! look and the deed it can be stopped once more; what is done under a lease must bear that two do it, seldom.
//!
//! Nothing has to be deleted, nor replaced: where the first is forbidden, a small object stays for each holder that there was, and
//! where the second is, one for each of its beats. These are called by the token and a number that counts them, and the last of
//! them is what the holder says.
//!
//! Where the store ignores the condition that a name is free, two may get one number at the same moment. So each object carries a
//! random mark: whoever finds another one's under his number has no lease, and leaves it as it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::store::lease::named::{Named, newest, objects};
use crate::store::lease::process_mark::ProcessMark;
use crate::store::{BackupStore, ObjectKey};
use crate::workers;

mod named;
mod process_mark;

/// The format that this version writes.
const FORMAT: u32 = 1;
/// No holder is waited for longer than this before it is taken for dead, whatever its object says.
const LONGEST: Duration = Duration::from_secs(600);
/// And none shorter.
const SHORTEST: Duration = Duration::from_millis(100);
/// More than an object of a holder has.
const LARGEST: u64 = 4096;

/// How a lease is taken and held.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// What its holder does, for whoever has to wait: `prune`.
    pub what: String,
    /// How often the holder shows that it lives.
    pub beat: Duration,
    /// For how long others must have seen no beat before they take its place. Several beats, lest one slow answer cost it.
    pub lost_after: Duration,
    /// How long to wait for a holder that lives. One that is dead is waited for in any case, as long as it takes to know it.
    pub patience: Duration,
}

impl LeaseOptions {
    /// A beat each ten seconds; whoever has shown none for 45 s is taken for dead; who lives is waited for no longer than that.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), beat: Duration::from_secs(10), lost_after: Duration::from_secs(45), patience: Duration::ZERO }
    }
}

/// A lease that is held. Dropping it leaves it to others once they have seen no beat for long enough; see
/// [`release`](Self::release).
#[derive(Debug)]
pub struct Lease {
    store: Arc<dyn BackupStore>,
    own: Arc<Own>,
    beating: JoinHandle<()>,
    done: Arc<Notify>,
    lost_after: Duration,
}

/// What the holder and its beats share.
#[derive(Debug)]
struct Own {
    folder: ObjectKey,
    token: u64,
    holder: String,
    process: Option<ProcessMark>,
    mark: u64,
    lost_after: Duration,
    beats: AtomicU64,
    /// Its object may not be replaced, so each beat gets one of its own.
    adds: AtomicBool,
    /// How many objects came behind the first one.
    added: AtomicU64,
    /// When the last beat began that has arrived.
    beaten: Mutex<Instant>,
}

/// The object of a holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    format: u32,
    token: u64,
    /// Who it is, for people.
    holder: String,
    /// Tells it from one of the same number that somebody else wrote.
    mark: u64,
    beat: u64,
    lost_after_s: f64,
    released: bool,
    /// Its process, for those of the same machine.
    #[serde(default)]
    process: Option<ProcessMark>,
}

impl Lease {
    /// Takes the lease whose objects lie in `folder`, waiting for who holds it as the options say. Needs tokio's runtime.
    ///
    /// # Errors
    /// `Conflict`, which names the holder, when one lives and patience is at its end; what the store says.
    pub async fn take(store: Arc<dyn BackupStore>, folder: &ObjectKey, options: &LeaseOptions) -> Result<Self> {
        let began = Instant::now();
        let process = workers::run(|| Ok(ProcessMark::own())).await?;
        let mut seen: Option<Seen> = None;
        loop {
            let free = match newest(store.as_ref(), folder).await? {
                None => Some(1),
                Some(named) => match read(store.as_ref(), &named.key(folder)?).await? {
                    // Gone between the two looks: look again.
                    None => {
                        seen = None;
                        None
                    }
                    Some(bytes) => {
                        let (record, token) = (parse(&bytes), named.token);
                        let wait = record.as_ref().map_or(options.lost_after, Record::lost_after);
                        let now = Instant::now();
                        let unchanged = seen.take().filter(|seen| seen.token == token && seen.bytes == bytes);
                        let since = unchanged.map_or(now, |seen| seen.since);
                        let is_over = record.as_ref().is_some_and(|record| record.released) || is_gone(record.as_ref()).await?;
                        let is_free = is_over || now.duration_since(since) >= wait;
                        let holder = record.map_or_else(|| "somebody whose object cannot be read".to_owned(), |record| record.holder);
                        seen = Some(Seen { token, bytes, since, wait, holder });
                        is_free.then(|| token.saturating_add(1))
                    }
                },
            };
            if let Some(token) = free {
                let own = Arc::new(Own {
                    folder: folder.clone(),
                    token,
                    holder: holder(&options.what),
                    process: process.clone(),
                    mark: rand::random(),
                    lost_after: options.lost_after,
                    beats: AtomicU64::new(0),
                    adds: AtomicBool::new(false),
                    added: AtomicU64::new(0),
                    beaten: Mutex::new(Instant::now()),
                });
                if own.claim(store.as_ref()).await? && own.is_newest(store.as_ref()).await? {
                    return Ok(Self::hold(store, own, options).await);
                }
                seen = None;
            }
            // Who may be dead is waited for until that is known.
            let alive_for = seen.as_ref().map_or(Duration::ZERO, |seen| seen.wait);
            if began.elapsed() >= options.patience.max(alive_for.saturating_add(options.beat)) {
                let holder = seen.map_or_else(|| "others".to_owned(), |seen| seen.holder);
                return Err(Error::conflict(
                    format!("{holder} is at work in {store}, and only one at a time can be"),
                    "run it again when that has ended; one that was killed is noticed by itself within a minute",
                ));
            }
            tokio::time::sleep((options.beat / 4).clamp(Duration::from_millis(5), Duration::from_secs(2))).await;
        }
    }

    async fn hold(store: Arc<dyn BackupStore>, own: Arc<Own>, options: &LeaseOptions) -> Self {
        let done = Arc::new(Notify::new());
        let beating = tokio::spawn(beat(store.clone(), own.clone(), options.beat, done.clone()));
        let lease = Self { store, own, beating, done, lost_after: options.lost_after };
        lease.forget_older().await;
        lease
    }

    /// The number of this holder: greater than that of every holder before.
    pub fn token(&self) -> u64 {
        self.own.token
    }

    /// Whether nobody can have taken the holder's place: to be asked before each thing that cannot be undone.
    ///
    /// # Errors
    /// `Conflict` when somebody has, or may have; what the store says.
    pub async fn check(&self) -> Result<()> {
        let lost = |why: String| {
            Error::conflict(
                format!("{} lost its right to be the only one in {}: {why}", self.own.holder, self.store),
                "run it again: it goes on where it ended",
            )
        };
        let beaten = self.own.beaten.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        // Earlier than others, so that clocks may run at somewhat different rates.
        if beaten >= self.lost_after * 2 / 3 {
            return Err(lost(format!("the store took no sign of life for {:.0} s", beaten.as_secs_f64())));
        }
        match newest(self.store.as_ref(), &self.own.folder).await? {
            Some(named) if named.token == self.own.token => match read(self.store.as_ref(), &named.key(&self.own.folder)?).await? {
                Some(bytes) if self.own.has_written(&bytes) => Ok(()),
                Some(_) => Err(lost("somebody else got the same number, which this store allows".to_owned())),
                None => Err(lost("its object is gone".to_owned())),
            },
            Some(named) if named.token > self.own.token => Err(lost("somebody else has it now".to_owned())),
            _ => Err(lost("its object is gone".to_owned())),
        }
    }

    /// Gives it back at once, to whoever waits. Where the store does not take that, others notice by the missing beats.
    pub async fn release(mut self) {
        // No beat may come after the mark: it would take it away. So one that is on its way is waited for; what has left for a
        // disk or a network arrives also when nobody waits for it any more.
        self.done.notify_one();
        let _ = (&mut self.beating).await;
        let _ = self.own.put(self.store.as_ref(), true).await;
    }

    /// Removes the objects of earlier holders, where that is allowed. Never the newest one, so numbers only grow.
    async fn forget_older(&self) {
        let Ok(objects) = objects(self.store.as_ref(), &self.own.folder).await else { return };
        for older in objects.into_iter().filter(|named| named.token < self.own.token) {
            let Ok(key) = older.key(&self.own.folder) else { return };
            if self.store.delete(&key).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// A holder as it was seen.
struct Seen {
    token: u64,
    bytes: Bytes,
    /// Since when its object has not changed before our eyes.
    since: Instant,
    wait: Duration,
    holder: String,
}

impl Own {
    /// Whether the number is ours now.
    async fn claim(&self, store: &dyn BackupStore) -> Result<bool> {
        let key = Named::first(self.token).key(&self.folder)?;
        match store.put_if_absent(&key, self.record(false)?).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unavailable) => {
                // The answer may have been lost, and the number be ours all the same.
                match read(store, &key).await? {
                    Some(bytes) if self.has_written(&bytes) => Ok(true),
                    _ if error.kind() == ErrorKind::Conflict => Ok(false),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether no greater number was given meanwhile. Between a look and a claim others may have come and gone, and the number that
    /// was free then may be free again, since older holders are forgotten: it is not to be had any more, and is left.
    async fn is_newest(&self, store: &dyn BackupStore) -> Result<bool> {
        let newest = newest(store, &self.folder).await;
        let is_newest = newest.as_ref().is_ok_and(|newest| newest.is_none_or(|newest| newest.token <= self.token));
        if !is_newest {
            // Nobody has to wait for one who holds nothing.
            let _ = self.put(store, true).await;
        }
        newest.map(|_| is_newest)
    }

    /// Says how it is now: in place of what was said before, or where that may not be replaced behind it.
    async fn put(&self, store: &dyn BackupStore, released: bool) -> Result<()> {
        let (key, record) = (Named::first(self.token).key(&self.folder)?, self.record(released)?);
        // Where that cannot be read, nobody is the worse for it but on such a store.
        if let Ok(Some(bytes)) = read(store, &key).await
            && !self.has_written(&bytes)
        {
            return Err(Error::conflict(format!("{key} in {store} is somebody else's"), ""));
        }
        if !self.adds.load(Ordering::Relaxed) {
            match store.put(&key, record.clone()).await {
                // For good: once something stands behind it, nobody looks at the first one any more.
                Err(error) if error.kind() == ErrorKind::Denied => self.adds.store(true, Ordering::Relaxed),
                put => return put,
            }
        }
        // A number is used once: what became of an answer that was lost is the same then.
        let number = self.added.fetch_add(1, Ordering::Relaxed) + 1;
        store.put_if_absent(&Named { token: self.token, number }.key(&self.folder)?, record).await
    }

    fn has_written(&self, bytes: &[u8]) -> bool {
        parse(bytes).is_some_and(|record| record.mark == self.mark)
    }

    fn record(&self, released: bool) -> Result<Bytes> {
        let record = Record {
            format: FORMAT,
            token: self.token,
            holder: self.holder.clone(),
            mark: self.mark,
            beat: self.beats.load(Ordering::Relaxed),
            lost_after_s: self.lost_after.as_secs_f64(),
            released,
            process: self.process.clone(),
        };
        Ok(serde_json::to_vec(&record).map_err(|e| Error::Bug(format!("a lease is no JSON: {e}")))?.into())
    }
}

impl Record {
    fn lost_after(&self) -> Duration {
        Duration::try_from_secs_f64(self.lost_after_s).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
    }
}

/// Whether the holder's process is known to have ended.
async fn is_gone(record: Option<&Record>) -> Result<bool> {
    let Some(process) = record.and_then(|record| record.process.clone()) else { return Ok(false) };
    workers::run(move || Ok(process.is_gone())).await
}

/// Shows again and again that the holder lives, until it is done. A beat that fails is tried again with the next one.
async fn beat(store: Arc<dyn BackupStore>, own: Arc<Own>, every: Duration, done: Arc<Notify>) {
    while tokio::time::timeout(every, done.notified()).await.is_err() {
        let began = Instant::now();
        own.beats.fetch_add(1, Ordering::Relaxed);
        if own.put(store.as_ref(), false).await.is_ok() {
            *own.beaten.lock().unwrap_or_else(PoisonError::into_inner) = began;
        }
    }
}

async fn read(store: &dyn BackupStore, key: &ObjectKey) -> Result<Option<Bytes>> {
    match store.get_range(key, 0..LARGEST).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(bytes: &[u8]) -> Option<Record> {
    serde_json::from_slice(bytes).ok().filter(|record: &Record| record.format == FORMAT)
}

fn holder(what: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{what} (process {} on {host})", std::process::id())
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
