//! Dumps that do not come back: the drill fails, says why and what to do, and records it.

use serde_json::Value;

use crate::drill_restore::{APART, IN_STORE, ON_VOLUME, drill, dumped, finding, foreign_dump, prepare, recorded, report};
use crate::support::cluster::TestCluster;
use crate::support::mount::Mount;
use crate::support::user;

fn name_of(cluster: &TestCluster, dump: &str) -> String {
    cluster.run(&["show", dump, "--json"]).done().json()["name"].as_str().unwrap().to_owned()
}

/// Changes the newest dump's bytes.
fn damage(cluster: &TestCluster, change: impl Fn(&mut Vec<u8>)) {
    let name = name_of(cluster, "latest");
    let mut bytes = std::fs::read(cluster.store().join(&name)).unwrap();
    change(&mut bytes);
    cluster.scratch.write_bytes(&format!("volume/backups/{name}"), &bytes);
}

/// Changes the newest dump's side file.
fn promise(cluster: &TestCluster, change: impl Fn(&mut Value)) {
    let name = format!("{}.json", name_of(cluster, "latest"));
    let mut side_file: Value = serde_json::from_slice(&std::fs::read(cluster.store().join(&name)).unwrap()).unwrap();
    change(&mut side_file);
    cluster.scratch.write_bytes(&format!("volume/backups/{name}"), side_file.to_string().as_bytes());
}

#[track_caller]
fn assert_told(report: &Value, words: &str) {
    let reasons = report["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason.as_str().unwrap().contains(words)), "`{words}` is no reason: {report}");
}

#[test]
fn a_damaged_dump_fails_the_drill_and_health_until_a_good_one_is_drilled() {
    let cluster = dumped("");
    let report_of = || report(&cluster, 7, &[]);
    damage(&cluster, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
    });
    let flipped = report_of();
    assert_told(&flipped, "shop: backup_");
    assert_eq!((&flipped["lost"], &flipped["acknowledged"], &flipped["rows"]), (&8.into(), &8.into(), &0.into()), "{flipped}");
    assert!(flipped["databases"][0]["remedy"].is_string() && flipped["databases"][0]["load_s"].is_null(), "{flipped}");
    assert_eq!((recorded(&cluster, ON_VOLUME).len(), recorded(&cluster, IN_STORE).len()), (1, 1));
    let seen = finding(&cluster);
    assert!(seen["status"] == "fail" && seen["summary"].as_str().unwrap().contains("none was proven before"), "{seen}");

    // Cut off: known before anything is loaded, and with nothing older to load instead.
    damage(&cluster, |bytes| bytes.truncate(bytes.len() / 2));
    let cut = report_of();
    assert_told(&cut, "is damaged: it has ");
    assert_eq!((&cut["databases"][0]["name"], &cut["version"]), (&Value::Null, &Value::Null), "{cut}");

    cluster.dump(&[]);
    report(&cluster, 0, &[]);
    assert_eq!(finding(&cluster)["status"], "pass");

    // With an older good one that is loaded, but not passed off as the newest.
    let good = name_of(&cluster, "latest");
    cluster.dump(&[]);
    damage(&cluster, |bytes| bytes.truncate(30));
    let instead = report_of();
    assert_told(&instead, &format!("{good} was loaded instead"));
    assert_eq!((&instead["databases"][0]["name"], &instead["rows"], &instead["lost"]), (&good.into(), &8.into(), &0.into()), "{instead}");
}

#[test]
fn a_side_file_that_promises_other_rows_than_came_back_fails() {
    let cluster = dumped("");
    let rows = |number: u64| promise(&cluster, |side_file| side_file["tables"]["public.orders"] = number.into());
    rows(9);
    let more = report(&cluster, 7, &[]);
    assert_told(&more, "shop: rows: public.orders has 8 rows, and its side file says 9");
    assert_eq!((&more["lost"], &more["rows"], &more["acknowledged"]), (&1.into(), &8.into(), &9.into()), "{more}");
    let difference = serde_json::json!({ "table": "public.orders", "expected": 9, "found": 8 });
    assert_eq!(more["databases"][0]["differences"], serde_json::json!([difference]));
    rows(7);
    let less = report(&cluster, 7, &[]);
    assert_told(&less, "public.orders has 8 rows, and its side file says 7");
    assert_eq!(less["lost"], 0);
    rows(8);
    // A name of a table is never run as SQL.
    promise(&cluster, |side_file| {
        for name in ["public.gone", "x\" y; DROP TABLE public.orders", "pg_catalog.pg_tables"] {
            side_file["tables"][name] = 1.into();
        }
    });
    assert_eq!(report(&cluster, 7, &[])["lost"], 3);
}

