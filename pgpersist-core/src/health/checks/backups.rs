//! `backups`: is there a physical backup that is young enough, and is the newest one good?
//!
//! Told from the manifest of the newest one and the lists that it names; whether every byte is good is the work of `pgpersist verify`.
//! Backups of another cluster that had this one's name before are none of this one. Where there are none and nobody has planned any, that is
//! no warning: dumps alone are a choice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::backup::request::folder;
use crate::clock::Clock;
use crate::data_directory::own_folder::OwnFolder;
use crate::encryption::settings::EncryptionSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::{Finding, HealthCheck};
use crate::logical::cluster_card::ClusterCard;
use crate::logical::shelf::Shelf;
use crate::pg::lsn::Lsn;
use crate::repo::contents::Contents;
use crate::repo::entry::EntryKind;
use crate::repo::layout;
use crate::repo::manifest::Manifest;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::store::open::StoreSource;
use crate::wording::{ago, duration, size};

/// The name of its finding.
pub const NAME: &str = "backups";

/// How old the newest backup may be unless told otherwise: a day, and two hours for one that runs late.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(26 * 3600);

/// How far a backup may lie ahead of the clock before that is worth a warning.
const AHEAD: Duration = Duration::from_secs(3600);

/// Looks at the newest backups of a cluster in its primary store.
#[derive(Debug, Clone)]
pub struct BackupsCheck {
    /// Where they lie. It is opened when it is asked, so that a store that cannot be opened is a finding.
    pub store: Option<StoreSource>,
    /// The cluster's name there.
    pub cluster: String,
    /// What opens them.
    pub encryption: EncryptionSettings,
    /// Where this machine remembers the keys that it made.
    pub own: OwnFolder,
    /// Whether somebody has planned backups.
    pub is_planned: bool,
    /// How old the newest one may be.
    pub max_age: Duration,
    /// What is remembered from one look to the next.
    pub last_seen: LastSeen,
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// How long it may take.
    pub deadline: Duration,
}

/// What was seen of the newest good backup, which never changes: to find it out takes the list of all files, and a key. So an agent that looks
/// each minute does that once for each backup, and after that holds the manifest against its digest alone.
#[derive(Debug, Clone, Default)]
pub struct LastSeen(Arc<Mutex<Option<Good>>>);

impl LastSeen {
    fn of(&self, backup: RunName) -> Option<Good> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|good| good.name == backup)
    }

    fn keep(&self, good: &Good) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(good.clone());
    }
}

/// What there is.
#[derive(Debug, Default)]
struct Seen {
    /// How many backups.
    count: usize,
    /// What is wrong with the newest one, where it is not good.
    wrong: Option<String>,
    newest_good: Option<Good>,
    /// Whether what is there is of another cluster that had the name.
    of_another: bool,
}

/// One backup, as it was looked at.
#[derive(Debug)]
struct Looked {
    /// Its timeline, and where it ends there; nothing where that cannot be read.
    place: Option<Place>,
    /// Or what is wrong with it.
    good: Result<Good, String>,
}

type Place = (u32, Lsn);

#[derive(Debug, Clone)]
struct Good {
    name: RunName,
    place: Place,
    stopped_at: OffsetDateTime,
    size_bytes: u64,
    stored_bytes: u64,
    /// When the file was read that has not been read for longest; nothing where that could not be found out in time.
    oldest_read: Option<OffsetDateTime>,
}

