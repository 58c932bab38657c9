//! `last_drill`: has a restore of each database been proven lately? A dump that nobody ever loaded is a hope.
//!
//! Told from the reports that restore drills leave on the volume and beside the backups: when it was proven, how long the
//! recovery took, and how old the data was. Nobody is warned on the first day: as long as there could not yet be a drill that
//! is old enough to be missed, one that was never made is no warning.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::{Finding, HealthCheck};
use crate::logical::cluster_card::ClusterCard;
use crate::logical::drill_records::{self, DrillKind, RestoreRecord, RestoredDatabase};
use crate::logical::shelf::Shelf;
use crate::server::cluster::Cluster;
use crate::store::open::StoreSource;
use crate::store::{BackupStore, ObjectKey};
use crate::wording::{ago, duration};
use crate::workers;

/// The name of its finding.
pub const NAME: &str = "last_drill";

/// How long ago the last proven restore may be unless told otherwise: a month, and a few days for a drill that runs late.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(35 * 86_400);

/// Reads what the restore drills of a cluster left.
#[derive(Debug, Clone)]
pub struct LastDrillCheck {
    cluster: Cluster,
    store: Option<StoreSource>,
    name: String,
    databases: Vec<String>,
    max_age: Duration,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl LastDrillCheck {
    /// A check of the cluster that has this name in its store; about `databases`, or those of its last drill where that is
    /// empty.
    pub fn new(
        cluster: Cluster,
        store: Option<StoreSource>,
        name: impl Into<String>,
        databases: Vec<String>,
        max_age: Duration,
        clock: Arc<dyn Clock>,
        deadline: Duration,
    ) -> Self {
        Self { cluster, store, name: name.into(), databases, max_age, clock, deadline }
    }

    /// What can be read, and what kept us from reading the rest.
    async fn look(&self, store: &StoreSource) -> (Seen, Option<Error>) {
        let own = self.cluster.directory().own_folder().clone();
        // Whoever may not look beside the data still sees what lies in the store.
        let local = workers::run(move || drill_records::on_volume(&own, DrillKind::Restore)).await.unwrap_or_default();
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for path in local {
            places.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), Place::Volume(path));
        }
        let mut seen = Seen { wanted: self.databases.clone(), ..Seen::default() };
        let error = match store.open().await {
            Ok(store) => self.look_in_store(store, &mut places, &mut seen).await.err(),
            Err(error) => {
                seen.read_all(places, None).await;
                Some(error)
            }
        };
        (seen, error)
    }

    async fn look_in_store(&self, store: Arc<dyn BackupStore>, places: &mut BTreeMap<String, Place>, seen: &mut Seen) -> Result<()> {
        let listed = drill_records::in_store(store.as_ref(), &self.name).await;
        for key in listed.as_ref().map(Vec::as_slice).unwrap_or_default() {
            places.entry(key.file_name().to_owned()).or_insert_with(|| Place::Store(key.clone()));
        }
        let card = ClusterCard::read(store.as_ref(), &self.name).await;
        seen.card = card.as_ref().ok().cloned().flatten();
        seen.read_all(std::mem::take(places), Some(store.as_ref())).await;
        listed?;
        card?;
        if seen.is_proven() {
            return Ok(());
        }
        let shelf = Shelf::new(store, self.name.clone(), self.databases.clone()).with_clock(self.clock.clone());
        for dump in shelf.list_current().await? {
            let Some(database) = dump.database else { continue };
            let first = seen.first_dumps.entry(database).or_insert(dump.taken_at);
            *first = dump.taken_at.min(*first);
        }
        Ok(())
    }
}

