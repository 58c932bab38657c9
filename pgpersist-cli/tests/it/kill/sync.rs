//! `sync`: whatever was killed, what stands in the copy is whole, and the next run completes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::volume::must;

/// A store with some dumps, and an empty copy.
#[derive(Debug, Default)]
struct Sync {
    yard: Option<Yard>,
    copy: PathBuf,
    store: String,
    copy_text: String,
}

const DUMPS: usize = 4;

impl Sync {
    fn script(&self, script: &str) -> String {
        must(Command::new("sh").args(["-c", script, "sh"]).arg(self.yard().store()).arg(&self.copy))
    }

    /// What has a dump's name in the copy is, byte for byte, what has it in the store; a side file stands beside its dump alone.
    fn judge_what_stands(&self) {
        if !self.copy.exists() {
            return;
        }
        let wrong = self.script(
            "cd \"$2\" && find . -name '*.sql.gz*' ! -name '.*' | while read -r name; do cmp -s \"$name\" \"$1/$name\" || echo \"$name\"; done
             find . -name 'backup_*.json' | while read -r name; do [ -e \"${name%.json}\" ] || echo \"$name alone\"; done
             find . -name 'backup_*.gz' | while read -r name; do [ -e .pgpersist/main/cluster.json ] || echo \"$name before the card\"; done",
        );
        assert_eq!(wrong, "", "the copy holds something else");
        if !self.script("find \"$2\" -name 'backup_*.gz'").is_empty() {
            self.yard().run(&["verify", "--store", &self.copy_text]);
        }
    }
}

impl Story for Sync {
    fn name(&self) -> &'static str {
        "sync"
    }

    fn prepare(&mut self, _variant: usize) -> bool {
        if self.yard.is_none() {
            let yard = Yard::new(Place::Folder).unwrap();
            yard.run(&["init", "--allow-ephemeral"]);
            yard.run(&["start"]);
            yard.sql("shop", &super::dump::orders(20_000));
            for _ in 0..DUMPS {
                yard.run(&["dump"]);
            }
            yard.run(&["stop"]);
            self.copy = yard.store().parent().unwrap().join("offsite");
            (self.store, self.copy_text) = (text(&yard.store()), text(&self.copy));
            self.yard = Some(yard);
        }
        self.script("rm -rf \"$2\"");
        // What a cluster remembers of a copy must not stand in the way of the next one.
        must(Command::new("find").arg(self.yard().scratch.path()).args(["-name", "stores.json", "-delete"]));
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["sync", "--store", &self.store, "--store", &self.copy_text]
    }

    fn judge(&mut self) {
        self.judge_what_stands();
        if self.copy.exists() {
            self.script("find \"$2\" -name '*.pgpersist-tmp' -exec touch -d '2 minutes ago' {} +");
        }
        let report = self.yard().run(&[&self.arguments()[..], &["--json"]].concat()).json();
        assert_eq!(report["stores"][0]["behind"], 0, "{report}");
        self.judge_what_stands();
        let differs = self.script("diff -r --exclude=leases \"$1\" \"$2\" | grep -v '^Only in .*: place.json$' || true");
        assert_eq!(differs, "", "the copy is not complete");
        let left = judge::names_ending(&self.copy, ".pgpersist-tmp");
        assert!(left.is_empty(), "left behind: {left:?}");
        self.yard().judge_untouched();
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_killed_sync_leaves_a_copy_that_can_be_restored_from_and_the_next_one_completes_it() {
    kill_at_random(&mut Sync::default());
}

#[test]
fn a_sync_killed_at_any_durable_call_leaves_a_copy_that_can_be_restored_from() {
    sweep(&mut Sync::default(), Runner::ClusterUser, Aim::Caller, 0);
}
