//! Overviews for tests: one with which all is well, one with hostile names in every place.

use std::collections::BTreeMap;

use serde_json::json;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::health::Finding;
use crate::health::report::Report;
use crate::report::advice::advise;
use crate::report::drills;
use crate::report::overview::{ClusterFacts, DatabaseFacts, DumpFacts, Gap, NextPrune, Overview, RetentionFacts, ScheduleFacts};
use crate::report::storage::Survival;
use crate::retention::Retention;
use crate::schedule::record::Outcome;

pub(in crate::report) const NOW: OffsetDateTime = datetime!(2026-02-08 11:33:16 UTC);

fn dump(database: &str, days_ago: i64, state: &'static str) -> DumpFacts {
    DumpFacts {
        name: format!("{database}/backup_{days_ago}.sql.gz"),
        database: Some(database.to_owned()),
        taken_at: NOW - time::Duration::days(days_ago) - time::Duration::hours(2),
        size_bytes: 12_288,
        state,
        reason: (state == "damaged").then(|| "it has 20 bytes <b2>".to_owned()),
        rows: Some(8),
    }
}

/// A cluster with which all is well.
pub(in crate::report) fn overview() -> Overview {
    let drills = [
        json!({ "kind": "restore", "verdict": "pass", "started_at": "2026-02-07T04:00:00Z", "restore_s": 4.2, "dump_age_s": 7200.0,
            "proves": "a restore", "proves_not": "power loss",
            "databases": [{ "database": "shop", "verdict": "pass", "rows_expected": 8, "rows_found": 8, "checks": [{ "name": "amcheck", "status": "pass" }] }] }),
        json!({ "kind": "crash", "verdict": "pass", "started_at": "2026-02-01T04:00:00Z", "acknowledged": 12000, "rounds": 5,
            "table": [{ "what": "rows", "before": "9", "after": "9", "matches": true }] }),
    ];
    let place = json!({ "place": "data", "path": "/app/pgdata", "verdict": "persistent", "evidence": ["ext4 on /dev/sda1, mounted at /app"],
        "free_bytes": 3_u64 << 30, "total_bytes": 10_u64 << 30, "growth_bytes_per_day": 1048576.0, "full_in_s": 3.6e6 });
    let health =
        Report::new(NOW, vec![Finding::pass("server", "running"), Finding::pass("dumps", "latest"), Finding::pass("last_drill", "proven")]);
    let mut overview = Overview {
        time: NOW,
        program_version: "0.1.0".into(),
        host: Some("db-0".into()),
        cluster: ClusterFacts {
            name: "main".into(),
            data_directory: "/app/pgdata".into(),
            own_folder: "/app/.pgpersist/pgdata".into(),
            system_identifier: Some("7".into()),
            version: Some("15.18".into()),
            state: Some("running".into()),
            detail: None,
            port: Some(5432),
        },
        status: health.status,
        health,
        storage: vec![serde_json::from_value(place).unwrap()],
        survival: Some(Survival { boots: 3, since: datetime!(2026-01-14 10:00 UTC) }),
        databases: vec![DatabaseFacts {
            name: "shop".into(),
            present: Some(true),
            size_bytes: Some(8 << 20),
            dumps: 2,
            last_dump_at: Some(NOW - time::Duration::hours(2)),
            proven_at: Some(datetime!(2026-02-07 04:00 UTC)),
        }],
        stores: vec!["/backups".into()],
        dumps: vec![dump("shop", 0, "complete"), dump("shop", 1, "complete")],
        retention: RetentionFacts {
            rules: Retention { keep_days: Some(7), ..Retention::default() },
            meaning: vec!["every dump of the last 7 days".into()],
            next: Some(NextPrune { dropped: vec![], freed_bytes: 0 }),
        },
        drills: drills::read(&drills).0,
        schedules: vec![ScheduleFacts {
            job: "dump".into(),
            schedule: Some("0 2 * * * (UTC)".into()),
            running: false,
            failures: 0,
            last_at: Some(NOW - time::Duration::hours(9)),
            last_outcome: Some(Outcome::Success),
            last_duration_s: Some(3.0),
            last_summary: Some("1 dump".into()),
            next_at: Some(NOW + time::Duration::hours(15)),
        }],
        settings: BTreeMap::from([("fsync".to_owned(), json!("on"))]).into_iter().collect(),
        recommendations: vec![],
        gaps: vec![],
    };
    overview.recommendations = advise(&overview);
    overview
}

/// One whose server is down, and in which nobody chose names well.
pub(in crate::report) fn hostile() -> Overview {
    let evil = "<script>alert(1)</script>|x";
    let mut overview = overview();
    overview.cluster.name = format!("{evil}\"'");
    overview.host = Some(format!("{evil}\n# heading"));
    overview.health = Report::new(
        NOW,
        vec![
            Finding::fail("server", format!("not running: {evil}"), "start it with `pgpersist start`"),
            Finding::warn(format!("database:{evil}"), "`<b2>`|\n|", format!("`{evil}` and `")),
            Finding::pass("dumps", "latest"),
        ],
    );
    overview.status = overview.health.status;
    overview.databases[0].name = evil.into();
    overview.dumps.push(DumpFacts { database: Some(evil.into()), ..dump(evil, 3, "damaged") });
    overview.dumps.push(DumpFacts { database: None, ..dump("a", 4, "unknown") });
    overview.drills[0].databases[0].database = evil.into();
    overview.drills[0].reasons.push(format!("{evil}\u{202e}"));
    overview.drills[0].verdict = "fail".into();
    overview.schedules[0].last_outcome = Some(Outcome::Failure);
    overview.schedules[0].last_summary = Some(evil.into());
    overview.storage[0].evidence.push(evil.into());
    overview.settings.insert(evil.to_owned(), json!([evil]));
    overview.gaps.push(Gap { part: "databases", reason: evil.into(), remedy: Some(format!("`{evil}`")) });
    overview.retention.next = Some(NextPrune { dropped: vec![evil.into()], freed_bytes: 7 });
    overview.recommendations = advise(&overview);
    overview
}
