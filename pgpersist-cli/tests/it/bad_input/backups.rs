//! Physical backups whose server goes away in the middle, and those whose store has no room.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::bad_input::places::mounted;
use crate::support::cluster::TestCluster;
use crate::support::scratch::Run;
use crate::support::{processes, shared_memory};

fn names(cluster: &TestCluster, more: &[&str]) -> Vec<String> {
    let listed = cluster.run(&[&["list", "--json"], more].concat()).done().json();
    listed["backups"].as_array().unwrap().iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
}

/// A backup that takes long enough to be met while it reads.
struct Slow {
    child: Child,
    said: std::path::PathBuf,
}

impl Slow {
    fn begin(cluster: &TestCluster) -> Self {
        let said = cluster.scratch.join("said");
        let mut command = cluster.scratch.command();
        command.args(["backup", "--full-read", "--rate-limit", "400kB", "--jobs", "1"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).unwrap()).spawn().unwrap();
        let mut slow = Self { child, said };
        let began = Instant::now();
        while !slow.said().contains("reading ") {
            assert!(slow.child.try_wait().unwrap().is_none(), "it ended before it read anything: {}", slow.said());
            assert!(began.elapsed() < Duration::from_secs(60), "it never came to read: {}", slow.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        slow
    }

    fn said(&self) -> String {
        let mut text = String::new();
        File::open(&self.said).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn end(mut self) -> Run {
        let code = self.child.wait().unwrap().code();
        Run { code, stdout: String::new(), stderr: self.said() }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_goes_away_in_the_middle_of_a_backup_makes_it_void_and_nothing_is_published() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    cluster.run(&["backup"]).done();
    let before = names(&cluster, &[]);
    for restarted in [false, true] {
        let slow = Slow::begin(&cluster);
        assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM pg_replication_slots WHERE temporary"), "1");
        if restarted {
            cluster.run(&["restart"]).done();
        } else {
            processes::kill_server(&cluster.data());
        }
        let run = slow.end();
        assert_eq!(run.code, Some(6), "{run:?}");
        for told in ["error: the server ended the session that the backup hangs on: the backup is void", "  remedy: "] {
            assert!(run.stderr.contains(told), "{run:?}");
        }
        if !restarted {
            cluster.start();
        }
        assert_eq!(names(&cluster, &[]), before);
        assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM pg_replication_slots"), "0");
    }
    // The next one is a backup like any other.
    cluster.run(&["backup"]).done();
    cluster.run(&["verify"]).done();
    assert_eq!(names(&cluster, &[]).len(), before.len() + 1);
    cluster.run(&["stop"]).done();
    shared_memory::remove();
}

#[test]
fn a_store_that_runs_full_takes_no_part_of_a_backup() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    let Some(mount) = mounted(&cluster.scratch.join("full"), 2048) else { return };
    let store = ["--store", "{dir}/full/backups"];
    let run = cluster.run(&[&["backup"][..], &store].concat());
    assert_eq!(run.code, Some(6), "{run:?}");
    assert!(run.stderr.contains("No space left on device") && run.stderr.contains("  remedy: free some space"), "{run:?}");
    assert_eq!(names(&cluster, &store), Vec::<String>::new());
    mount.grow(64 << 10);
    cluster.run(&[&["backup"][..], &store].concat()).done();
    assert_eq!(names(&cluster, &store).len(), 1);
    cluster.run(&[&["verify"][..], &store].concat()).done();
}
