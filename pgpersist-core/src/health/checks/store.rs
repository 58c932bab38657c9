//! `store:<n>`: is a store there, does it take writes, how old is its newest dump, and how far is a copy behind the primary one?
//!
//! Told from names. A folder is asked by its permissions whether it takes writes. Of any other store only a write can tell: a
//! tiny object of ours is written anew when the last one is older than an hour, and only where the store knows the cluster. Where
//! nothing may be replaced there is a new one each day. On that occasion it is found out whether the store honours the condition that
//! a name is free.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::{Finding, HealthCheck, Status};
use crate::logical::cluster_card::{ClusterCard, FOLDER};
use crate::logical::name::folder_of;
use crate::logical::shelf::Shelf;
use crate::logical::sync::behind::{Behind, behind, standing};
use crate::store::open::StoreSource;
use crate::store::url::StoreUrl;
use crate::store::write_probe::WriteProbe;
use crate::store::{BackupStore, conditions};
use crate::wording::{ago, duration};
use crate::workers;

/// How the names of these findings begin; the place of the store follows, the primary one with 1.
pub const PREFIX: &str = "store:";

/// For how long a dump may be on its way to a copy before that is worth a warning.
const ON_ITS_WAY: Duration = Duration::from_secs(2 * 3600);
/// What the probe says, and what it says where it could be written over on the condition that nothing is there: so it is remembered
/// which stores ignore that.
const PROBE: &str = "written by health to see whether that is possible\n";
const WRITTEN_OVER: &str = "written over by health, on the condition that nothing is there: this server ignores conditions\n";
/// How old the last write into a store may be before it is tried again.
const PROBED: time::Duration = time::Duration::HOUR;

/// Looks at one store.
#[derive(Debug, Clone)]
pub struct StoreCheck {
    name: String,
    store: StoreSource,
    /// The primary store, for one that receives copies.
    primary: Option<StoreSource>,
    cluster: String,
    databases: Vec<String>,
    max_age: Duration,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl StoreCheck {
    /// A check of the store at this place, counted from 1, whose newest dump may be so old. `primary` is the store whose copies
    /// it has, if it is not that one.
    #[expect(clippy::too_many_arguments, reason = "each is one thing that the answer needs")]
    pub fn new(
        place: usize,
        store: StoreSource,
        primary: Option<StoreSource>,
        cluster: impl Into<String>,
        databases: Vec<String>,
        max_age: Duration,
        clock: Arc<dyn Clock>,
        deadline: Duration,
    ) -> Self {
        Self { name: format!("{PREFIX}{place}"), store, primary, cluster: cluster.into(), databases, max_age, clock, deadline }
    }

    async fn shelf(&self, source: &StoreSource) -> Result<Shelf> {
        Ok(Shelf::new(source.open().await?, self.cluster.clone(), self.databases.clone()).with_clock(self.clock.clone()))
    }

    async fn look(&self) -> Result<(String, Seen)> {
        let shelf = self.shelf(&self.store).await?;
        let store = shelf.store().as_ref();
        let has_card = ClusterCard::read(store, &self.cluster).await?.is_some();
        let behind = match &self.primary {
            None => standing(&shelf).await?,
            Some(primary) => match self.shelf(primary).await {
                // What is wrong with the primary store is its own finding.
                Ok(primary) => match behind(&primary, &shelf).await {
                    Ok(behind) => behind,
                    Err(_) => standing(&shelf).await?,
                },
                Err(_) => standing(&shelf).await?,
            },
        };
        let (writable, is_weak) = self.probed(store, has_card).await?;
        Ok((store.to_string(), Seen { behind, writable, is_weak }))
    }

    /// Whether it takes writes, or why not; nothing where that cannot be told without writing what is not to be written. And whether it
    /// is known to ignore the condition that a name is free.
    async fn probed(&self, store: &dyn BackupStore, has_card: bool) -> Result<(Option<Writable>, bool)> {
        if let StoreSource::Url(url) = &self.store
            && let StoreUrl::Folder(folder) = url
        {
            let folder = folder.clone();
            let looked = workers::run(move || {
                Ok(match rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
                    Ok(()) => Some(Writable::Yes),
                    // It is made by the first write.
                    Err(rustix::io::Errno::NOENT) => None,
                    Err(errno) => Some(Writable::No(std::io::Error::from(errno).to_string())),
                })
            });
            return Ok((looked.await?, false));
        }
        if !has_card {
            return Ok((None, false));
        }
        let now = self.clock.now();
        let probe = WriteProbe::new(format!("{FOLDER}/{}/health-probe", folder_of(&self.cluster)).parse()?, now)?;
        if let Some(meta) = probe.written_within(store, PROBED, now).await? {
            let is_weak = meta.size_bytes == WRITTEN_OVER.len() as u64 && store.get(&probe.key).await? == WRITTEN_OVER;
            return Ok((Some(Writable::Yes), is_weak));
        }
        match probe.write(store, PROBE.into()).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Denied => return Ok((Some(Writable::No(error.to_string())), false)),
            Err(error) => return Err(error),
        }
        let honours = store.honours_conditions(&probe.key, WRITTEN_OVER.into()).await?;
        Ok((Some(Writable::Yes), honours == Some(false)))
    }
}

