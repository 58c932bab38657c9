//! `prune`: whatever was killed, the dumps to be kept are all there, byte for byte, and the next pruning finishes.

use std::path::PathBuf;
use std::process::Command;

use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::volume::must;

/// A store with one dump a day.
#[derive(Debug, Default)]
struct Prune {
    yard: Option<Yard>,
    /// One real dump with its side file; all in the store are copies of it.
    original: PathBuf,
    kept: String,
}

const DAYS: u32 = 24;
const KEPT: u32 = 7;

impl Prune {
    fn count(&self, pattern: &str) -> u32 {
        let found = must(Command::new("find").arg(self.yard().store()).args(["-maxdepth", "1", "-name", pattern]));
        u32::try_from(found.lines().count()).unwrap()
    }

    /// The sums of the newest dumps and side files.
    fn sums(&self) -> String {
        let script =
            "cd \"$1\" && ls backup_*.gz | LC_ALL=C sort | tail -n $2 | while read -r name; do sha256sum \"$name\" \"$name.json\"; done";
        must(Command::new("sh").args(["-c", script, "sh"]).arg(self.yard().store()).arg(KEPT.to_string()))
    }
}

impl Story for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn prepare(&mut self, _variant: usize) -> bool {
        if self.yard.is_none() {
            let yard = Yard::new(Place::Folder).unwrap();
            yard.run(&["init", "--allow-ephemeral"]);
            yard.run(&["start"]);
            yard.sql("shop", &super::dump::orders(1_000));
            yard.run(&["dump"]);
            yard.run(&["stop"]);
            self.original = yard.scratch.path().join("original");
            must(Command::new("mv").arg(yard.store()).arg(&self.original));
            self.yard = Some(yard);
        }
        let script = "rm -rf \"$2\" && cp -a \"$1\" \"$2\" && cd \"$2\" && old=$(ls backup_*.sql.gz) && for ago in $(seq 0 $(($3 - 1))); do
            name=backup_$(date -u -d \"-$ago days -1 hour\" +%Y%m%d_%H%M%S).sql.gz
            cp \"$old\" \"$name\" && sed \"s/$old/$name/g\" \"$old.json\" >\"$name.json\"
        done && rm \"$old\" \"$old.json\"";
        must(Command::new("sh").args(["-c", script, "sh"]).arg(&self.original).arg(self.yard().store()).arg(DAYS.to_string()));
        judge::give(&self.yard().store());
        assert_eq!(self.count("backup_*.sql.gz"), DAYS);
        self.kept = self.sums();
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["prune", "--keep-days", "7", "--yes"]
    }

    fn judge(&mut self) {
        assert_eq!(self.sums(), self.kept, "a dump to be kept was touched");
        self.yard().age_leftovers();
        let report = self.yard().run(&["prune", "--keep-days", "7", "--yes", "--json"]).json();
        assert_eq!(
            report["kept"].as_array().unwrap().iter().filter(|kept| kept["name"].as_str().unwrap().starts_with("backup_")).count(),
            KEPT as usize
        );
        assert_eq!(self.sums(), self.kept, "a dump to be kept was touched");
        assert_eq!(self.count("backup_*.sql.gz"), KEPT, "what was to go is still there");
        self.yard().run(&["verify"]);
        self.yard().judge_no_leftovers();
        self.yard().judge_untouched();
    }
}

#[test]
fn a_killed_prune_spares_what_is_to_be_kept_and_the_next_one_finishes() {
    kill_at_random(&mut Prune::default());
}

#[test]
fn a_prune_killed_at_any_durable_call_spares_what_is_to_be_kept() {
    sweep(&mut Prune::default(), Runner::ClusterUser, Aim::Caller, 0);
}
