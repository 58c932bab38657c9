//! Looks, and fills an [`Overview`]: every part within a deadline of its own, none failing the whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::data_directory::local;
use crate::data_directory::placement::{self, Verdict};
use crate::drill::history;
use crate::error::{Error, Result};
use crate::fs::space::Space;
use crate::health::Finding;
use crate::health::checks::settings;
use crate::health::checks::standard::{HealthOptions, checks};
use crate::health::report::{self, Report};
use crate::logical::prune_plan::PrunePlan;
use crate::logical::shelf::{DumpEntry, DumpState, Shelf};
use crate::report::advice::advise;
use crate::report::drills::{self, DrillFacts};
use crate::report::overview::{ClusterFacts, DatabaseFacts, DumpFacts, Gap, NextPrune, Overview, RetentionFacts, ScheduleFacts};
use crate::report::storage::{self, PlaceFacts};
use crate::report::words::count;
use crate::retention::Retention;
use crate::schedule::record::JobRecord;
use crate::server::cluster::ServerStatus;
use crate::server::same_cluster;
use crate::server::session::Session;
use crate::wording::size;
use crate::workers;

/// What our sessions are called in `pg_stat_activity`.
const APPLICATION_NAME: &str = "pgpersist report";

/// All databases but templates; the size only where the role may ask for it.
const DATABASES: &str = "SELECT d.datname::pg_catalog.text, \
    CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') \
    THEN pg_catalog.pg_database_size(d.oid) END \
    FROM pg_catalog.pg_database d WHERE NOT d.datistemplate ORDER BY 1";

/// What is to be told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OverviewOptions {
    /// The cluster, its stores, and what health looks at.
    pub health: HealthOptions,
    /// What is kept for how long.
    pub retention: Retention,
}

impl OverviewOptions {
    /// Of a cluster whose dumps are kept for ever.
    pub fn new(health: HealthOptions) -> Self {
        Self { health, retention: Retention::default() }
    }
}

/// Asks the health checks, then looks at all else. Takes no lock and changes nothing; takes a few seconds at most, unless a file
/// system hangs whose answer nobody waits for. Needs tokio's runtime.
pub fn overview<'a>(options: &'a OverviewOptions) -> BoxFuture<'a, Overview> {
    Box::pin(async move {
        let health = options.health.clone().with_databases_of_server().await;
        let report = match checks(&health) {
            Ok(checks) => report::run(&checks, &*health.clock).await,
            Err(error) => Report::new(health.clock.now(), vec![Finding::unknown("health", error.to_string(), error.remedy())]),
        };
        gather(options, report).await
    })
}

/// The same with a health report that was made already.
pub async fn gather(options: &OverviewOptions, report: Report) -> Overview {
    let look = Look { options, now: options.health.clock.now(), deadline: options.health.deadline };
    let (host, status, sizes, shelf, drills, schedules, own) = tokio::join!(
        look.within("host", workers::run(|| Ok(local::hostname()))),
        look.within("cluster", look.status()),
        look.within("databases", look.sizes()),
        look.within("dumps", look.shelf()),
        look.within("drills", look.drills()),
        look.within("schedules", look.schedules()),
        look.within("storage", look.own_folder()),
    );
    let mut gaps = Vec::new();
    let host = known(host, &mut gaps).filter(|name| !name.is_empty());
    let status = known(status, &mut gaps);
    let sizes = known(sizes, &mut gaps);
    let (dumps, next) = known(shelf, &mut gaps).unwrap_or_default();
    let (drills, strange) = known(drills, &mut gaps).unwrap_or_default();
    if strange > 0 {
        gaps.push(Gap {
            part: "drills",
            reason: format!("{} of past drills could not be read", count(strange as u64, "report")),
            remedy: None,
        });
    }
    let schedules = known(schedules, &mut gaps).unwrap_or_default();
    let own = known(own, &mut gaps).flatten();
    let mut storage = storage::places(&report);
    if storage.is_empty() {
        let why = report.finding(crate::health::checks::placement::NAME);
        let reason = why.map_or_else(|| "nobody looked where things lie".to_owned(), |finding| finding.summary.clone());
        gaps.push(Gap { part: "storage", reason, remedy: why.and_then(|finding| finding.remedy.clone()) });
    }
    storage.extend(own);
    let settings = report.finding(settings::NAME).and_then(|finding| finding.observed.get("values")).and_then(Value::as_object);
    let mut overview = Overview {
        time: look.now,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        host,
        cluster: look.cluster(status),
        status: report.status,
        survival: storage::survival(&report),
        storage,
        databases: databases(&options.health.databases, sizes.as_deref(), &dumps, &drills),
        stores: {
            let open = options.health.store.iter().map(ToString::to_string);
            open.chain(options.health.stores.iter().map(ToString::to_string)).collect()
        },
        dumps: dumps.iter().map(dump_facts).collect(),
        retention: RetentionFacts { rules: options.retention, meaning: meaning(&options.retention), next },
        drills,
        schedules,
        settings: settings.cloned().unwrap_or_else(Map::new),
        recommendations: Vec::new(),
        gaps,
        health: report,
    };
    overview.recommendations = advise(&overview);
    overview
}

