//! The dumps of a cluster in a store: found in both places, named in order, pruned by the rules, verified to the last byte.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt;
use pgpersist_core::clock::ManualClock;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::logical::name::{DumpKind, DumpName};
use pgpersist_core::logical::shelf::{DumpEntry, DumpState, Shelf};
use pgpersist_core::logical::side_file::SideFile;
use pgpersist_core::logical::verify::{Depth, Subject, VerifyReport, verify};
use pgpersist_core::pg::version::ServerVersion;
use pgpersist_core::progress::Silent;
use pgpersist_core::retention::Retention;
use pgpersist_core::store::faulty::{Calls, Effect, FaultPlan, FaultyStore, Operation};
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey};
use sha2::{Digest, Sha256};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-02-08 12:00 UTC);
const SEVEN_DAYS: Retention =
    Retention { keep_days: Some(7), keep_last: None, keep_daily: None, keep_weekly: None, keep_monthly: None, max_bytes: None };

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sql(rows: usize) -> String {
    let rows: String = (0..rows).map(|row| format!("{row}\t{}\n", sha256(&row.to_le_bytes()))).collect();
    format!(
        "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.orders (id integer, hash text);\n\n\
         COPY public.orders (id, hash) FROM stdin;\n{rows}\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

fn side_file(database: &str, taken_at: OffsetDateTime, dump: &[u8]) -> SideFile {
    SideFile {
        format: 1,
        database: database.to_owned(),
        cluster: "main".to_owned(),
        system_identifier: 7,
        server_version: ServerVersion { major: 15, minor: 18 },
        pg_dump_version: ServerVersion { major: 15, minor: 18 },
        pgpersist_version: "0.1.0".to_owned(),
        started_at: taken_at,
        finished_at: taken_at,
        size_bytes: dump.len() as u64,
        sha256: sha256(dump),
        uncompressed_bytes: sql(8).len() as u64,
        tables: BTreeMap::from([("public.orders".to_owned(), 8)]),
        encryption: None,
        state: None,
    }
}

/// A store with dumps of eight rows, and the shelf of a cluster in it.
struct Scene {
    store: MemoryBackupStore,
    clock: ManualClock,
}

impl Scene {
    fn new() -> Self {
        let clock = ManualClock::new(NOW);
        Self { store: MemoryBackupStore::with_clock(Arc::new(clock.clone())), clock }
    }

    fn shelf(&self, databases: &[&str]) -> Shelf {
        let databases = databases.iter().map(|&database| database.to_owned()).collect();
        Shelf::new(Arc::new(self.store.clone()), "main", databases).with_clock(Arc::new(self.clock.clone()))
    }

    async fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        self.store.put(&key(name), bytes.into()).await.unwrap();
    }

    /// A dump with its side file, changed by `change`.
    async fn dump_with(&self, name: &str, database: &str, change: impl FnOnce(&mut SideFile)) {
        let bytes = gzip(sql(8).as_bytes());
        let named = DumpName::parse(key(name).file_name()).unwrap();
        let mut side_file = side_file(database, named.time(), &bytes);
        change(&mut side_file);
        self.put(name, bytes).await;
        self.put(&format!("{name}.json"), side_file.to_bytes().unwrap()).await;
    }

    async fn dump(&self, name: &str, database: &str) {
        self.dump_with(name, database, |_| ()).await;
    }

    async fn dump_days_ago(&self, days: i64) -> String {
        let name = days_ago(DumpKind::Database, days);
        self.dump(&name, "shop").await;
        name
    }

    async fn keys(&self) -> Vec<String> {
        self.store.list("").map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap()
    }
}

fn days_ago(kind: DumpKind, days: i64) -> String {
    DumpName::new(kind, NOW - Duration::days(days)).to_string()
}

fn names(entries: &[DumpEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

#[tokio::test]
async fn dumps_are_found_in_both_places_and_belong_to_whom_their_side_file_says() {
    let scene = Scene::new();
    scene.dump("backup_20260101_000000.sql.gz", "shop").await;
    scene.dump("backup_20260102_000000.sql.gz", "other").await;
    scene.put("backup_20260103_000000.sql.gz", gzip(sql(8).as_bytes())).await;
    scene.dump("Z%C3%BCrich/backup_20260104_000000.sql.gz", "Zürich").await;
    scene.put("shop/backup_20260105_000000.sql.gz", gzip(sql(8).as_bytes())).await;
    // Nothing of this is a dump.
    for name in [
        "backup_latest.sql.gz",
        "backup_20260103_000000.sql.gz.sha256",
        "backup_20260106_000000.sql",
        "globals_20260106_000000.sql.gz",
        "not%20/canonical%2e/backup_20260106_000000.sql.gz",
        ".hidden/backup_20260106_000000.sql.gz",
        "shop/deeper/backup_20260106_000000.sql.gz",
        "backup_20260107_000000.sql.gz.json",
        ".pgpersist/main/cluster.json",
    ] {
        scene.put(name, "foreign").await;
    }
    let belongs = |entries: Vec<DumpEntry>| -> Vec<(String, Option<String>)> {
        entries.into_iter().map(|entry| (entry.name.to_string(), entry.database)).collect()
    };
    let expected = |unnamed: Option<&str>| {
        [
            ("shop/backup_20260105_000000.sql.gz", Some("shop")),
            ("Z%C3%BCrich/backup_20260104_000000.sql.gz", Some("Zürich")),
            ("backup_20260103_000000.sql.gz", unnamed),
            ("backup_20260102_000000.sql.gz", Some("other")),
            ("backup_20260101_000000.sql.gz", Some("shop")),
        ]
        .map(|(name, database)| (name.to_owned(), database.map(str::to_owned)))
    };
    assert_eq!(belongs(scene.shelf(&["shop"]).list().await.unwrap()), expected(Some("shop")));
    assert_eq!(belongs(scene.shelf(&["shop", "other"]).list().await.unwrap()), expected(None));
    assert_eq!(belongs(scene.shelf(&[]).list().await.unwrap()), expected(None));
}

#[tokio::test]
async fn damage_that_shows_without_reading_is_told_in_the_list() {
    let scene = Scene::new();
    scene.dump("backup_20260101_000000.sql.gz", "shop").await;
    scene.put("backup_20260102_000000.sql.gz", gzip(sql(8).as_bytes())).await;
    scene.put("backup_20260103_000000.sql.gz", gzip(b"")).await;
    scene.dump_with("backup_20260104_000000.sql.gz", "shop", |side_file| side_file.size_bytes += 1).await;
    scene.dump_with("backup_20260105_000000.sql.gz", "shop", |side_file| side_file.format = 2).await;
    scene.dump("backup_20260106_000000.sql.gz", "shop").await;
    scene.put("backup_20260106_000000.sql.gz.json", "{").await;
    let shelf = scene.shelf(&["shop"]);
    let entries = shelf.list().await.unwrap();
    let damage = |entry: &DumpEntry| match &entry.state {
        DumpState::Damaged { reason } => reason.clone(),
        state => format!("{state:?}"),
    };
    let found: Vec<String> = entries.iter().map(damage).collect();
    for (found, expected) in
        found.iter().zip(["is no side file", "has format 2", "its side file tells", "it holds nothing", "Unknown", "Complete"])
    {
        assert!(found.contains(expected), "{found} {expected}");
    }
    assert_eq!(shelf.find("latest", None).await.unwrap().name, key("backup_20260102_000000.sql.gz"), "the newest that is not damaged");
    let json = serde_json::to_value(&entries[2]).unwrap();
    assert_eq!((&json["state"], &json["database"]), (&"damaged".into(), &"shop".into()));
    assert_eq!(json["taken_at"], "2026-01-04T00:00:00Z");
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_and_no_damage() {
    let scene = Scene::new();
    scene.dump("backup_20260101_000000.sql.gz", "shop").await;
    for operation in [Operation::GetRange, Operation::List] {
        let faults = FaultPlan::one(operation, Calls::From(1), Effect::Fail(ErrorKind::Unavailable));
        let shelf = Shelf::new(Arc::new(FaultyStore::new(Arc::new(scene.store.clone()), faults)), "main", vec!["shop".to_owned()]);
        assert_eq!(shelf.list().await.unwrap_err().kind(), ErrorKind::Unavailable, "{operation:?}");
        assert_eq!(shelf.prune_plan(&SEVEN_DAYS, NOW).await.unwrap_err().kind(), ErrorKind::Unavailable, "{operation:?}");
    }
}

#[tokio::test]
async fn a_clock_set_back_does_not_change_which_dump_is_the_newest() {
    let scene = Scene::new();
    let shelf = scene.shelf(&["shop"]);
    let mut made = Vec::new();
    // Three hours back, then a clock that was a year ahead for one dump, then right again.
    for (step, warns) in [(0, false), (-3 * 3600, false), (0, false), (366 * 86_400, false), (-366 * 86_400, true), (0, true)] {
        scene.clock.advance(Duration::seconds(step));
        let (time, warning) = shelf.next_time("shop").await.unwrap();
        assert_eq!(warning.is_some(), warns, "{warning:?}");
        let name = shelf.key_for("shop", time).unwrap();
        scene.dump(name.as_str(), "shop").await;
        made.push(name.to_string());
    }
    assert_eq!(
        made,
        [
            "backup_20260208_120000.sql.gz",
            "backup_20260208_120001.sql.gz",
            "backup_20260208_120002.sql.gz",
            "backup_20270209_090000.sql.gz",
            "backup_20260208_120003.sql.gz",
            "backup_20260208_120004.sql.gz",
        ]
    );
    assert_eq!(names(&shelf.list().await.unwrap()), [&made[5], &made[4], &made[2], &made[1], &made[0], &made[3]].map(String::as_str));
    assert_eq!(shelf.find("latest", Some("shop")).await.unwrap().name.as_str(), made[5]);
}

#[tokio::test]
async fn the_next_name_is_free_among_all_that_lies_in_its_place() {
    let scene = Scene::new();
    let shelf = scene.shelf(&["shop"]);
    scene.put("globals_20260208_120000.sql.gz", gzip(b"x")).await;
    scene.put("backup_20260208_120001.sql.gz.json", "the side file of nothing").await;
    scene.dump_with("backup_20260208_120002.sql.gz", "shop", |side_file| side_file.cluster = "another".to_owned()).await;
    scene.dump("shop/backup_20260208_120003.sql.gz", "shop").await;
    scene.dump("other/backup_20260208_120009.sql.gz", "other").await;
    assert_eq!(shelf.next_time("shop").await.unwrap().0, datetime!(2026-02-08 12:00:04 UTC));
    assert_eq!(shelf.next_time("other").await.unwrap().0, datetime!(2026-02-08 12:00:10 UTC));
}

#[test]
fn one_configured_database_lies_at_the_top_and_others_in_folders() {
    let scene = Scene::new();
    let place = |databases: &[&str], database| scene.shelf(databases).key_for(database, NOW).unwrap().to_string();
    assert_eq!(place(&["shop"], "shop"), "backup_20260208_120000.sql.gz");
    assert_eq!(place(&["shop"], "../evil"), "%2E%2E%2Fevil/backup_20260208_120000.sql.gz");
    assert_eq!(place(&["shop", "other"], "shop"), "shop/backup_20260208_120000.sql.gz");
    assert_eq!(place(&[], "shop"), "shop/backup_20260208_120000.sql.gz");
    let globals = scene.shelf(&["shop"]).globals_key_for("other", NOW).unwrap();
    assert_eq!(globals.as_str(), "other/globals_20260208_120000.sql.gz");
    assert_eq!(scene.shelf(&[]).key_for(&"/".repeat(100), NOW).unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_dump_is_found_by_its_name_and_never_by_guessing() {
    let scene = Scene::new();
    let shelf = scene.shelf(&["shop", "other"]);
    assert_eq!(shelf.find("latest", None).await.unwrap_err().kind(), ErrorKind::NotFound);
    scene.dump("shop/backup_20260101_000000.sql.gz", "shop").await;
    assert_eq!(shelf.find("latest", None).await.unwrap().name, key("shop/backup_20260101_000000.sql.gz"));
    scene.dump("other/backup_20260101_000000.sql.gz", "other").await;
    scene.dump("other/backup_20260102_000000.sql.gz", "other").await;
    scene.dump_with("shop/backup_20260103_000000.sql.gz", "shop", |side_file| side_file.cluster = "another".to_owned()).await;

    let kind = async |name, database| shelf.find(name, database).await.unwrap_err().kind();
    let name = async |name, database| shelf.find(name, database).await.unwrap().name.to_string();
    assert_eq!(kind("latest", None).await, ErrorKind::Invalid);
    assert_eq!(name("latest", Some("shop")).await, "shop/backup_20260101_000000.sql.gz");
    assert_eq!(name("latest", Some("other")).await, "other/backup_20260102_000000.sql.gz");
    assert_eq!(kind("latest", Some("nobody")).await, ErrorKind::NotFound);
    assert_eq!(name("backup_20260102_000000.sql.gz", None).await, "other/backup_20260102_000000.sql.gz");
    assert_eq!(kind("backup_20260101_000000.sql.gz", None).await, ErrorKind::Invalid);
    assert_eq!(name("backup_20260101_000000.sql.gz", Some("shop")).await, "shop/backup_20260101_000000.sql.gz");
    assert_eq!(kind("backup_20260103_000000.sql.gz", None).await, ErrorKind::NotFound);
    assert_eq!(name("shop/backup_20260103_000000.sql.gz", None).await, "shop/backup_20260103_000000.sql.gz");
    assert_eq!(kind("../../etc/passwd", None).await, ErrorKind::NotFound);

    let strangers = Shelf::new(Arc::new(scene.store.clone()), "third", vec!["shop".to_owned()]);
    let error = strangers.find("latest", None).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("only of others"), "{error}");
}

#[tokio::test]
async fn latest_says_so_when_there_is_nothing_but_damage() {
    let scene = Scene::new();
    scene.put("backup_20260103_000000.sql.gz", "").await;
    let error = scene.shelf(&["shop"]).find("latest", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("backup_20260103_000000.sql.gz"), "{error}");
}

#[tokio::test]
async fn seven_days_are_kept_with_all_that_belongs_to_them() {
    let scene = Scene::new();
    for days in 0..10 {
        scene.dump_days_ago(days).await;
        scene.put(&days_ago(DumpKind::Globals, days), "roles").await;
    }
    for foreign in ["notes.txt", "backup_latest.sql.gz", "old/backup.sql.gz", "backup_20200101_000000.sql", ".pgpersist/main/cluster.json"]
    {
        scene.put(foreign, "foreign").await;
    }
    let before = scene.keys().await;
    let plan = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
    assert!(!plan.drops_more_than_half());
    let dropped: Vec<_> = plan.dropped.iter().map(|dropped| (dropped.name.to_string(), dropped.reason.clone())).collect();
    let reasons = ["older than 7 days", "no dump that is kept needs it"];
    let expected = [
        (days_ago(DumpKind::Database, 9), reasons[0].to_owned()),
        (days_ago(DumpKind::Database, 8), reasons[0].to_owned()),
        (days_ago(DumpKind::Globals, 9), reasons[1].to_owned()),
        (days_ago(DumpKind::Globals, 8), reasons[1].to_owned()),
    ];
    assert_eq!(dropped, expected);
    assert_eq!(scene.keys().await, before, "a plan changes nothing");

    plan.execute(&scene.store).await.unwrap();
    plan.execute(&scene.store).await.unwrap();
    let gone: Vec<_> = expected.iter().flat_map(|(name, _)| [name.clone(), format!("{name}.json")]).collect();
    let left: Vec<_> = before.iter().filter(|name| !gone.contains(name)).cloned().collect();
    assert_eq!(scene.keys().await, left);
    let again = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
    assert_eq!((again.dropped.len(), again.freed_bytes), (0, 0));
    let json = serde_json::to_value(&plan).unwrap();
    assert!(json["freed_bytes"].as_u64() > json["dropped"][0]["size_bytes"].as_u64());
    // A dump is gone at once.
    assert_eq!((json["dropped"][0].as_object().unwrap().len(), &json["dropped"][0]["removed_after"]), (4, &serde_json::Value::Null));
}

#[tokio::test]
async fn each_database_keeps_its_newest_and_what_is_nobodys_or_anothers_stays() {
    let scene = Scene::new();
    scene.dump("a/backup_20250101_000000.sql.gz", "a").await;
    scene.dump("a/backup_20250102_000000.sql.gz", "a").await;
    scene.dump("b/backup_20240101_000000.sql.gz", "b").await;
    scene.put("backup_20230101_000000.sql.gz", gzip(sql(8).as_bytes())).await;
    scene.dump_with("a/backup_20220101_000000.sql.gz", "a", |side_file| side_file.cluster = "another".to_owned()).await;
    let plan = scene.shelf(&["a", "b"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
    let dropped: Vec<_> = plan.dropped.iter().map(|dropped| dropped.name.as_str()).collect();
    assert_eq!(dropped, ["a/backup_20250101_000000.sql.gz"]);
    let kept: BTreeMap<_, _> = plan.kept.iter().map(|kept| (kept.name.as_str(), kept.reason.as_str())).collect();
    assert_eq!(kept["backup_20230101_000000.sql.gz"], "nothing tells its database");
    assert_eq!(kept["b/backup_20240101_000000.sql.gz"], "the newest good one is never dropped");
    assert!(!kept.contains_key("a/backup_20220101_000000.sql.gz"), "it is not ours to speak of");

    let one = scene.shelf(&["a"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
    assert!(
        one.dropped.iter().any(|dropped| dropped.name.as_str() == "backup_20230101_000000.sql.gz"),
        "with one database it is that one's"
    );
}

#[tokio::test]
async fn a_new_beginning_pushes_out_nothing_of_the_history_before() {
    let scene = Scene::new();
    let of = |history| move |side_file: &mut SideFile| side_file.system_identifier = history;
    // The old cluster, among its dumps one as the old scripts left them.
    scene.dump_with("backup_20250101_000000.sql.gz", "shop", of(7)).await;
    scene.put("backup_20250102_000000.sql.gz", gzip(sql(8).as_bytes())).await;
    scene.dump_with("backup_20250103_000000.sql.gz", "shop", of(7)).await;
    // Then `init --new`, and the first dumps of a cluster that is nearly empty.
    for day in 1..=3 {
        scene.dump_with(&format!("backup_2026010{day}_000000.sql.gz"), "shop", of(8)).await;
    }
    let last = Retention { keep_last: Some(1), ..Retention::default() };
    for retention in [SEVEN_DAYS, last] {
        let plan = scene.shelf(&["shop"]).prune_plan(&retention, NOW).await.unwrap();
        let kept: Vec<_> = plan.kept.iter().map(|kept| kept.name.to_string()).collect();
        assert_eq!(kept, ["backup_20250103_000000.sql.gz", "backup_20260103_000000.sql.gz"], "{retention:?}");
    }
}

#[tokio::test]
async fn a_dump_that_is_only_believed_good_does_not_push_out_the_last_proven_one() {
    let scene = Scene::new();
    scene.dump("backup_20250101_000000.sql.gz", "shop").await;
    scene.dump("backup_20250102_000000.sql.gz", "shop").await;
    scene.put("backup_20260208_000000.sql.gz", gzip(sql(8).as_bytes())).await;
    scene.put("backup_20260208_010000.sql.gz", gzip(b"")).await;
    let plan = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
    let dropped: Vec<_> = plan.dropped.iter().map(|dropped| dropped.name.as_str()).collect();
    assert_eq!(dropped, ["backup_20250101_000000.sql.gz"]);
}

#[tokio::test]
async fn roles_stay_as_long_as_a_dump_needs_them() {
    let scene = Scene::new();
    // Roles were dumped every other time only, and once before the first dump and once after the last.
    for days in [20, 12, 9, 8, 3] {
        scene.dump_days_ago(days).await;
    }
    for days in [30, 12, 8, 1] {
        scene.put(&days_ago(DumpKind::Globals, days), "roles").await;
    }
    scene.put("shop/globals_20260101_000000.sql.gz", "roles").await;
    let plan = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
    let kept: BTreeMap<_, _> = plan.kept.iter().map(|kept| (kept.name.to_string(), kept.reason.clone())).collect();
    assert_eq!(kept[&days_ago(DumpKind::Globals, 8)], "a dump that is kept needs it");
    assert_eq!(kept[&days_ago(DumpKind::Globals, 1)], "newer than the dumps beside it");
    assert!(kept.contains_key("shop/globals_20260101_000000.sql.gz"), "no dump lies beside it");
    for days in [30, 12] {
        assert!(plan.dropped.iter().any(|dropped| dropped.name.as_str() == days_ago(DumpKind::Globals, days)), "{days}");
    }
    let nothing = scene.shelf(&["shop"]).prune_plan(&Retention::default(), NOW).await.unwrap();
    assert_eq!(nothing.dropped, [], "with no rule everything stays");
}

#[tokio::test]
async fn more_than_half_is_noticed() {
    for (old, new, more) in [(1, 1, false), (2, 1, true), (2, 2, false), (3, 2, true), (0, 3, false), (5, 0, true)] {
        let scene = Scene::new();
        for days in 0..new {
            scene.dump_days_ago(days).await;
        }
        for days in 0..old {
            scene.dump_days_ago(100 + days).await;
        }
        // Roles do not count.
        for days in 100..120 {
            scene.put(&days_ago(DumpKind::Globals, days), "roles").await;
        }
        let plan = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
        assert_eq!(plan.drops_more_than_half(), more, "{old} old, {new} new");
    }
}

#[tokio::test]
async fn a_pruning_that_is_killed_anywhere_is_finished_by_the_next() {
    for fails_at in 1..=9 {
        let scene = Scene::new();
        for days in [0, 8, 9, 10] {
            scene.dump_days_ago(days).await;
        }
        for days in [0, 9] {
            scene.put(&days_ago(DumpKind::Globals, days), "roles").await;
        }
        let plan = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, NOW).await.unwrap();
        let faults = FaultPlan::one(Operation::Delete, Calls::From(fails_at), Effect::Fail(ErrorKind::Unavailable));
        let killed = plan.execute(&FaultyStore::new(Arc::new(scene.store.clone()), faults)).await;
        // Three dumps with side files, one dump of roles.
        assert_eq!(killed.is_err(), fails_at <= 7, "{fails_at}");
        for entry in scene.shelf(&["shop"]).list().await.unwrap() {
            assert_eq!(entry.state, DumpState::Complete, "{fails_at}: {entry:?}");
        }
        // A side file of nothing may be that of a dump to come, so it goes a day later.
        let later = NOW + Duration::days(1) + Duration::SECOND;
        scene.clock.set(later);
        let rest = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, later).await.unwrap();
        rest.execute(&scene.store).await.unwrap();
        let newest = days_ago(DumpKind::Database, 0);
        assert_eq!(scene.keys().await, [newest.clone(), format!("{newest}.json"), days_ago(DumpKind::Globals, 0)], "{fails_at}");
    }
}

#[tokio::test]
async fn a_side_file_whose_dump_may_be_on_its_way_stays_for_a_day() {
    let scene = Scene::new();
    scene.dump_days_ago(0).await;
    let orphan = format!("{}.json", days_ago(DumpKind::Database, 3));
    scene.put(&orphan, "the side file of nothing").await;
    for (age, gone) in [(Duration::ZERO, false), (Duration::DAY, false), (Duration::DAY + Duration::SECOND, true)] {
        let plan = scene.shelf(&["shop"]).prune_plan(&SEVEN_DAYS, NOW + age).await.unwrap();
        let dropped: Vec<_> = plan.dropped.iter().map(|dropped| dropped.name.as_str()).collect();
        assert_eq!(dropped, if gone { vec![orphan.as_str()] } else { vec![] }, "{age}");
        assert!(!plan.drops_more_than_half());
    }
}

async fn verify_all(store: &dyn BackupStore, subjects: &[Subject], depth: Depth) -> VerifyReport {
    verify(store, subjects, depth, &Silent).await.unwrap()
}

/// Stores a dump and returns what a full and a quick verification find wrong with it.
async fn findings(bytes: Vec<u8>, side_file: Option<SideFile>) -> [Option<String>; 2] {
    let store = MemoryBackupStore::new();
    let name = key("backup_20260101_000000.sql.gz");
    store.put(&name, bytes.into()).await.unwrap();
    let subject = Subject { side_file, ..Subject::new(name) };
    let mut found = [None, None];
    for (depth, found) in [Depth::Full, Depth::Quick].into_iter().zip(&mut found) {
        let report = verify_all(&store, std::slice::from_ref(&subject), depth).await;
        assert_eq!(report.objects, 1);
        *found = report.damaged.into_iter().next().map(|damaged| damaged.reason);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_found() {
    let text = sql(8);
    let good = gzip(text.as_bytes());
    let side = |bytes: &[u8]| Some(side_file("shop", NOW, bytes));
    // A dump as pigz or pgpersist writes it: several members, cut anywhere.
    let members: Vec<u8> = text.as_bytes().chunks(100).flat_map(gzip).collect();
    for whole in [&good, &members] {
        assert_eq!(findings(whole.clone(), side(whole)).await, [None, None]);
        assert_eq!(findings(whole.clone(), None).await, [None, None]);
    }
    let expect = async |bytes: &[u8], side_file, full: &str, quick: &str| {
        let found = findings(bytes.to_vec(), side_file).await;
        for (found, expected) in found.iter().zip([full, quick]) {
            match found {
                Some(found) => assert!(!expected.is_empty() && found.contains(expected), "found {found}, expected {expected}"),
                None => assert_eq!(expected, "", "nothing found"),
            }
        }
    };
    let cut = &good[..good.len() / 2];
    expect(cut, side(&good), "its side file tells", "its side file tells").await;
    expect(cut, None, "cannot be unpacked", "").await;
    expect(&members[..gzip(&text.as_bytes()[..100]).len()], None, "last line of pg_dump", "").await;
    expect(b"", None, "too short", "too short").await;
    expect(text.as_bytes(), None, "cannot be unpacked", "does not begin like gzip").await;
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    expect(&flipped, side(&good), "its SHA-256", "").await;
    expect(&flipped, None, "cannot be unpacked", "").await;
    let mut checksum = good.clone();
    checksum[good.len() - 8] ^= 1;
    expect(&checksum, None, "cannot be unpacked", "").await;
    let mut length = good.clone();
    length[good.len() - 1] ^= 0x7f;
    expect(&length, side(&good), "its SHA-256", "does not end like gzip").await;
    let garbage = [good.clone(), b"garbage behind the last member".to_vec()].concat();
    expect(&garbage, None, "cannot be unpacked", "").await;
    expect(&gzip(text.replace("dump complete", "dump").as_bytes()), None, "last line of pg_dump", "").await;
    expect(&gzip(format!("{text}SELECT 1;\n").as_bytes()), None, "last line of pg_dump", "").await;
    let fewer = gzip(sql(7).as_bytes());
    let mut told = side_file("shop", NOW, &fewer);
    expect(&fewer, Some(told.clone()), "its side file tells", "").await;
    told.uncompressed_bytes = sql(7).len() as u64;
    expect(&fewer, Some(told), "7 rows of public.orders", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_dump_is_read_range_by_range() {
    // Hexadecimal digits of hashes pack to half their size at best: several ranges of 4 MiB.
    let text = sql(300_000);
    let bytes = gzip(text.as_bytes());
    assert!(bytes.len() > 9 << 20, "{}", bytes.len());
    let name = key("backup_20260101_000000.sql.gz");
    let memory = MemoryBackupStore::new();
    memory.put(&name, bytes.clone().into()).await.unwrap();
    let mut told = side_file("shop", NOW, &bytes);
    told.uncompressed_bytes = text.len() as u64;
    told.tables.insert("public.orders".to_owned(), 300_000);
    let subject = [Subject { side_file: Some(told), ..Subject::new(name) }];

    let ranges = FaultyStore::new(Arc::new(memory.clone()), FaultPlan::default());
    assert_eq!(verify_all(&ranges, &subject, Depth::Full).await.damaged, []);
    assert_eq!(ranges.calls(Operation::GetRange), bytes.len().div_ceil(4 << 20) as u64);
    assert_eq!(ranges.calls(Operation::Get), 0);

    for call in 1..=3 {
        let faults = FaultPlan { seed: call, ..FaultPlan::one(Operation::GetRange, Calls::Nth(call), Effect::Corrupt) };
        let report = verify_all(&FaultyStore::new(Arc::new(memory.clone()), faults), &subject, Depth::Full).await;
        assert_eq!(report.damaged.len(), 1, "one flipped bit in range {call}");
        let faults = FaultPlan::one(Operation::GetRange, Calls::Nth(call), Effect::Fail(ErrorKind::Unavailable));
        let two = [subject[0].clone(), subject[0].clone()];
        let report = verify_all(&FaultyStore::new(Arc::new(memory.clone()), faults), &two, Depth::Full).await;
        assert_eq!(report.damaged, [], "a store that is away is no damage");
        assert_eq!((report.objects, report.unreadable.len()), (2, 1), "the second one is read although the first one was not");
        assert_eq!((report.unreadable[0].kind, &report.unreadable[0].name), (ErrorKind::Unavailable, &subject[0].name));
    }
}

#[tokio::test]
async fn what_the_list_knows_already_is_reported_and_what_is_gone_too() {
    let scene = Scene::new();
    scene.dump("backup_20260101_000000.sql.gz", "shop").await;
    scene.dump("backup_20260102_000000.sql.gz", "shop").await;
    scene.put("backup_20260102_000000.sql.gz.json", "no side file").await;
    scene.dump("backup_20260103_000000.sql.gz", "shop").await;
    scene
        .put(
            "globals_20260103_000000.sql.gz",
            gzip(b"--\n-- PostgreSQL database cluster dump\n--\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n"),
        )
        .await;
    let shelf = scene.shelf(&["shop"]);
    let entries = shelf.list().await.unwrap();
    scene.store.delete(&key("backup_20260103_000000.sql.gz")).await.unwrap();
    let globals = shelf.globals().await.unwrap().into_iter().map(Subject::new);
    let subjects: Vec<Subject> = entries.iter().map(Subject::from).chain(globals).collect();
    for depth in [Depth::Quick, Depth::Full] {
        let report = verify_all(&scene.store, &subjects, depth).await;
        let damaged: Vec<_> = report.damaged.iter().map(|damaged| damaged.name.as_str()).collect();
        assert_eq!((report.objects, damaged), (4, vec!["backup_20260103_000000.sql.gz", "backup_20260102_000000.sql.gz"]));
        assert!(report.damaged[0].reason.contains("not in the store"), "{report:?}");
        assert!(report.damaged[1].reason.contains("is no side file"), "{report:?}");
    }
}
