//! Thirty days of backups, a week of them kept: how large the repository becomes, and how much of it a restore reads.
//!
//! A day is a change of the table, a backup and a pruning, and then everything in the store is a day older. By day it is a few small ones;
//! sizes for `script/proofs`: `PGPERSIST_TEST_DAYS`, `PGPERSIST_TEST_TABLE_MIB`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::support::cluster::TestCluster;
use crate::support::judge;
use crate::support::moments::{Moments, number};
use crate::support::proof::proven;
use crate::support::volume::must;

/// How many backups are kept.
const KEPT: usize = 7;
/// How many times as large as needed the repository may be, and what a restore reads.
const MOST: f64 = 1.5;

/// A row is about 200 bytes long, so that a page has about 40 of them.
const ROW: &str = "md5(random()::text) || md5(random()::text) || md5(random()::text) || md5(random()::text) || md5(random()::text)";
const ROWS_PER_MIB: u64 = 5_000;

/// Changes a twentieth of the rows, removes a hundredth, and brings in as many.
fn a_day(rows: u64) -> String {
    format!(
        "UPDATE stock SET note = {ROW} WHERE random() < 0.05;
         DELETE FROM stock WHERE random() < 0.01;
         INSERT INTO stock (note) SELECT {ROW} FROM generate_series(1, {});",
        rows / 100
    )
}

fn repository(cluster: &TestCluster) -> PathBuf {
    cluster.store().join(".pgpersist/main/repository")
}

/// Everything in a folder is a day older.
fn a_night(folder: &Path) {
    let script = "cd \"$1\" && find . -type f -printf '%T@ %p\\n' | while read -r at object; do touch -d \"@$((${at%.*} - 86400))\" \"$object\"; done";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(folder));
}

fn bytes_in(folder: &Path) -> u64 {
    let script = "find \"$1\" -type f -printf '%s\\n' | awk '{ sum += $1 } END { printf \"%d\", sum }'";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(folder)).parse().unwrap()
}

fn backups(cluster: &TestCluster) -> Vec<Value> {
    let listed = cluster.run(&["list", "--json"]).done().json();
    listed["backups"].as_array().unwrap().iter().filter(|backup| backup["dropped"] != true).cloned().collect()
}

/// Restores the newest backup under strace, and adds up what was read from files of the store.
fn bytes_read_by_restore(cluster: &TestCluster, target: &Path) -> u64 {
    let trace = cluster.scratch.join("trace");
    let mut strace = Command::new("strace");
    cluster.scratch.prepare(&mut strace);
    strace.args(["-f", "-y", "-s", "0", "-e", "trace=read,pread64,readv,preadv,preadv2,copy_file_range,sendfile,mmap", "-o"]).arg(&trace);
    must(strace.arg(env!("CARGO_BIN_EXE_pgpersist")).args(["restore", "latest", "-D"]).arg(target));
    let store = cluster.store();
    // Nobody reads by other ways, or they would have to be counted.
    let lines = must(Command::new("grep").arg("-F").arg(format!("<{}/", store.display())).arg(&trace));
    assert!(!["mmap(", "copy_file_range(", "sendfile("].iter().any(|call| lines.contains(call)), "{lines}");
    lines.lines().filter_map(|line| line.rsplit_once(" = ")?.1.split(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn a_month_of_backups_stays_small_and_the_newest_is_read_at_little_more_than_its_size() {
    let began = Instant::now();
    let days = number("PGPERSIST_TEST_DAYS").unwrap_or(9);
    let table_mib = number("PGPERSIST_TEST_TABLE_MIB").unwrap_or(8);
    let rows = table_mib * ROWS_PER_MIB;
    let mut moments = Moments::new("days of backups");
    let cluster = TestCluster::running("databases = [\"shop\"]\n");
    let seed = |moments: &mut Moments| format!("SELECT setseed({}::float8 / 1000000);", moments.below(1_000_000));
    let fill = format!("INSERT INTO stock (note) SELECT {ROW} FROM generate_series(1, {rows}); CHECKPOINT;");
    cluster.sql(
        "shop",
        &format!("CREATE TABLE stock (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text); {}{fill}", seed(&mut moments)),
    );
    let mut largest = 0;
    for day in 0..=days {
        if day > 0 {
            let change = a_day(rows);
            cluster.sql("shop", &format!("{}{change}", seed(&mut moments)));
        }
        let report = cluster.run(&["backup", "--json"]).done().json();
        cluster.run(&["prune", "--keep-last", &KEPT.to_string(), "--yes"]).done();
        let size = bytes_in(&repository(&cluster));
        largest = largest.max(size);
        println!("day {day}: new {}, of its {}; repository {size}", report["new_bytes"], report["stored_bytes"]);
        a_night(&cluster.store());
    }
    // What was dropped on the last day is to be restored for a day.
    cluster.run(&["prune", "--keep-last", &KEPT.to_string(), "--yes"]).done();
    cluster.run(&["verify", "--quick"]).done();
    let kept = backups(&cluster);
    assert_eq!(kept.len(), KEPT);

    let size = bytes_in(&repository(&cluster));
    let changes: u64 = kept.iter().map(|backup| backup["new_bytes"].as_u64().unwrap()).sum();
    let fresh = cluster.scratch.folder("volume/fresh");
    let full = cluster.run(&["backup", "--store", fresh.to_str().unwrap(), "--json"]).done().json()["new_bytes"].as_u64().unwrap();
    let target = cluster.scratch.join("volume/restored");
    let read = bytes_read_by_restore(&cluster, &target);
    judge::controldata(&target, "Database system identifier");

    let (of_size, of_read) = (size as f64 / (full + changes) as f64, read as f64 / full as f64);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let counts = format!(
        "{days} days, {KEPT} kept: {:.1} MiB, {of_size:.2} of a full one of {:.1} MiB and the changes kept (largest, with a day's grace, {:.1} MiB); \
         a restore reads {:.1} MiB, {of_read:.2} of a full one",
        mib(size),
        mib(full),
        mib(largest),
        mib(read)
    );
    println!("{counts}");
    assert!(of_size <= MOST, "the repository is too large: {counts}");
    assert!(of_read <= MOST, "a restore reads too much: {counts}");
    proven("days of backups", counts, Some(moments.seed()), began);
}