/// What was found out; what was not is a gap.
fn known<T>(found: Result<T, Gap>, gaps: &mut Vec<Gap>) -> Option<T> {
    found.map_err(|gap| gaps.push(gap)).ok()
}

struct Look<'a> {
    options: &'a OverviewOptions,
    now: OffsetDateTime,
    deadline: Duration,
}

impl Look<'_> {
    async fn within<T>(&self, part: &'static str, work: impl Future<Output = Result<T>>) -> Result<T, Gap> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                let reason = std::iter::once(error.to_string()).chain(error.causes().last().cloned()).collect::<Vec<_>>().join(": ");
                Err(Gap { part, reason, remedy: error.remedy() })
            }
            Err(_) => Err(Gap { part, reason: format!("no answer within {} s", self.deadline.as_secs_f64()), remedy: None }),
        }
    }

    fn health(&self) -> &HealthOptions {
        &self.options.health
    }

    async fn status(&self) -> Result<ServerStatus> {
        self.health().cluster.status().await
    }

    fn cluster(&self, status: Option<ServerStatus>) -> ClusterFacts {
        let cluster = &self.health().cluster;
        let word = |status: &ServerStatus| serde_json::to_value(status.state).ok().and_then(|state| state.as_str().map(str::to_owned));
        ClusterFacts {
            name: self.health().cluster_name.clone(),
            data_directory: shown(cluster.path()),
            own_folder: shown(cluster.directory().own_folder().path()),
            state: status.as_ref().and_then(word),
            detail: status.as_ref().and_then(|status| status.detail.clone()),
            port: status.as_ref().and_then(|status| status.port),
            system_identifier: status.as_ref().and_then(|status| status.system_identifier.clone()),
            version: status.and_then(|status| status.version),
        }
    }

    /// The databases of the server with their sizes.
    async fn sizes(&self) -> Result<Vec<(String, Option<u64>)>> {
        let connection = self.health().cluster.connection("postgres").await?;
        let session = Session::connect(&connection, self.deadline).await?;
        let setup = format!(
            "SET application_name = '{APPLICATION_NAME}'; SET default_transaction_read_only = on; SET statement_timeout = {}",
            self.deadline.as_millis()
        );
        session.execute("set up the session of a report", &setup).await?;
        same_cluster::check(&self.health().cluster, &session).await?;
        let rows = session.client().query(DATABASES, &[]).await.map_err(|e| Error::sql("ask for the sizes of the databases", e))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get::<_, Option<i64>>(1).and_then(|size| u64::try_from(size).ok()))).collect())
    }

    async fn store(&self) -> Result<Option<Shelf>> {
        let Some(store) = self.health().primary_store() else { return Ok(None) };
        let store = store.open().await?;
        let (name, databases) = (self.health().cluster_name.clone(), self.health().databases.clone());
        Ok(Some(Shelf::new(store, name, databases).with_clock(self.health().clock.clone())))
    }

    /// All dumps, and what pruning would do.
    async fn shelf(&self) -> Result<(Vec<DumpEntry>, Option<NextPrune>)> {
        let Some(shelf) = self.store().await? else { return Ok(Default::default()) };
        let (dumps, plan) = (shelf.list().await?, shelf.prune_plan(&self.options.retention, self.now).await?);
        let PrunePlan { dropped, freed_bytes, .. } = plan;
        Ok((dumps, Some(NextPrune { dropped: dropped.iter().map(|one| one.name.to_string()).collect(), freed_bytes })))
    }

    /// The newest drills on the volume and in the store, and how many reports could not be read.
    async fn drills(&self) -> Result<(Vec<DrillFacts>, usize)> {
        let own = self.health().cluster.directory().own_folder().clone();
        let (mut documents, unreadable) = workers::run(move || history::list(&own)).await?;
        let mut strange = unreadable.len();
        if let Some(shelf) = self.store().await? {
            strange += history::add_from_store(&mut documents, &shelf).await?.len();
        }
        let (drills, more) = drills::read(&documents);
        Ok((drills, strange + more))
    }

    async fn schedules(&self) -> Result<Vec<ScheduleFacts>> {
        let (own, schedules, now) =
            (self.health().cluster.directory().own_folder().path().to_owned(), self.health().schedules.clone(), self.now);
        workers::run(move || {
            let read = schedules.iter().map(|(job, timetable)| {
                let record = JobRecord::read(&own, job)?;
                let last = record.as_ref().and_then(|record| record.last.as_ref());
                let running = record.as_ref().is_some_and(|record| record.begun.is_some());
                let due = record.as_ref().filter(|_| !running).and_then(|record| timetable.next(record, now));
                Ok(ScheduleFacts {
                    job: job.clone(),
                    schedule: timetable.describe(),
                    running,
                    failures: record.as_ref().map_or(0, |record| record.failures),
                    last_at: last.map(|run| run.started_at),
                    last_outcome: last.map(|run| run.outcome),
                    last_duration_s: last.map(|run| run.duration_s),
                    last_summary: last.map(|run| run.summary.clone()),
                    next_at: due.map(|due| due.at),
                })
            });
            read.collect()
        })
        .await
    }

    /// Our own files, where there are some.
    async fn own_folder(&self) -> Result<Option<PlaceFacts>> {
        let own = self.health().cluster.directory().own_folder().path().to_owned();
        let directory = self.health().cluster.path().to_owned();
        workers::run(move || {
            if !own.is_dir() {
                return Ok(None);
            }
            let (placement, space) = (placement::of(&own)?, Space::of(&own)?);
            let of_data = placement::of(&directory)?;
            let verdict = match placement.verdict {
                Verdict::Persistent => "persistent",
                Verdict::Ephemeral => "ephemeral",
                Verdict::Unknown => "unknown",
            };
            Ok(Some(PlaceFacts {
                place: "own files".to_owned(),
                path: shown(&own),
                verdict: verdict.to_owned(),
                same_device_as_data: (&of_data.source, &of_data.mount_point) == (&placement.source, &placement.mount_point),
                evidence: placement.evidence,
                mount_point: placement.mount_point,
                fs_type: placement.fs_type,
                source: placement.source,
                free_bytes: Some(space.free_bytes),
                total_bytes: Some(space.total_bytes),
                growth_bytes_per_day: None,
                full_in_s: None,
            }))
        })
        .await
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn dump_facts(dump: &DumpEntry) -> DumpFacts {
    let (state, reason) = match &dump.state {
        DumpState::Complete => ("complete", None),
        DumpState::Unknown => ("unknown", None),
        DumpState::Damaged { reason } => ("damaged", Some(reason.clone())),
    };
    DumpFacts {
        name: dump.name.to_string(),
        database: dump.database.clone(),
        taken_at: dump.taken_at,
        size_bytes: dump.size_bytes,
        state,
        reason,
        rows: dump.side_file.as_ref().map(|side_file| side_file.tables.values().sum()),
    }
}

/// The databases that somebody knows: the configuration, the server, the dumps. They come newest first.
fn databases(
    configured: &[String],
    server: Option<&[(String, Option<u64>)]>,
    dumps: &[DumpEntry],
    drills: &[DrillFacts],
) -> Vec<DatabaseFacts> {
    let mut all: BTreeMap<String, DatabaseFacts> = BTreeMap::new();
    let fresh = |name: &str| DatabaseFacts {
        name: name.to_owned(),
        present: server.map(|_| false),
        size_bytes: None,
        dumps: 0,
        last_dump_at: None,
        proven_at: None,
    };
    for name in configured {
        all.entry(name.clone()).or_insert_with(|| fresh(name));
    }
    for (name, size) in server.unwrap_or_default() {
        let database = all.entry(name.clone()).or_insert_with(|| fresh(name));
        (database.present, database.size_bytes) = (Some(true), *size);
    }
    for dump in dumps {
        let Some(name) = &dump.database else { continue };
        let database = all.entry(name.clone()).or_insert_with(|| fresh(name));
        database.dumps += 1;
        if dump.is_good() && database.last_dump_at.is_none_or(|last| last < dump.taken_at) {
            database.last_dump_at = Some(dump.taken_at);
        }
    }
    for drill in drills.iter().filter(|drill| drill.kind == "restore") {
        for restored in drill.databases.iter().filter(|restored| restored.verdict == "pass") {
            if let Some(database) = all.get_mut(&restored.database) {
                database.proven_at = database.proven_at.max(Some(drill.started_at));
            }
        }
    }
    all.into_values().collect()
}

/// Each rule in words.
fn meaning(rules: &Retention) -> Vec<String> {
    let mut meaning = Vec::new();
    let mut add = |rule: Option<u32>, told: &dyn Fn(String) -> String, what: &str| {
        meaning.extend(rule.map(|number| told(count(number.into(), what))));
    };
    add(rules.keep_days, &|days| format!("every dump of the last {days}"), "day");
    add(rules.keep_last, &|dumps| format!("the newest {dumps}"), "dump");
    add(rules.keep_daily, &|days| format!("the newest of each of the last {days} that have one"), "day");
    add(rules.keep_weekly, &|weeks| format!("the newest of each of the last {weeks} that have one"), "week");
    add(rules.keep_monthly, &|months| format!("the newest of each of the last {months} that have one"), "month");
    meaning.extend(rules.max_bytes.map(|most| format!("no more than {} of what the other rules keep", size(most))));
    meaning
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    #[test]
    fn each_rule_is_told_in_words() {
        assert!(meaning(&Retention::default()).is_empty());
        let rules = Retention { keep_days: Some(7), keep_last: Some(1), max_bytes: Some(50 << 30), ..Retention::default() };
        assert_eq!(
            meaning(&rules),
            ["every dump of the last 7 days", "the newest 1 dump", "no more than 50 GB of what the other rules keep"]
        );
    }

    #[test]
    fn a_database_is_told_whoever_knows_it() {
        let drill = json!({ "kind": "restore", "verdict": "fail", "started_at": "2026-02-08T09:33:16Z", "databases": [
            { "database": "shop", "verdict": "pass" }, { "database": "gone", "verdict": "pass" }, { "database": "other", "verdict": "fail" }]});
        let (drills, _) = drills::read(&[drill]);
        let server = [("other".to_owned(), None), ("shop".to_owned(), Some(7))];
        let all = databases(&["shop".to_owned(), "wanted".to_owned()], Some(&server), &[], &drills);
        let told: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.present, one.size_bytes, one.proven_at.is_some())).collect();
        assert_eq!(told, [("other", Some(true), None, false), ("shop", Some(true), Some(7), true), ("wanted", Some(false), None, false)]);
        assert_eq!(all[1].proven_at, Some(datetime!(2026-02-08 09:33:16 UTC)));
        // A server that was not asked has told of none.
        assert_eq!(databases(&["shop".to_owned()], None, &[], &[])[0].present, None);
    }
}
