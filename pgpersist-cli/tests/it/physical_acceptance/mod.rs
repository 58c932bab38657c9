//! Backups of a cluster at work, accepted by everybody who shares no code with them: PostgreSQL starts what was restored, `pg_amcheck` holds
//! indexes against tables, `pg_verifybackup` reads an export, Python's `restore.py` makes the same files, and a writer's books are balanced.
//!
//! It runs on each major version that is found: the distribution's, and those that `PGPERSIST_TEST_BINDIRS` names. Sizes for
//! `script/proofs`: `PGPERSIST_TEST_BACKUPS`, `PGPERSIST_TEST_SCALE` (pgbench's), `PGPERSIST_TEST_BIG_MIB` (of one relation).

mod accepted;
mod days;
mod ground;
mod verifybackup;

use std::time::Instant;

use crate::physical_acceptance::accepted::{Accepted, Backup};
use crate::physical_acceptance::ground::{Acknowledged, Ground, Sizes, lsn};
use crate::support::installation::Installation;
use crate::support::moments::number;
use crate::support::proof::proven;

/// How backups are made, in turn.
const WAYS: [&[&str]; 4] = [&[], &["--compression", "lz4"], &["--full-read", "--jobs", "1"], &["--compression", "none", "--jobs", "3"]];

/// Asked of the source when nobody changes anything any more, and of each restored cluster; the answers must be the same.
const SAME: [&str; 6] = [
    "SELECT md5(string_agg(id || md5(plain) || md5(packed), ',' ORDER BY id)) FROM toasted WHERE id > 50",
    "SELECT md5(string_agg(md5(lo_get(id)), ',' ORDER BY id)) FROM large_objects",
    "SELECT count(*) || ' ' || sum(id) || ' ' || md5(string_agg(md5(filler), ',' ORDER BY id)) FROM big",
    "SELECT md5(string_agg(on_fast::text, ',' ORDER BY id)) FROM on_fast",
    "SELECT md5(string_agg(totals::text, ',' ORDER BY word)) FROM totals",
    "SELECT string_agg(format('%s %s %s', relname, relkind, relpersistence), ',' ORDER BY relname) FROM pg_class \
     WHERE relnamespace = 'public'::regnamespace",
];

/// Asked of each restored cluster, with what must be answered, whatever moment it is of.
const TRUE: [(&str, &str, &str); 9] = [
    (
        "bench",
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history) \
         AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches) \
         AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)",
        "t",
    ),
    ("awkward", "SELECT coalesce(sum(amount), 0) FROM pairs", "0"),
    ("awkward", "SELECT count(*) FROM forgotten", "0"),
    ("awkward", "SELECT count(*) FROM large_objects o JOIN pg_largeobject_metadata m ON m.oid = o.id", "60"),
    ("awkward", "SELECT count(*) FROM pg_largeobject_metadata", "60"),
    ("awkward", "SELECT nextval('numbers') > coalesce((SELECT max(n) FROM numbered), 0)", "t"),
    ("awkward", "SELECT count(*) FROM undecided", "0"),
    ("awkward", "COMMIT PREPARED 'undecided'", ""),
    ("awkward", "SELECT count(*) FROM undecided", "1"),
];

/// What an index of each kind must agree about with the table. `pg_amcheck` knows B-trees.
const INDEXED: [(&str, &str); 6] = [
    ("gin", "SELECT count(*) FROM events WHERE tags @> ARRAY['t3']"),
    ("gist", "SELECT count(*) FROM events WHERE spot <@ box '(10,10),(40,40)'"),
    ("spgist", "SELECT count(*) FROM events WHERE address << inet '10.0.7.0/24'"),
    ("brin", "SELECT count(*) FROM events WHERE at BETWEEN '2026-01-02' AND '2026-01-05'"),
    ("hash", "SELECT count(*) FROM events WHERE word = 'w7'"),
    ("btree", "SELECT count(*) FROM events WHERE upper(word) = 'W8' AND id % 2 = 0"),
];

