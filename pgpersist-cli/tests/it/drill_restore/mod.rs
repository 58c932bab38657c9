//! `drill restore` with real servers: what comes back, what does not, and what is left of it.

mod damage;
mod ends;
mod proven;
mod questions;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::TestCluster;
use crate::support::scratch::Run;

/// The drill's cluster, and the templates of such clusters, stay on the test's own volume.
const APART: [(&str, &str); 2] = [("TMPDIR", "{dir}/volume/tmp"), ("PGPERSIST_CACHE", "{dir}/volume/cache")];

/// A cluster with eight orders in `shop`, and a dump of it.
fn dumped(more: &str) -> TestCluster {
    let cluster = TestCluster::running(&format!("databases = [\"shop\"]\n{more}"));
    cluster.fill("shop");
    cluster.dump(&[]);
    prepare(&cluster);
    cluster
}

fn prepare(cluster: &TestCluster) {
    cluster.scratch.folder("volume/tmp");
    cluster.scratch.folder("volume/cache");
}

fn drill(cluster: &TestCluster, more: &[&str]) -> Run {
    let run = cluster.scratch.run(&[&["drill", "restore"], more].concat(), &APART);
    assert_eq!(left(cluster), Vec::<PathBuf>::new(), "{run:?}");
    run
}

/// The report of a drill that ended with this code.
#[track_caller]
fn report(cluster: &TestCluster, code: i32, more: &[&str]) -> Value {
    let run = drill(cluster, &[&["--json"], more].concat());
    assert_eq!(run.code, Some(code), "{run:?}");
    let report = run.json();
    assert_eq!(report["verdict"], if code == 7 { "fail" } else { "pass" }, "{report}");
    report
}

/// The clusters of drills that are there.
fn left(cluster: &TestCluster) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cluster.scratch.join("volume/tmp")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("pgpersist-temp-")).collect()
}

/// The names of the reports in a folder of the volume.
fn recorded(cluster: &TestCluster, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(cluster.scratch.join("volume").join(folder)).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const ON_VOLUME: &str = ".pgpersist/data/drills";
const IN_STORE: &str = "backups/.pgpersist/main/drills";

/// The finding about drills.
fn finding(cluster: &TestCluster) -> Value {
    let report = cluster.run(&["health", "--json"]).json();
    let found = report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "last_drill").cloned();
    found.unwrap_or_else(|| panic!("no finding about drills: {report}"))
}

/// Puts a dump into the store as a script of somebody else would, without a side file.
fn foreign_dump(cluster: &TestCluster, name: &str, sql: &str) {
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    cluster.scratch.folder("volume/backups");
    cluster.scratch.write_bytes(&format!("volume/backups/{name}"), &gzip.wait_with_output().unwrap().stdout);
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