/// What was seen of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    behind: Behind,
    writable: Option<Writable>,
    /// It ignores the condition that a name is free.
    is_weak: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Writable {
    Yes,
    No(String),
}

#[async_trait]
impl HealthCheck for StoreCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Finding {
        match self.look().await {
            Ok((store, seen)) => judge(&self.name, &store, &seen, self.primary.is_some(), self.max_age, self.clock.now()),
            Err(error) => not_known(&self.name, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(name: &str, store: &str, seen: &Seen, is_copy: bool, max_age: Duration, now: OffsetDateTime) -> Finding {
    let Seen { behind, writable, is_weak } = seen;
    let age = |time: OffsetDateTime| Duration::try_from(now - time).unwrap_or_default();
    let mut judgement = Judgement::default();
    if let Some(Writable::No(why)) = writable {
        judgement.fail(
            format!("{store} takes no writes: {why}"),
            "give the user that makes the dumps the right to write there, and see whether it is mounted read-only",
        );
    }
    if *is_weak {
        judgement.warn(format!("{store} is used with a weaker promise: {}", conditions::WEAKER), conditions::REMEDY);
    }
    let newest_age = behind.newest.as_ref().map(|(_, time)| age(*time));
    let waiting = behind.missing_since.map(age);
    if is_copy {
        let missing = match behind.missing {
            1 => "1 dump is missing there".to_owned(),
            number => format!("{number} dumps are missing there"),
        };
        let remedy = "run `pgpersist sync`, and see why its schedule did not";
        match (newest_age, waiting) {
            (None, Some(waiting)) => judgement.add(
                if waiting > max_age { Status::Fail } else { Status::Warn },
                format!("{store} has no dump yet, and {missing}"),
                remedy,
            ),
            (Some(newest), Some(waiting)) if newest > max_age && waiting > ON_ITS_WAY => judgement.fail(
                format!("the newest dump in {store} is too old ({}; at most {} wanted), and {missing}", ago(newest), duration(max_age)),
                remedy,
            ),
            (Some(newest), Some(waiting)) if waiting > ON_ITS_WAY => {
                judgement
                    .warn(format!("{store} is behind: {missing}, the first of {}; its newest is of {}", ago(waiting), ago(newest)), remedy);
            }
            _ => {}
        }
    }
    let well = || {
        let newest = match (&behind.newest, newest_age) {
            (Some((name, _)), Some(age)) => format!("newest {name} ({})", ago(age)),
            _ => "no dumps yet".to_owned(),
        };
        let on_its_way = match behind.missing {
            0 => "",
            _ => ", and newer ones are on their way",
        };
        format!("{store}, {newest}{on_its_way}")
    };
    let mut finding = judgement.finding(name, well).observing("store", store).observing("dumps", behind.dumps);
    if let Some(writable) = writable {
        finding = finding.observing("writable", *writable == Writable::Yes);
    }
    if *is_weak {
        finding = finding.observing("ignores_conditions", true);
    }
    if let Some(age) = newest_age {
        finding = finding.observing("newest_age_s", age.as_secs());
    }
    if is_copy {
        // By how much the newest here is older than the newest of the primary store.
        let late = match (behind.missing_until, &behind.newest) {
            (Some(until), Some((_, newest))) => Some(Duration::try_from(until - *newest).unwrap_or_default().as_secs()),
            (None, _) => Some(0),
            (Some(_), None) => None,
        };
        finding = finding.observing("behind", behind.missing);
        if let Some(late) = late {
            finding = finding.observing("behind_s", late);
        }
    }
    finding
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