#[async_trait]
impl HealthCheck for LastDrillCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        let Some(store) = &self.store else {
            return Finding::pass(NAME, "no store is named, so there is nothing to restore");
        };
        let (seen, error) = self.look(store).await;
        match error {
            // What was proven stays proven when its store cannot be reached.
            Some(error) if !seen.is_proven() => not_known(NAME, &error),
            _ => judge(&seen, self.max_age, self.clock.now()),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

/// Where a report lies.
#[derive(Debug)]
enum Place {
    Volume(PathBuf),
    Store(ObjectKey),
}

impl Place {
    /// A report that cannot be read, or is none, proves nothing.
    async fn read(self, store: Option<&dyn BackupStore>) -> Option<RestoreRecord> {
        match self {
            Self::Volume(path) => {
                workers::run(move || Ok(fs::read(path).ok().and_then(|bytes| RestoreRecord::parse(&bytes)))).await.ok()?
            }
            Self::Store(key) => store?.get(&key).await.ok().and_then(|bytes| RestoreRecord::parse(&bytes)),
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// The databases that are to be restorable, where they are named.
    wanted: Vec<String>,
    /// Newest first.
    records: Vec<RestoreRecord>,
    /// The card of the cluster that the store serves now.
    card: Option<ClusterCard>,
    /// The oldest dump of each database.
    first_dumps: BTreeMap<String, OffsetDateTime>,
}

impl Seen {
    /// Reads from the newest report back to where everything is proven.
    async fn read_all(&mut self, places: BTreeMap<String, Place>, store: Option<&dyn BackupStore>) {
        for (_, place) in places.into_iter().rev() {
            self.records.extend(place.read(store).await);
            if self.is_proven() {
                return;
            }
        }
    }

    /// What a report tells of this cluster. One of another cluster that had its name before proves nothing.
    fn ours<'a>(&'a self, record: &'a RestoreRecord) -> impl Iterator<Item = &'a RestoredDatabase> {
        let identifier = self.card.as_ref().map(|card| card.system_identifier.to_string());
        record.databases.iter().filter(move |restored| match (&restored.system_identifier, &identifier) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        })
    }

    /// The databases in question: those that are named, else those of the last drill, and those that have dumps.
    fn databases(&self) -> BTreeSet<&str> {
        if !self.wanted.is_empty() {
            return self.wanted.iter().map(String::as_str).collect();
        }
        let last = self.records.iter().find(|record| self.ours(record).next().is_some());
        let drilled = last.into_iter().flat_map(|record| self.ours(record)).map(|restored| restored.database.as_str());
        drilled.chain(self.first_dumps.keys().map(String::as_str)).collect()
    }

    /// Each drill of a database, newest first.
    fn drills_of<'a>(&'a self, database: &'a str) -> impl Iterator<Item = (&'a RestoreRecord, &'a RestoredDatabase)> {
        self.records.iter().flat_map(move |record| {
            self.ours(record).filter(move |restored| restored.database == database).map(move |restored| (record, restored))
        })
    }

    fn is_proven(&self) -> bool {
        let databases = self.databases();
        !databases.is_empty() && databases.iter().all(|database| self.drills_of(database).any(|(_, restored)| restored.passed()))
    }

    /// The last drill, where it failed over something that is of no database: roles, or a question that could not be asked.
    fn failed_as_a_whole(&self) -> Option<&RestoreRecord> {
        let last = self.records.iter().find(|record| self.ours(record).next().is_some())?;
        (last.verdict == "fail" && last.databases.iter().all(RestoredDatabase::passed)).then_some(last)
    }

    /// Since when a database could have been drilled: its oldest dump tells, unless older ones were pruned. Without any drill
    /// the cluster's card does, which is never pruned.
    fn undrilled_since(&self, database: &str) -> Option<OffsetDateTime> {
        let first = *self.first_dumps.get(database)?;
        let card = self.card.as_ref().filter(|_| self.records.is_empty());
        Some(card.map_or(first, |card| card.created_at.min(first)))
    }
}

/// One proven restore.
struct Proven<'a> {
    record: &'a RestoreRecord,
    restored: &'a RestoredDatabase,
    age: Duration,
}

