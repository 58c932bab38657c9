//! `init`: after a kill at any moment the next one makes a cluster that starts, and nobody else's files are touched.

use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep, sweep_children};
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::volume::FileSystem;

#[derive(Debug, Default)]
struct Init {
    yard: Option<Yard>,
}

impl Story for Init {
    fn name(&self) -> &'static str {
        "init"
    }

    fn variants(&self) -> &'static [&'static str] {
        &["into a folder", "into a mount point"]
    }

    fn prepare(&mut self, variant: usize) -> bool {
        // The old one goes before the new one comes.
        self.yard = None;
        self.yard = Yard::new([Place::Folder, Place::IsVolume(FileSystem::Ext4)][variant]);
        self.yard.is_some()
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["init", "--allow-ephemeral"]
    }

    fn judge(&mut self) {
        let yard = self.yard();
        // A database `shop` is made after the cluster has its name.
        yard.judge_what_stands("postgres", "SELECT 'it serves'", "it serves");
        yard.age_leftovers();
        let report = yard.run(&["init", "--allow-ephemeral", "--json"]).json();
        assert!(matches!(report["action"].as_str(), Some("created" | "adopted")), "{report}");
        assert_eq!(report["system_identifier"], judge::controldata(&yard.data, "Database system identifier"));
        yard.judge_cluster();
        assert_eq!(yard.run(&["init", "--allow-ephemeral", "--json"]).json()["action"], "adopted");
        self.yard = None;
    }
}

#[test]
fn a_killed_init_is_finished_or_undone_by_the_next() {
    kill_at_random(&mut Init::default());
}

#[test]
fn an_init_killed_at_any_durable_call_is_finished_or_undone_by_the_next() {
    sweep(&mut Init::default(), Runner::ClusterUser, Aim::Caller, 0);
    sweep(&mut Init::default(), Runner::ClusterUser, Aim::Caller, 1);
}

#[test]
fn what_root_prepares_for_an_init_can_be_interrupted_at_any_durable_call() {
    // Of a folder whose parent is the user's own, root prepares nothing: a fresh volume and a store are another matter.
    sweep(&mut Init::default(), Runner::Root, Aim::Caller, 1);
}

#[test]
fn an_init_whose_programs_are_killed_at_a_durable_call_leaves_nothing_that_the_next_minds() {
    sweep_children(&mut Init::default(), 0);
}
