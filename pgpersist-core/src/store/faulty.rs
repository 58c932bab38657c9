//! [`FaultyStore`]: wraps any store and makes it fail, tear, corrupt or wait, as a [`FaultPlan`] says.
//!
//! What happens to a call depends on the plan, the operation and the number of the call alone, so a failing run is repeated
//! by its plan.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::error::{Error, ErrorKind, Result};
use crate::store::{BackupStore, IsOurs, ObjectKey, ObjectMeta, Upload};

/// What is called: the methods of [`BackupStore`] and [`Upload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Operation {
    Put,
    PutIfAbsent,
    Get,
    GetRange,
    Head,
    List,
    Delete,
    Upload,
    Write,
    Finish,
}

/// Which calls of an operation are hit. Calls count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// This one.
    Nth(u64),
    /// This one and all later ones.
    From(u64),
    /// So many of a hundred, chosen by the plan's seed.
    Percent(u8),
}

/// What happens to a call that is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It fails and changes nothing.
    Fail(ErrorKind),
    /// For `Put`: it fails and changes nothing where the key exists, as for those who may not replace.
    FailIfThere(ErrorKind),
    /// For `PutIfAbsent`: it replaces what is there, as a server does that ignores conditions.
    Overwrite,
    /// It is carried out, and then fails: the answer was lost. A listing just fails.
    LoseAnswer(ErrorKind),
    /// For `Upload`: the upload takes so many bytes and then fails as `Unavailable`, for good.
    Tear(u64),
    /// For `Get` and `GetRange`: one bit of the answer is flipped, chosen by the plan's seed.
    Corrupt,
    /// It takes so much longer.
    Delay(Duration),
}

/// One thing to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The operation that is hit.
    pub operation: Operation,
    /// Which of its calls.
    pub calls: Calls,
    /// What happens.
    pub effect: Effect,
}

/// Everything that is to go wrong. The first fault that fits a call is the one that happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Decides what is left to chance.
    pub seed: u64,
    /// The faults.
    pub faults: Vec<Fault>,
}

impl FaultPlan {
    /// A plan with one fault.
    pub fn one(operation: Operation, calls: Calls, effect: Effect) -> Self {
        Self { seed: 0, faults: vec![Fault { operation, calls, effect }] }
    }
}

/// A store with something wrong. Clones share the counting.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn BackupStore>,
    plan: Arc<FaultPlan>,
    calls: Arc<Mutex<HashMap<Operation, u64>>>,
}

impl FaultyStore {
    /// Wraps `inner`; an empty plan changes nothing.
    pub fn new(inner: Arc<dyn BackupStore>, plan: FaultPlan) -> Self {
        Self { inner, plan: Arc::new(plan), calls: Arc::default() }
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.calls.lock().expect("no code panics while it counts").get(&operation).copied().unwrap_or(0)
    }

    /// Counts a call, and waits or fails as planned before it.
    async fn before(&self, operation: Operation, key: &str) -> Result<After> {
        let (effect, chance) = self.hit(operation);
        match effect {
            Some(Effect::Fail(kind)) => Err(error(kind, operation, key)),
            Some(Effect::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(After { effect: None, chance })
            }
            effect => Ok(After { effect, chance }),
        }
    }

    fn hit(&self, operation: Operation) -> (Option<Effect>, u64) {
        let call = {
            let mut calls = self.calls.lock().expect("no code panics while it counts");
            let call = calls.entry(operation).or_insert(0);
            *call += 1;
            *call
        };
        let chance = mix(self.plan.seed ^ mix(operation as u64) ^ mix(call));
        let fits = |fault: &&Fault| {
            fault.operation == operation
                && match fault.calls {
                    Calls::Nth(nth) => call == nth,
                    Calls::From(first) => call >= first,
                    Calls::Percent(percent) => chance % 100 < u64::from(percent),
                }
        };
        (self.plan.faults.iter().find(fits).map(|fault| fault.effect), mix(chance))
    }
}

/// What is still to happen to a call that went through.
struct After {
    effect: Option<Effect>,
    chance: u64,
}

impl After {
    fn answer<T>(&self, operation: Operation, key: &str, done: Result<T>) -> Result<T> {
        match self.effect {
            Some(Effect::LoseAnswer(kind)) => done.and(Err(error(kind, operation, key))),
            _ => done,
        }
    }

