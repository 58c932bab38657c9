//! A restore that is proven: what the report tells, where it is recorded, and what health makes of it.

use std::path::Path;
use std::process::Command;

use crate::drill_restore::{IN_STORE, ON_VOLUME, dumped, finding, prepare, recorded, report};
use crate::support::cluster::TestCluster;
use crate::support::tree::Tree;
use crate::support::volume::must;

/// Moves a folder to where nobody looks.
fn take_away(cluster: &TestCluster, folder: &Path) {
    must(Command::new("mv").arg(folder).arg(cluster.scratch.folder("gone")));
}

#[test]
fn everything_comes_back_while_the_server_is_down_and_the_proof_is_kept_twice() {
    let cluster = TestCluster::running("databases = [\"shop\", \"Ünusual name\"]\n");
    cluster.sql("postgres", "CREATE ROLE clerk; CREATE ROLE auditor LOGIN CONNECTION LIMIT 0");
    cluster.fill("shop");
    cluster.sql(
        "shop",
        "ALTER TABLE orders OWNER TO clerk; REVOKE CONNECT ON DATABASE shop FROM PUBLIC; ALTER DATABASE shop CONNECTION LIMIT 0",
    );
    // Partitions, inheritance, names that need quotes, a schema that few may enter, rows that few may see, no rows at all.
    cluster.sql(
        "Ünusual name",
        "CREATE SCHEMA \"Closed\"; CREATE TABLE \"Closed\".\"T, \"\"x\"\"\" (a int); INSERT INTO \"Closed\".\"T, \"\"x\"\"\" VALUES (1), (2);
         CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent);
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
         CREATE TABLE part (a int) PARTITION BY RANGE (a); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
         INSERT INTO part VALUES (1), (2), (3); CREATE TABLE nothing (a int);
         CREATE TABLE hidden (a int); INSERT INTO hidden VALUES (1); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    );
    cluster.dump(&[]);
    prepare(&cluster);
    assert_eq!(
        (finding(&cluster)["status"].as_str(), finding(&cluster)["summary"].as_str()),
        (Some("pass"), Some("no restore proven yet"))
    );
    cluster.run(&["stop"]).done();
    let before = Tree::of(&cluster.data());
    let report = report(&cluster, 0, &[]);
    before.assert_same(&Tree::of(&cluster.data()));
    assert_eq!((&report["kind"], &report["seed"], &report["rounds"]), (&"restore".into(), &serde_json::Value::Null, &2.into()));
    // 8 orders, 2 closed, 1 + 2 inherited, 3 in a partition, 1 hidden.
    assert_eq!((&report["acknowledged"], &report["rows"], &report["lost"]), (&17.into(), &17.into(), &0.into()), "{report}");
    for database in report["databases"].as_array().unwrap() {
        let checks: Vec<(&str, &str)> = database["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| (check["name"].as_str().unwrap(), check["status"].as_str().unwrap()))
            .collect();
        assert_eq!(checks, [("rows", "pass"), ("amcheck", "pass")], "{database}");
        assert!(database["load_s"].as_f64().unwrap() > 0.0 && database["age_s"].as_f64().unwrap() >= 0.0, "{database}");
    }
    assert!(report["restore_s"].as_f64() >= report["recovery_s"]["max"].as_f64(), "{report}");
    let (on_volume, in_store) = (recorded(&cluster, ON_VOLUME), recorded(&cluster, IN_STORE));
    assert!(on_volume.len() == 1 && on_volume == in_store, "{on_volume:?} and {in_store:?}");
    let seen = finding(&cluster);
    let summary = seen["summary"].as_str().unwrap();
    assert!(seen["status"] == "pass" && summary.starts_with("proven just now: 2 databases restored in "), "{seen}");
    let metrics = cluster.run(&["health", "--format", "prometheus"]).stdout;
    for metric in ["last_restore_drill_age_seconds", "restore_duration_seconds", "restored_dump_age_seconds"] {
        assert!(metrics.contains(&format!("pgpersist_{metric}{{database=\"shop\"}} ")), "{metrics}");
    }
}

#[test]
fn the_store_alone_knows_the_drills_when_the_volume_is_gone() {
    let cluster = dumped("");
    let made = report(&cluster, 0, &["-d", "shop"]);
    let listed = |arguments: &[&str]| cluster.run(&[&["drill", "list", "--json"], arguments].concat()).done().json()["drills"].clone();
    assert_eq!(listed(&[]).as_array().unwrap().len(), 1, "a report in two places is one drill");
    take_away(&cluster, &cluster.scratch.join("volume").join(ON_VOLUME));
    assert_eq!(listed(&[])[0]["id"], made["id"]);
    assert_eq!(listed(&["--config", "/dev/null", "--store", "{dir}/volume/backups"])[0]["id"], made["id"]);
    assert_eq!(finding(&cluster)["status"], "pass");
    // Another machine needs no data directory to drill what lies in a store.
    let run = cluster.scratch.run(
        &["drill", "restore", "--config", "/dev/null", "--store", "{dir}/volume/backups", "--json"],
        &[("TMPDIR", "{dir}/volume/tmp"), ("PGPERSIST_CACHE", "{dir}/volume/cache")],
    );
    assert_eq!(run.done().json()["verdict"], "pass");
    assert_eq!(recorded(&cluster, IN_STORE).len(), 2);
}

#[test]
fn an_old_proof_and_none_at_all_are_warnings_in_time() {
    let cluster = dumped("[health]\ndrill_max_age = \"1s\"\n");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let seen = finding(&cluster);
    assert_eq!((seen["status"].as_str(), seen["summary"].as_str()), (Some("warn"), Some("no restore was ever proven")));
    report(&cluster, 0, &[]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let seen = finding(&cluster);
    assert!(seen["status"] == "warn" && seen["summary"].as_str().unwrap().contains("at most 1 s is wanted"), "{seen}");
    // A new beginning has nothing to do with what was proven before.
    cluster.run(&["stop"]).done();
    take_away(&cluster, &cluster.data());
    cluster.run(&["init", "--allow-ephemeral", "--new"]).done();
    assert_eq!(finding(&cluster)["summary"], "no restore proven yet");
    let run = cluster.run(&["drill", "restore", "--quiet"]);
    run.refused(4, &["no dump of `shop` of this cluster", "only of the one that had the name `main` before"]);
}