#[async_trait]
impl HealthCheck for BackupsCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        let Some(store) = &self.store else {
            let none = "no store is named, so there are none";
            if !self.is_planned {
                return Finding::pass(NAME, none);
            }
            return Finding::warn(NAME, none, "name one with `--store DIR` or `[[store]]`, on another volume than the data");
        };
        match self.look(store).await {
            Ok(seen) => judge(&seen, self.is_planned, self.max_age, self.clock.now()),
            Err(error) => not_known(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

impl BackupsCheck {
    async fn look(&self, store: &StoreSource) -> Result<Seen> {
        let store = store.open().await?;
        let Some(repository) = Repository::open(store.clone(), folder(&self.cluster)?).await? else { return Ok(Seen::default()) };
        let card = ClusterCard::read(store.as_ref(), &self.cluster).await?;
        if card.is_some_and(|card| card.system_identifier.to_string() != repository.descriptor().system_identifier) {
            return Ok(Seen { of_another: true, ..Seen::default() });
        }
        let shelf = Shelf::new(store, self.cluster.clone(), Vec::new()).encrypted(self.encryption.clone())?;
        let repository = repository.with_keys(shelf.remembering_keys(self.own.clone()).repository_keys()?);
        repository.refuse_downgrade()?;
        let backups = repository.backups().await?;
        let mut seen = Seen { count: backups.len(), ..Seen::default() };
        for same_second in backups.chunk_by(|one, next| one.began_at() == next.began_at()).rev() {
            let mut looked = Vec::new();
            for backup in same_second {
                match self.look_at(&repository, *backup).await {
                    Ok(one) => looked.push((*backup, one)),
                    // It was removed since it was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => seen.count -= 1,
                    Err(error) if is_damage(&error) => {
                        looked.push((*backup, Looked { place: None, good: Err(format!("cannot be read: {error}")) }));
                    }
                    Err(error) => return Err(error),
                }
            }
            // Names tell to the second when a backup began. Within one, the log tells; what cannot be read may be the newest.
            looked.sort_by_key(|(_, one)| std::cmp::Reverse(one.place.unwrap_or((u32::MAX, Lsn(u64::MAX)))));
            for (backup, one) in looked {
                match one.good {
                    Ok(good) => {
                        seen.newest_good = Some(good);
                        return Ok(seen);
                    }
                    Err(wrong) => drop(seen.wrong.get_or_insert_with(|| format!("the newest, {backup}, {wrong}"))),
                }
            }
        }
        Ok(seen)
    }

    async fn look_at(&self, repository: &Repository, backup: RunName) -> Result<Looked> {
        if let Some(good) = self.last_seen.of(backup) {
            let below = layout::manifest(backup);
            let bytes = repository.store().get(&repository.key(&below)?).await?;
            Manifest::look_at(&below, &bytes).map_err(|fault| repository.wrong(&below, fault))?;
            return Ok(Looked { place: Some(good.place), good: Ok(good) });
        }
        let manifest = repository.manifest(backup).await?;
        let place = (manifest.wal.timeline, manifest.wal.stop_lsn.parse().unwrap_or_default());
        let is_not_good = |why| Ok(Looked { place: Some(place), good: Err(why) });
        let damaged: Vec<_> = manifest.damaged_pages.iter().filter(|page| !page.known).collect();
        if let Some(first) = damaged.first() {
            let first = format!("block {} of {}", first.block, first.path);
            return is_not_good(match damaged.len() {
                1 => format!("holds 1 damaged page, {first}"),
                count => format!("holds {count} damaged pages, the first one {first}"),
            });
        }
        // What takes longer than this is left out: that there is a backup must be told in time.
        let oldest_read = match tokio::time::timeout(self.deadline / 2, oldest_read(repository, &manifest)).await {
            Err(_) => None,
            Ok(Ok(at)) => at,
            Ok(Err(error)) if is_damage(&error) || error.kind() == ErrorKind::NotFound => {
                return is_not_good(format!("has lost its list of files: {error}"));
            }
            Ok(Err(error)) => return Err(error),
        };
        let good = Good {
            name: backup,
            place,
            stopped_at: manifest.stopped_at,
            size_bytes: manifest.sizes.bytes,
            stored_bytes: manifest.sizes.stored_bytes,
            oldest_read,
        };
        self.last_seen.keep(&good);
        Ok(Looked { place: Some(place), good: Ok(good) })
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid)
}

/// When the file was read that was left unread for longest.
async fn oldest_read(repository: &Repository, manifest: &Manifest) -> Result<Option<OffsetDateTime>> {
    let (mut contents, mut oldest) = (Contents::new(repository), None::<OffsetDateTime>);
    for place in &manifest.entries {
        let read = contents.entries(*place).await?.into_iter().filter_map(|entry| match entry.kind {
            EntryKind::File(file) => Some(file.read_fully.began_at()),
            EntryKind::Directory { .. } | EntryKind::Link { .. } => None,
        });
        oldest = read.chain(oldest).min();
    }
    Ok(oldest)
}

fn judge(seen: &Seen, is_planned: bool, max_age: Duration, now: OffsetDateTime) -> Finding {
    let mut judgement = Judgement::default();
    let age = |at: OffsetDateTime| Duration::try_from(now - at).unwrap_or_default();
    match (&seen.wrong, &seen.newest_good) {
        (None, None) if seen.of_another && is_planned => judgement.warn(
            "none yet: those in the store are of another cluster, which had this one's name before",
            "give this cluster a name of its own (`[cluster] name`) or another store",
        ),
        (None, None) if is_planned => judgement.warn("none yet", "make one with `pgpersist backup`"),
        (None, _) => {}
        (Some(wrong), good) => {
            let last = good.as_ref().map_or_else(
                || "none is good".to_owned(),
                |good| format!("the last good one is {} ({})", good.name, ago(age(good.stopped_at))),
            );
            judgement.fail(format!("{wrong}; {last}"), "make a new one with `pgpersist backup`; `pgpersist verify` tells which are good");
        }
    }
    if let Some(good) = &seen.newest_good {
        let age = age(good.stopped_at);
        if age > max_age {
            judgement.fail(
                format!("latest {} is too old ({}, {}; at most {} wanted)", good.name, size(good.size_bytes), ago(age), duration(max_age)),
                "run `pgpersist backup`, and see why its schedule did not",
            );
        } else if Duration::try_from(good.stopped_at - now).is_ok_and(|ahead| ahead > AHEAD) {
            judgement.warn(
                format!("latest {} is dated in the future", good.name),
                "check the clock of this machine: ages cannot be told until it is right",
            );
        }
    }
    let finding = judgement.finding(NAME, || match &seen.newest_good {
        None => "none, and none are planned".to_owned(),
        Some(good) => {
            let read = good.oldest_read.map(|at| format!("; each file read within {}", duration(age(at)))).unwrap_or_default();
            format!("latest {} ({}, {}{read})", good.name, size(good.size_bytes), ago(age(good.stopped_at)))
        }
    });
    let finding = finding.observing("count", seen.count).observing("max_age_s", max_age.as_secs());
    let Some(good) = &seen.newest_good else { return finding };
    finding
        .observing("name", good.name.to_string())
        .observing("age_s", age(good.stopped_at).as_secs())
        .observing("size_bytes", good.size_bytes)
        .observing("stored_bytes", good.stored_bytes)
        .observing("oldest_full_read_age_s", good.oldest_read.map(|at| age(at).as_secs()))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::health::Status;

    const NOW: OffsetDateTime = datetime!(2026-02-08 11:33:16 UTC);
    const TWO_HOURS_AGO: OffsetDateTime = datetime!(2026-02-08 09:33:16 UTC);

    fn good(stopped_at: OffsetDateTime) -> Seen {
        let name = RunName::new(TWO_HOURS_AGO, [15, 142, 125, 108]);
        let oldest_read = Some(NOW - time::Duration::days(3));
        let good = Good { name, place: (1, Lsn(7)), stopped_at, size_bytes: 3 << 30, stored_bytes: 1 << 30, oldest_read };
        Seen { count: 2, newest_good: Some(good), ..Seen::default() }
    }

    fn judged(seen: &Seen, is_planned: bool) -> Finding {
        judge(seen, is_planned, DEFAULT_MAX_AGE, NOW)
    }

    #[test]
    fn a_young_backup_is_told_with_its_size_age_and_what_was_left_unread_longest() {
        let finding = judged(&good(TWO_HOURS_AGO), true);
        let summary = "latest 20260208T093316Z-0f8e7d6c (3.0 GB, 2 h ago; each file read within 3 d)";
        assert_eq!((finding.status, finding.summary.as_str(), &finding.remedy), (Status::Pass, summary, &None));
        assert_eq!((&finding.observed["age_s"], &finding.observed["oldest_full_read_age_s"]), (&7200.into(), &259_200.into()));
        assert_eq!((&finding.observed["count"], &finding.observed["size_bytes"]), (&2.into(), &(3_u64 << 30).into()));
        let mut hurried = good(TWO_HOURS_AGO);
        hurried.newest_good.as_mut().unwrap().oldest_read = None;
        let finding = judged(&hurried, true);
        assert!(finding.summary.ends_with("2 h ago)") && finding.observed["oldest_full_read_age_s"].is_null(), "{finding:?}");
    }

    #[test]
    fn none_is_a_warning_only_where_somebody_wants_some() {
        let finding = judged(&Seen::default(), false);
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Pass, "none, and none are planned"));
        let finding = judged(&Seen::default(), true);
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Warn, "none yet"));
        let of_another = Seen { of_another: true, ..Seen::default() };
        assert_eq!(judged(&of_another, false).status, Status::Pass);
        let finding = judged(&of_another, true);
        assert!(finding.status == Status::Warn && finding.summary.contains("another cluster"), "{finding:?}");
    }

    #[test]
    fn an_old_one_is_a_failure_and_one_of_tomorrow_a_warning() {
        // Also where nobody has planned any: somebody did make one.
        let finding = judged(&good(NOW - time::Duration::days(2)), false);
        assert!(
            finding.status == Status::Fail && finding.summary.contains("is too old (3.0 GB, 2 d ago; at most 1 d 2 h wanted)"),
            "{finding:?}"
        );
        let finding = judged(&good(NOW + time::Duration::hours(2)), true);
        assert!(finding.status == Status::Warn && finding.summary.contains("future"), "{finding:?}");
    }

    #[test]
    fn a_damaged_newest_is_a_failure_that_tells_the_last_good_one() {
        let wrong = Some("the newest, 20260208T100000Z-00000000, holds 1 damaged page, block 7 of base/5/1259".to_owned());
        let finding = judged(&Seen { wrong: wrong.clone(), ..good(TWO_HOURS_AGO) }, true);
        assert_eq!(finding.status, Status::Fail);
        assert!(finding.summary.ends_with("; the last good one is 20260208T093316Z-0f8e7d6c (2 h ago)"), "{finding:?}");
        assert_eq!(finding.observed["age_s"], 7200);
        let finding = judged(&Seen { wrong, count: 1, ..Seen::default() }, false);
        assert!(finding.status == Status::Fail && finding.summary.ends_with("; none is good"), "{finding:?}");
    }
}
