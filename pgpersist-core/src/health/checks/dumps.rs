//! `dumps`: is there a dump of each database that is young enough and not known to be damaged?
//!
//! Told from the listing and the side files; whether the bytes are good is the work of `pgpersist verify`. A dump of another
//! cluster that had this one's name before, as after `init --new`, is no dump of this one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::health::checks::judgement::{Judgement, not_known};
use crate::health::{Finding, HealthCheck};
use crate::logical::shelf::{DumpEntry, DumpState, Shelf};
use crate::pg::quote;
use crate::store::open::StoreSource;
use crate::wording::{ago, duration, size};

/// The name of its finding.
pub const NAME: &str = "dumps";

/// How old the newest dump may be unless told otherwise: a day, and two hours for one that runs late.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(26 * 3600);

/// How far a dump may lie ahead of the clock before that is worth a warning.
const AHEAD: Duration = Duration::from_secs(3600);

/// Lists the dumps of a cluster in its primary store.
#[derive(Debug, Clone)]
pub struct DumpsCheck {
    store: Option<StoreSource>,
    cluster: String,
    databases: Vec<String>,
    max_age: Duration,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl DumpsCheck {
    /// A check of the dumps of `databases`, or of all databases that have dumps where that is empty. The store is opened when
    /// it is asked, so that one that cannot be opened is a finding.
    pub fn new(
        store: Option<StoreSource>,
        cluster: impl Into<String>,
        databases: Vec<String>,
        max_age: Duration,
        clock: Arc<dyn Clock>,
        deadline: Duration,
    ) -> Self {
        Self { store, cluster: cluster.into(), databases, max_age, clock, deadline }
    }
}

#[async_trait]
impl HealthCheck for DumpsCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        let Some(store) = &self.store else {
            return Finding::warn(
                NAME,
                "no store is named, so there are no backups",
                "name one with `--store DIR` or `[[store]]`, on another volume than the data, and run `pgpersist dump`",
            );
        };
        let store = match store.open().await {
            Ok(store) => store,
            Err(error) => return not_known(NAME, &error),
        };
        let shelf = Shelf::new(store, self.cluster.clone(), self.databases.clone()).with_clock(self.clock.clone());
        match shelf.list_current().await {
            Ok(dumps) => judge(&dumps, &self.databases, self.max_age, self.clock.now()),
            Err(error) => not_known(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

/// `dumps` come newest first.
fn judge(dumps: &[DumpEntry], configured: &[String], max_age: Duration, now: OffsetDateTime) -> Finding {
    let mut databases: Vec<&str> = configured.iter().map(String::as_str).collect();
    if configured.is_empty() {
        databases = dumps.iter().filter_map(|dump| dump.database.as_deref()).collect();
        databases.sort_unstable();
        databases.dedup();
    }
    let mut judgement = Judgement::default();
    let mut seen = Vec::new();
    if databases.is_empty() {
        judgement.warn("none yet", "make one with `pgpersist dump`");
    }
    for &database in &databases {
        let of_database = || dumps.iter().filter(|dump| dump.database.as_deref() == Some(database));
        // With one database its name is clear.
        let whose = if databases.len() == 1 { String::new() } else { format!("{database}: ") };
        if let Some(DumpEntry { name, state: DumpState::Damaged { reason }, .. }) = of_database().next() {
            judgement.fail(
                format!("{whose}the newest, {name}, is damaged: {reason}"),
                "make a new one with `pgpersist dump`; `pgpersist verify` tells which are good",
            );
        }
        let Some(good) = of_database().find(|dump| dump.is_good()) else {
            if of_database().next().is_none() {
                judgement.warn(format!("{whose}none yet"), format!("make one with `pgpersist dump -d {}`", quote::shell(database)));
            }
            continue;
        };
        let age = Duration::try_from(now - good.taken_at).unwrap_or_default();
        if age > max_age {
            judgement.fail(
                format!(
                    "{whose}latest {} is too old ({}, {}; at most {} wanted)",
                    good.name,
                    size(good.size_bytes),
                    ago(age),
                    duration(max_age)
                ),
                "run `pgpersist dump`, and see why its schedule did not",
            );
        } else if Duration::try_from(good.taken_at - now).is_ok_and(|ahead| ahead > AHEAD) {
            judgement.warn(
                format!("{whose}latest {} is dated in the future", good.name),
                "check the clock of this machine: ages cannot be told until it is right",
            );
        }
        seen.push((database, good, age));
    }
    let finding = judgement.finding(NAME, || {
        let latest = seen.iter().min_by_key(|(_, _, age)| *age).map(|(_, good, age)| {
            let all = if seen.len() > 1 { format!("; {} databases, each within {}", seen.len(), duration(max_age)) } else { String::new() };
            format!("latest {} ({}, {}){all}", good.name, size(good.size_bytes), ago(*age))
        });
        latest.unwrap_or_default()
    });
    let observed: Vec<Value> = seen.iter().map(|(database, good, age)| observed(database, good, *age)).collect();
    finding.observing("databases", observed).observing("count", dumps.len()).observing("max_age_s", max_age.as_secs())
}

fn observed(database: &str, dump: &DumpEntry, age: Duration) -> Value {
    json!({
        "database": database,
        "name": dump.name,
        "size_bytes": dump.size_bytes,
        "age_s": age.as_secs(),
        "has_side_file": dump.side_file.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::health::Status;
    use crate::store::{BackupStore, memory::MemoryBackupStore};
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-02-08 11:33:16 UTC);

    /// The finding about dumps of these names, sizes and side files.
    async fn judged(objects: &[(&str, usize, Option<&str>)], configured: &[&str]) -> Finding {
        let store = MemoryBackupStore::new();
        for (name, size, side_file) in objects {
            store.put(&name.parse().unwrap(), vec![b'x'; *size].into()).await.unwrap();
            if let Some(text) = side_file {
                store.put(&format!("{name}.json").parse().unwrap(), text.to_string().into()).await.unwrap();
            }
        }
        let configured: Vec<String> = configured.iter().map(|name| (*name).to_owned()).collect();
        let shelf = Shelf::new(Arc::new(store), "main", configured.clone()).with_clock(Arc::new(ManualClock::new(NOW)));
        judge(&shelf.list_current().await.unwrap(), &configured, DEFAULT_MAX_AGE, NOW)
    }

    #[tokio::test]
    async fn a_dump_of_the_cluster_before_is_none_of_this_one() {
        let side_file = r#"{"format": 1, "database": "shop", "cluster": "main", "system_identifier": "7", "server_version": "15.18",
            "pg_dump_version": "15.18", "started_at": "2026-02-08T09:33:16Z", "finished_at": "2026-02-08T09:33:17Z", "size_bytes": 99,
            "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "uncompressed_bytes": 1}"#;
        let dump = ("backup_20260208_093316.sql.gz", 99, Some(side_file));
        let card = |identifier: u64| {
            format!(
                r#"{{"format": 1, "cluster": "main", "system_identifier": "{identifier}", "version": "15.18", "created_at": "2026-02-08T00:00:00Z"}}"#
            )
        };
        for (identifier, status) in [(7, Status::Pass), (8, Status::Warn)] {
            let card = card(identifier);
            let finding = judged(&[dump, (".pgpersist/main/cluster", card.len(), Some(&card))], &["shop"]).await;
            assert_eq!(finding.status, status, "{finding:?}");
        }
    }

    #[tokio::test]
    async fn a_young_dump_is_told_with_its_size_and_age() {
        let finding =
            judged(&[("backup_20260207_093316.sql.gz", 99, None), ("backup_20260208_093316.sql.gz", 12_288, None)], &["shop"]).await;
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Pass, "latest backup_20260208_093316.sql.gz (12 KB, 2 h ago)"));
        assert_eq!(finding.observed["databases"][0]["age_s"], 7200);
    }

    #[tokio::test]
    async fn none_is_a_warning_and_an_old_one_a_failure() {
        assert_eq!(judged(&[], &["shop"]).await.status, Status::Warn);
        assert_eq!(judged(&[], &[]).await.status, Status::Warn);
        let old = ("backup_20260206_093316.sql.gz", 99, None);
        let finding = judged(&[old], &["shop"]).await;
        assert!(finding.status == Status::Fail && finding.summary.contains("2 d ago") && finding.remedy.is_some(), "{finding:?}");
    }

    #[tokio::test]
    async fn each_configured_database_needs_its_own() {
        let finding = judged(&[("a/backup_20260208_093316.sql.gz", 99, None)], &["a", "b"]).await;
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Warn, "b: none yet"));
        let both = [("a/backup_20260208_093316.sql.gz", 99, None), ("b/backup_20260208_103316.sql.gz", 99, None)];
        assert_eq!(judged(&both, &["a", "b"]).await.status, Status::Pass);
        // Without a configuration the dumps themselves tell which databases there are.
        assert_eq!(judged(&both, &[]).await.observed["databases"][1]["database"], "b");
    }

    #[tokio::test]
    async fn an_empty_or_contradicted_dump_is_damaged_even_when_an_older_one_is_good() {
        let good = ("backup_20260208_083316.sql.gz", 99, None);
        for damaged in [("backup_20260208_093316.sql.gz", 0, None), ("backup_20260208_093316.sql.gz", 99, Some("no side file"))] {
            let finding = judged(&[good, damaged], &["shop"]).await;
            assert!(finding.status == Status::Fail && finding.summary.contains("damaged"), "{finding:?}");
            assert_eq!(finding.observed["databases"][0]["name"], "backup_20260208_083316.sql.gz");
        }
    }

    #[tokio::test]
    async fn a_dump_of_tomorrow_means_that_the_clock_is_wrong() {
        let finding = judged(&[("backup_20260209_033316.sql.gz", 99, None)], &["shop"]).await;
        assert!(finding.status == Status::Warn && finding.summary.contains("future"), "{finding:?}");
    }
}