#[test]
fn a_database_without_a_dump_is_not_restorable() {
    let cluster = TestCluster::running("databases = [\"shop\", \"other\"]\n");
    cluster.fill("shop");
    cluster.dump(&["-d", "shop"]);
    prepare(&cluster);
    let report_of_all = report(&cluster, 7, &[]);
    assert_told(&report_of_all, "other: there is no dump of it");
    assert_eq!(report_of_all["databases"][0]["verdict"], "pass");
    report(&cluster, 0, &["-d", "shop"]);
    drill(&cluster, &["--quiet", "-d", "other"]).refused(4, &["there is no dump of `other`"]);
}

#[test]
fn what_this_machine_lacks_is_told_with_what_to_do() {
    let cluster = TestCluster::running("databases = [\"shop\"]\n");
    prepare(&cluster);
    let name = "backup_20260101_000000.sql.gz";
    foreign_dump(&cluster, name, "CREATE EXTENSION no_such_extension;\n");
    let extension = report(&cluster, 7, &[]);
    assert_told(&extension, "extension \"no_such_extension\" is not available");
    assert_eq!(extension["databases"][0]["remedy"], "install that extension for this server");
    foreign_dump(&cluster, name, "CREATE TABLE t (a int);\nALTER TABLE t OWNER TO nobody_here;\n");
    let role = report(&cluster, 7, &[]);
    assert_told(&role, "nobody_here");
    assert!(role["databases"][0]["remedy"].as_str().unwrap().contains("load the roles first"), "{role}");
    foreign_dump(&cluster, name, "CREATE TABLE t (a int);\nCREATE FUNCTION f() RETURNS int AS 'x', 'y' LANGUAGE c;\n");
    let superuser = report(&cluster, 7, &[]);
    assert!(superuser["databases"][0]["remedy"].as_str().unwrap().contains("--trust"), "{superuser}");
    // Nothing was recorded when it was made, so nothing is known to be lost: done, with a warning.
    foreign_dump(&cluster, name, "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\n");
    let run = drill(&cluster, &["--json"]);
    assert_eq!((run.code, &run.json()["verdict"]), (Some(3), &"pass".into()), "{run:?}");
    let report = run.json();
    let notes = report["notes"].as_array().unwrap();
    assert!(notes.contains(&"shop: rows is unknown: the dump has no side file to compare with".into()), "{run:?}");
}

#[test]
fn a_dump_of_a_newer_postgresql_than_any_here_is_refused_and_proves_nothing() {
    let cluster = dumped("");
    promise(&cluster, |side_file| side_file["server_version"] = "99.1".into());
    drill(&cluster, &["--quiet"])
        .refused(5, &["is a dump of PostgreSQL 99.1, and the newest programs here are ", "apt-get install postgresql-99"]);
    assert_eq!(recorded(&cluster, IN_STORE), Vec::<String>::new());
    assert_eq!(finding(&cluster)["status"], "pass");
}

#[test]
fn a_drill_without_room_is_no_verdict_and_leaves_nothing() {
    let cluster = dumped("");
    cluster.sql("shop", "CREATE TABLE large AS SELECT i, repeat('x', 200) AS text FROM generate_series(1, 400000) i");
    cluster.dump(&[]);
    // Full while the dump is loaded, which the server tells in several ways, and before there is a cluster at all.
    for (size_kib, told) in
        [(96 << 10, "/volume/tmp has room for everything that is to be restored"), (20 << 10, "No space left on device")]
    {
        let Some(_mount) = Mount::new(&cluster.scratch.join("volume/tmp"), size_kib) else { return };
        user::hand_over(&cluster.scratch.join("volume/tmp"));
        drill(&cluster, &["--quiet"]).refused(6, &[told, "  remedy: "]);
    }
    assert_eq!((recorded(&cluster, ON_VOLUME), recorded(&cluster, IN_STORE)), (Vec::new(), Vec::new()));
    assert_eq!(cluster.scratch.run(&["drill", "restore"], &APART).done().code, Some(0));
}
