//! `migrate`: whatever was killed, the source is intact, and the next migration ends well.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::kill::dump::{ALL_ORDERS, orders};
use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::scratch::Scratch;
use crate::support::volume::{FileSystem, must};

/// A stopped cluster, of which each round gets a copy.
#[derive(Debug)]
pub(crate) struct Original {
    folder: Scratch,
    /// What its table holds.
    pub(crate) wanted: String,
}

impl Original {
    pub(crate) fn new() -> Self {
        let yard = Yard::new(Place::Folder).unwrap();
        yard.run(&["init", "--allow-ephemeral"]);
        yard.run(&["start"]);
        yard.sql("shop", &orders(20_000));
        let wanted = yard.sql("shop", ALL_ORDERS);
        yard.run(&["stop"]);
        let folder = Scratch::new();
        must(Command::new("cp").arg("-a").arg(&yard.data).arg(folder.path().join("old")));
        Self { folder, wanted }
    }

    /// Copies it into a folder, which is then the cluster's user's.
    pub(crate) fn copy_to(&self, folder: &Path) -> Source {
        must(Command::new("mkdir").arg(folder));
        must(Command::new("cp").arg("-a").arg(self.folder.path().join("old")).arg(folder));
        judge::give(folder);
        let path = folder.join("old");
        Source { sums: sums(&path), path }
    }
}

/// A cluster that is to be moved.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    sums: String,
}

impl Source {
    /// All its files are there, byte for byte. That its control file was set aside, which keeps a server from starting there,
    /// is the one thing that a migration does to it.
    pub(crate) fn judge_intact(&self) {
        assert_eq!(sums(&self.path), self.sums, "the source was changed");
    }
}

fn sums(tree: &Path) -> String {
    let script = "cd \"$1\" && find . -name .pgpersist -prune -o -type f -print0 | xargs -0 sha256sum | sed 's,global/pg_control.migrated$,global/pg_control,' | LC_ALL=C sort -k 2";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(tree))
}

#[derive(Debug, Default)]
struct Migrate {
    original: Option<Original>,
    source: Option<Source>,
    yard: Option<Yard>,
    from: String,
}

impl Story for Migrate {
    fn name(&self) -> &'static str {
        "migrate"
    }

    fn variants(&self) -> &'static [&'static str] {
        &[
            "a stopped source into a folder",
            "a stopped source into a mount point",
            "a running source into a folder",
            "a running source into a mount point",
        ]
    }

    fn prepare(&mut self, variant: usize) -> bool {
        let original = self.original.get_or_insert_with(Original::new);
        self.yard = None;
        let place = [Place::Folder, Place::IsVolume(FileSystem::Ext4)][variant % 2];
        let Some(mut yard) = Yard::new(place) else { return false };
        let source = original.copy_to(&yard.scratch.path().join("source"));
        self.from = source.path.to_str().unwrap().to_owned();
        if variant >= 2 {
            must(
                Command::new("sed")
                    .args(["-i", &format!("s,^unix_socket_directories.*,unix_socket_directories = '{}',", yard.sockets().display())])
                    .arg(source.path.join("pgpersist.conf")),
            );
            yard.run(&["start", "-D", &self.from]);
            yard.serves = true;
        }
        self.source = Some(source);
        self.yard = Some(yard);
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["migrate", "--from", &self.from, "--yes"]
    }

    fn judge(&mut self) {
        let (yard, source, original) = (self.yard.as_ref().unwrap(), self.source.as_ref().unwrap(), self.original.as_ref().unwrap());
        self.judge_source();
        yard.judge_what_stands("shop", ALL_ORDERS, &original.wanted);
        yard.age_leftovers();
        let report = yard.run(&["migrate", "--from", &self.from, "--yes", "--json"]).json();
        assert_eq!(report["to"], yard.data.to_str().unwrap());
        if yard.serves {
            assert!(!source.path.join("postmaster.pid").exists(), "the source still serves after the switch");
        }
        self.judge_source();
        judge_moved(yard, original);
        assert_eq!(yard.run(&["migrate", "--from", &self.from, "--yes", "--json"]).json()["changed"], false);
        self.yard = None;
    }
}

impl Migrate {
    /// The source holds all that it held: a stopped one byte for byte; one that served answers, or its files, started in
    /// another place, do.
    fn judge_source(&self) {
        let (yard, source, original) = (self.yard.as_ref().unwrap(), self.source.as_ref().unwrap(), self.original.as_ref().unwrap());
        if !yard.serves {
            return source.judge_intact();
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        // A server that was told to stop is between the two for a moment.
        while source.path.join("postmaster.pid").exists() {
            let answer = yard.psql("shop").args(["-c", ALL_ORDERS]).output().unwrap();
            if answer.status.success() {
                assert_eq!(String::from_utf8_lossy(&answer.stdout).trim_end(), original.wanted, "the running source was changed");
                return;
            }
            assert!(Instant::now() < deadline, "the source neither serves nor ends: {}", String::from_utf8_lossy(&answer.stderr));
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(yard.ask_a_copy(&source.path, "shop", ALL_ORDERS), original.wanted, "the source that served was changed");
    }
}

/// The target serves what the source held.
pub(crate) fn judge_moved(yard: &Yard, original: &Original) {
    yard.judge_cluster_that_answers(ALL_ORDERS, &original.wanted);
}

#[test]
fn a_killed_migration_leaves_its_source_intact_and_the_next_one_ends_well() {
    kill_at_random(&mut Migrate::default());
}

#[test]
fn a_migration_killed_at_any_durable_call_is_finished_by_the_next() {
    sweep(&mut Migrate::default(), Runner::ClusterUser, Aim::Caller, 0);
    sweep(&mut Migrate::default(), Runner::ClusterUser, Aim::Caller, 1);
}

#[test]
fn a_migration_of_a_running_cluster_killed_at_any_durable_call_is_finished_by_the_next() {
    sweep(&mut Migrate::default(), Runner::ClusterUser, Aim::Caller, 2);
    sweep(&mut Migrate::default(), Runner::ClusterUser, Aim::Caller, 3);
}
