//! Clocks that go back, and names from a clock that was wrong: to the program, a dump whose name is ahead of the clock.

use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::logical::name::{DumpKind, DumpName};
use time::{Duration, OffsetDateTime};

use crate::support::cluster::TestCluster;

/// Puts a dump with another moment in its name beside a dump, and returns the name.
fn name_anew(cluster: &TestCluster, dump: &str, time: OffsetDateTime) -> String {
    let name = DumpName::new(DumpKind::Database, time).to_string();
    let bytes = std::fs::read(cluster.store().join(dump)).unwrap();
    cluster.scratch.write_bytes(&format!("volume/backups/{name}"), &bytes);
    name
}

#[test]
fn names_stay_in_order_when_the_clock_goes_back_and_do_not_follow_a_wrong_one() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n[retention]\nkeep_days = 7\n");
    cluster.fill("orders");
    let first = cluster.dump(&[]);

    // The clock was an hour ahead, and was set back.
    let ahead = SystemClock.now() + Duration::HOUR;
    let before = name_anew(&cluster, &first, ahead);
    let second = cluster.run(&["dump", "--json"]).done();
    let document = second.json();
    assert_eq!(document["name"], DumpName::new(DumpKind::Database, ahead + Duration::SECOND).to_string());
    assert!(document["warnings"].is_null());
    // The moment is the clock's own.
    let started = OffsetDateTime::parse(document["started_at"].as_str().unwrap(), &time::format_description::well_known::Rfc3339).unwrap();
    assert!(started < ahead - Duration::minutes(30), "{started}");
    assert_eq!(cluster.run(&["show", "latest", "--json"]).done().json()["name"], document["name"]);

    // A clock that was a year ahead decides nothing any more.
    for name in [&before, document["name"].as_str().unwrap()] {
        std::fs::remove_file(cluster.store().join(name)).unwrap();
    }
    let _ = std::fs::remove_file(cluster.store().join(format!("{}.json", document["name"].as_str().unwrap())));
    for entry in std::fs::read_dir(cluster.store()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with("globals_") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let wrong = name_anew(&cluster, &first, SystemClock.now() + Duration::days(365));
    let store = cluster.store_tree();
    let run = cluster.run(&["dump", "--json"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    let document = run.json();
    let warning = document["warnings"][0].as_str().unwrap();
    assert!(warning.contains(&wrong) && warning.contains("more than a day ahead of the clock"), "{warning}");
    let name = DumpName::parse(document["name"].as_str().unwrap()).unwrap();
    assert!(name.time() < SystemClock.now() + Duration::minutes(5), "{name}");
    assert!(store.paths().all(|path| path.exists()));
    // In words too.
    let run = cluster.run(&["dump", "--quiet"]);
    assert!(run.code == Some(3) && run.stderr.contains(&format!("warning: the dump {wrong} is dated")), "{run:?}");
    // It is not taken for the latest, and not dropped for its age.
    assert_ne!(cluster.run(&["show", "latest", "--json"]).done().json()["name"], *wrong);
    let dropped = cluster.run(&["prune", "--dry-run", "--json"]).done().json()["plan"]["dropped"].clone();
    assert_eq!(dropped, serde_json::json!([]));
}