fn judge(seen: &Seen, max_age: Duration, now: OffsetDateTime) -> Finding {
    let age_of = |moment: OffsetDateTime| Duration::try_from(now - moment).unwrap_or_default();
    let databases = seen.databases();
    let mut judgement = Judgement::default();
    let (mut proven, mut unproven, mut failed) = (Vec::new(), Vec::new(), 0);
    for &database in &databases {
        let whose = if databases.len() == 1 { String::new() } else { format!("{database}: ") };
        let last = seen.drills_of(database).next();
        let good = seen.drills_of(database).find(|(_, restored)| restored.passed()).map(|(record, restored)| Proven {
            record,
            restored,
            age: age_of(record.started_at),
        });
        if let Some((record, restored)) = last.filter(|(_, restored)| !restored.passed()) {
            failed += 1;
            let why = restored.reasons.first().map(|why| format!(": {why}")).unwrap_or_default();
            let before = good.as_ref().map_or_else(|| "none was proven before".to_owned(), |good| format!("proven {}", ago(good.age)));
            judgement.fail(
                format!("{whose}the last restore drill, {}, failed{why}; {before}", ago(age_of(record.started_at))),
                "`pgpersist drill list --json` tells what it found; make a new dump with `pgpersist dump`, and drill it with `pgpersist drill restore`",
            );
        } else if let Some(good) = good.as_ref().filter(|good| good.age > max_age) {
            judgement.warn(
                format!("{whose}the last proven restore was {}, and at most {} is wanted", ago(good.age), duration(max_age)),
                "run `pgpersist drill restore`, and see why its schedule did not",
            );
        } else if good.is_none() && seen.undrilled_since(database).is_some_and(|since| age_of(since) > max_age) {
            judgement.warn(format!("{whose}no restore was ever proven"), "prove one with `pgpersist drill restore`");
        }
        match good {
            Some(good) => proven.push(good),
            None => unproven.push(database),
        }
    }
    if failed == 0
        && let Some(record) = seen.failed_as_a_whole()
    {
        failed += 1;
        let why = record.reasons.first().map(|why| format!(": {why}")).unwrap_or_default();
        let remedy = "`pgpersist drill list --json` tells what it found; mend it, and run `pgpersist drill restore`";
        judgement.fail(format!("the last restore drill, {}, failed{why}", ago(age_of(record.started_at))), remedy);
    }
    let finding = judgement.finding(NAME, || told(&proven, &unproven));
    let observed: Vec<Value> = proven.iter().map(observed).collect();
    finding.observing("databases", observed).observing("failed", failed).observing("max_age_s", max_age.as_secs())
}