#[test]
fn backups_of_a_busy_cluster_are_accepted_by_all_who_share_no_code_with_them() {
    let size = |variable, everyday| number(variable).unwrap_or(everyday);
    let sizes = Sizes { scale: size("PGPERSIST_TEST_SCALE", 1), big_mib: size("PGPERSIST_TEST_BIG_MIB", 4) };
    let backups = size("PGPERSIST_TEST_BACKUPS", 2);
    for installation in Installation::all() {
        accept(installation, sizes, backups);
    }
}

fn accept(installation: Installation, sizes: Sizes, wanted: u64) {
    let began = Instant::now();
    let major = installation.version.major;
    let mut ground = Ground::new(installation, sizes);
    let writer = ground.work();
    let mut backups = Vec::new();
    for way in WAYS.into_iter().cycle().take(usize::try_from(wanted).unwrap()) {
        let report = ground.run(&[&["backup", "--json"], way].concat()).json();
        assert_eq!(report["damaged"], serde_json::json!([]), "{report}");
        let text = |field: &str| report[field].as_str().unwrap().to_owned();
        let backup = Backup { name: text("name"), start: lsn(&text("start_lsn")), stop: lsn(&text("stop_lsn")) };
        println!("PostgreSQL {major}: {} of {} bytes in {} s", backup.name, report["size_bytes"], report["duration_s"]);
        backups.push(backup);
    }
    ground.rest();
    let ledger = writer.end();
    let same = SAME.map(|question| ground.sql("awkward", question));
    ground.run(&["verify"]);
    ground.run(&["stop"]);

    let (mut acknowledged, mut judges) = (0, String::new());
    for backup in &backups {
        let accepted = Accepted::restored(&ground, backup);
        judges = accepted.by_others();
        let server = accepted.start();
        acknowledged += balanced(backup, &ledger, &server.sql("awkward", "SELECT coalesce(max(n), 0) || ' ' || count(*) FROM ledger"));
        for (question, answer) in SAME.iter().zip(&same) {
            assert_eq!(&server.sql("awkward", question), answer, "{}: {question}", backup.name);
        }
        for (database, question, answer) in TRUE {
            assert_eq!(server.sql(database, question), answer, "{}: {question}", backup.name);
        }
        for (kind, question) in INDEXED {
            server.index_agrees(kind, question);
        }
        server.check();
        server.stop();
        println!("PostgreSQL {major}: {} accepted", backup.name);
    }
    let counts = format!(
        "{wanted} backups under pgbench at scale {}, {} MiB of one relation, {acknowledged} commits acknowledged before their ends, {judges}",
        sizes.scale, sizes.big_mib
    );
    proven(format!("physical backups, PostgreSQL {major}"), counts, None, began);
}

/// All that was acknowledged before the backup ended is there, nothing is missing in between, and nothing is there that nobody wrote. Returns
/// how much was acknowledged by then.
fn balanced(backup: &Backup, ledger: &[Acknowledged], there: &str) -> usize {
    let (last, all) = there.split_once(' ').unwrap();
    let (last, all): (u64, u64) = (last.parse().unwrap(), all.parse().unwrap());
    let before: Vec<_> = ledger.iter().filter(|entry| entry.end <= backup.stop).collect();
    let during = before.iter().filter(|entry| entry.end > backup.start).count();
    assert!(during > 0, "{}: nothing was committed while it was made", backup.name);
    let must_be_there = before.iter().map(|entry| entry.number).max().unwrap();
    assert!(last >= must_be_there, "{}: {must_be_there} was acknowledged before it ended, and it ends with {last}", backup.name);
    assert_eq!(last, all, "{}: a commit is missing", backup.name);
    assert!(last <= ledger.len() as u64, "{}: {last} was never written", backup.name);
    before.len()
}