    fn bytes(&self, operation: Operation, key: &str, read: Result<Bytes>) -> Result<Bytes> {
        let bytes = self.answer(operation, key, read)?;
        if self.effect != Some(Effect::Corrupt) || bytes.is_empty() {
            return Ok(bytes);
        }
        let mut bytes = bytes.to_vec();
        let bit = self.chance % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        Ok(bytes.into())
    }
}

/// A good mixing of 64 bits (the finaliser of SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn error(kind: ErrorKind, operation: Operation, key: &str) -> Error {
    let what = format!("{operation:?} of `{key}` failed as planned");
    match kind {
        ErrorKind::NotFound => Error::not_found(what, ""),
        ErrorKind::Conflict => Error::conflict(what, ""),
        ErrorKind::Unavailable => Error::unavailable(what, ""),
        ErrorKind::Denied => Error::denied(what, ""),
        ErrorKind::Invalid => Error::invalid(what, ""),
        ErrorKind::Damaged => Error::damaged(what, ""),
        ErrorKind::Unsafe => Error::refused(what, ""),
        ErrorKind::Cancelled => Error::Cancelled { what },
        ErrorKind::Bug => Error::Bug(what),
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} with faults", self.inner)
    }
}

#[async_trait]
impl BackupStore for FaultyStore {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let after = self.before(Operation::Put, key.as_str()).await?;
        if let Some(Effect::FailIfThere(kind)) = after.effect
            && self.inner.head(key).await.is_ok()
        {
            return Err(error(kind, Operation::Put, key.as_str()));
        }
        after.answer(Operation::Put, key.as_str(), self.inner.put(key, bytes).await)
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let after = self.before(Operation::PutIfAbsent, key.as_str()).await?;
        if after.effect == Some(Effect::Overwrite) {
            return self.inner.put(key, bytes).await;
        }
        after.answer(Operation::PutIfAbsent, key.as_str(), self.inner.put_if_absent(key, bytes).await)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let after = self.before(Operation::Get, key.as_str()).await?;
        after.bytes(Operation::Get, key.as_str(), self.inner.get(key).await)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let after = self.before(Operation::GetRange, key.as_str()).await?;
        after.bytes(Operation::GetRange, key.as_str(), self.inner.get_range(key, range).await)
    }

    fn reads_at_once(&self) -> usize {
        self.inner.reads_at_once()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let after = self.before(Operation::Head, key.as_str()).await?;
        after.answer(Operation::Head, key.as_str(), self.inner.head(key).await)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        stream::once(async move {
            let after = self.before(Operation::List, prefix).await?;
            after.answer(Operation::List, prefix, Ok(()))
        })
        .flat_map(move |begun| match begun {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let after = self.before(Operation::List, prefix).await?;
        after.answer(Operation::List, prefix, self.inner.folders(prefix).await)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let after = self.before(Operation::Delete, key.as_str()).await?;
        after.answer(Operation::Delete, key.as_str(), self.inner.delete(key).await)
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let after = self.before(Operation::Upload, key.as_str()).await?;
        let inner = after.answer(Operation::Upload, key.as_str(), self.inner.upload(key).await)?;
        let left = if let Some(Effect::Tear(bytes)) = after.effect { Some(bytes) } else { None };
        Ok(Box::new(FaultyUpload { store: self.clone(), key: key.clone(), inner, left }))
    }

    async fn remove_unfinished(&self, idle: Duration, is_ours: &IsOurs<'_>) -> Result<u64> {
        self.inner.remove_unfinished(idle, is_ours).await
    }
}

struct FaultyUpload {
    store: FaultyStore,
    key: ObjectKey,
    inner: Box<dyn Upload>,
    /// How many bytes it still takes, where it is to be torn.
    left: Option<u64>,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let after = self.store.before(Operation::Write, self.key.as_str()).await?;
        let Some(left) = self.left else {
            return after.answer(Operation::Write, self.key.as_str(), self.inner.write(bytes).await);
        };
        let length = bytes.len() as u64;
        self.left = Some(left.saturating_sub(length));
        if length <= left {
            return self.inner.write(bytes).await;
        }
        self.inner.write(bytes.slice(..left as usize)).await?;
        Err(error(ErrorKind::Unavailable, Operation::Write, self.key.as_str()))
    }

    async fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        let after = self.store.before(Operation::Finish, self.key.as_str()).await?;
        if self.left == Some(0) {
            return Err(error(ErrorKind::Unavailable, Operation::Finish, self.key.as_str()));
        }
        after.answer(Operation::Finish, self.key.as_str(), self.inner.finish().await)
    }
}