/// All is well: what was proven, how long it took, and how old the data was.
fn told(proven: &[Proven<'_>], unproven: &[&str]) -> String {
    let Some(oldest) = proven.iter().max_by_key(|one| one.age) else { return "no restore proven yet".to_owned() };
    let seconds: f64 = proven.iter().filter_map(|one| one.restored.load_s).sum();
    let data = proven.iter().filter_map(|one| one.restored.age_s).fold(0.0, f64::max);
    let took = if seconds < 60.0 { format!("{seconds:.1} s") } else { duration(whole(seconds)) };
    let data = duration(whole(data));
    let what = match (proven, oldest.restored.name.as_deref()) {
        ([_], Some(name)) => format!("{name} restored in {took}, its data {data} old then"),
        _ => format!("{} databases restored in {took}, their data at most {data} old then", proven.len()),
    };
    let rest = if unproven.is_empty() { String::new() } else { format!("; not yet: {}", unproven.join(", ")) };
    format!("proven {}: {what}{rest}", ago(oldest.age))
}

fn observed(Proven { record, restored, age }: &Proven<'_>) -> Value {
    json!({
        "database": restored.database,
        "name": restored.name,
        "proven_at": record.started_at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
        "age_s": age.as_secs(),
        "restore_s": restored.load_s,
        "dump_age_s": restored.age_s,
    })
}

/// A time in a file may be anything.
fn whole(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;
    use crate::pg::version::ServerVersion;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-03-10 12:00 UTC);

    fn drill(days_ago: i64, databases: &[(&str, &str)]) -> RestoreRecord {
        let restored = |(database, verdict): &(&str, &str)| RestoredDatabase {
            database: (*database).to_owned(),
            verdict: (*verdict).to_owned(),
            name: Some(format!("backup_of_{database}.sql.gz")),
            system_identifier: Some("7".to_owned()),
            age_s: Some(21_600.0),
            load_s: Some(4.2),
            reasons: if *verdict == "fail" { vec!["cut off".to_owned()] } else { Vec::new() },
        };
        let verdict = if databases.iter().all(|(_, verdict)| *verdict == "pass") { "pass" } else { "fail" };
        let (started_at, databases) = (NOW - time::Duration::days(days_ago), databases.iter().map(restored).collect());
        RestoreRecord { started_at, verdict: verdict.to_owned(), reasons: Vec::new(), databases }
    }

    fn card(system_identifier: u64, days_ago: i64) -> Option<ClusterCard> {
        Some(ClusterCard::new("main", system_identifier, ServerVersion { major: 15, minor: 18 }, NOW - time::Duration::days(days_ago)))
    }

    fn seen(wanted: &[&str], records: Vec<RestoreRecord>) -> Seen {
        Seen { wanted: wanted.iter().map(|name| (*name).to_owned()).collect(), records, ..Seen::default() }
    }

    fn dumped(seen: Seen, days_ago: i64, databases: &[&str]) -> Seen {
        let first_dumps = databases.iter().map(|name| ((*name).to_owned(), NOW - time::Duration::days(days_ago))).collect();
        Seen { first_dumps, ..seen }
    }

    fn judged(seen: &Seen) -> Finding {
        judge(seen, DEFAULT_MAX_AGE, NOW)
    }

    #[test]
    fn the_last_proven_restore_is_told_with_its_time_and_its_data() {
        let finding = judged(&seen(&["shop"], vec![drill(2, &[("shop", "pass")])]));
        let told = "proven 2 d ago: backup_of_shop.sql.gz restored in 4.2 s, its data 6 h old then";
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Pass, told));
        assert_eq!(finding.observed["databases"][0]["age_s"], 2 * 86_400);
        assert_eq!(finding.observed["databases"][0]["restore_s"], 4.2);
        let finding = judged(&seen(&["a", "b"], vec![drill(1, &[("a", "pass")]), drill(3, &[("a", "pass"), ("b", "pass")])]));
        assert_eq!(finding.summary, "proven 3 d ago: 2 databases restored in 8.4 s, their data at most 6 h old then");
    }

    #[test]
    fn a_failed_drill_fails_until_another_one_passes() {
        let records = vec![drill(1, &[("shop", "fail")]), drill(8, &[("shop", "pass")])];
        let finding = judged(&seen(&["shop"], records.clone()));
        assert_eq!(finding.status, Status::Fail);
        assert_eq!(finding.summary, "the last restore drill, 24 h ago, failed: cut off; proven 8 d ago");
        let again = [vec![drill(0, &[("shop", "pass")])], records].concat();
        assert_eq!(judged(&seen(&["shop"], again)).status, Status::Pass);
        // A drill of one database alone says nothing of the other.
        let finding = judged(&seen(&["a", "b"], vec![drill(1, &[("b", "pass")]), drill(2, &[("a", "fail"), ("b", "pass")])]));
        assert!(finding.status == Status::Fail && finding.summary.starts_with("a: "), "{finding:?}");
    }

    #[test]
    fn a_drill_that_failed_over_no_database_failed() {
        let failed = RestoreRecord { verdict: "fail".into(), reasons: vec!["roles: cut off".into()], ..drill(1, &[("shop", "pass")]) };
        let finding = judged(&seen(&["shop"], vec![failed]));
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Fail, "the last restore drill, 24 h ago, failed: roles: cut off"));
    }

    #[test]
    fn a_restore_that_was_proven_long_ago_is_a_warning() {
        let finding = judged(&seen(&["shop"], vec![drill(40, &[("shop", "pass")])]));
        assert_eq!(finding.status, Status::Warn);
        assert_eq!(finding.summary, "the last proven restore was 40 d ago, and at most 35 d is wanted");
    }

    #[test]
    fn none_yet_is_no_warning_until_one_could_be_missed() {
        let fresh = dumped(seen(&["shop"], vec![]), 1, &["shop"]);
        assert_eq!((judged(&fresh).status, judged(&fresh).summary.as_str()), (Status::Pass, "no restore proven yet"));
        let old = dumped(seen(&["shop"], vec![]), 36, &["shop"]);
        assert_eq!((judged(&old).status, judged(&old).summary.as_str()), (Status::Warn, "no restore was ever proven"));
        // Retention keeps no old dumps, but the card stays.
        let pruned = Seen { card: card(7, 100), ..dumped(seen(&["shop"], vec![]), 1, &["shop"]) };
        assert_eq!(judged(&pruned).status, Status::Warn);
        // Without any dump that is the finding of another check.
        assert_eq!(judged(&Seen { card: card(7, 100), ..seen(&["shop"], vec![]) }).status, Status::Pass);
        // A database that came later, in a cluster that is drilled.
        let grown = Seen { card: card(7, 100), ..dumped(seen(&["a", "b"], vec![drill(1, &[("a", "pass")])]), 2, &["a", "b"]) };
        assert!(judged(&grown).status == Status::Pass && judged(&grown).summary.ends_with("; not yet: b"), "{:?}", judged(&grown));
    }

    #[test]
    fn a_drill_of_the_cluster_before_proves_nothing() {
        let records = || vec![drill(1, &[("shop", "pass")])];
        assert!(Seen { card: card(7, 50), ..seen(&["shop"], records()) }.is_proven());
        let renewed = Seen { card: card(8, 1), ..dumped(seen(&[], records()), 1, &["shop"]) };
        assert!(!renewed.is_proven());
        assert_eq!(judged(&renewed).summary, "no restore proven yet");
    }
}
