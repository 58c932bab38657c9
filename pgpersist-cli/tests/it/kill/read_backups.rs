//! What only reads backups, `verify` and `export`: whenever it was killed, the repository is what it was, nothing half-made stands where the
//! export was to be, and what is left of the killed run keeps nothing for long.

use std::path::PathBuf;
use std::process::Command;

use crate::kill::dump::orders;
use crate::kill::harness::{Story, kill_at_random};
use crate::kill::repository;
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::volume::must;

const VERIFY: usize = 0;
const EXPORT: usize = 1;

/// Two backups in a repository, and a place for exports.
#[derive(Debug, Default)]
struct ReadBackups {
    yard: Option<Yard>,
    variant: usize,
    /// The repository as it was.
    before: String,
    /// Where the export is to be, as the command is told.
    export: String,
}

impl ReadBackups {
    fn begin() -> Yard {
        let mut yard = Yard::new(Place::Folder).unwrap();
        yard.run(&["init", "--allow-ephemeral"]);
        yard.serve();
        yard.sql("shop", &orders(60_000));
        yard.run(&["backup"]);
        yard.sql("shop", "UPDATE orders SET customer = customer + 1 WHERE number % 3 = 0");
        yard.run(&["backup"]);
        let place = yard.scratch.path().join("exports");
        must(Command::new("mkdir").arg(&place));
        judge::give(&place);
        yard
    }

    fn place(&self) -> PathBuf {
        self.yard().scratch.path().join("exports")
    }

    /// What stands where exports are made.
    fn exports(&self) -> String {
        must(Command::new("ls").arg("-A").arg(self.place())).trim().to_owned()
    }
}

impl Story for ReadBackups {
    fn name(&self) -> &'static str {
        "readers of backups"
    }

    fn variants(&self) -> &'static [&'static str] {
        &["verify", "export"]
    }

    fn prepare(&mut self, variant: usize) -> bool {
        if self.yard.is_none() {
            self.yard = Some(Self::begin());
            self.before = repository::fingerprint(self.yard());
            self.export = self.place().join("plain").to_str().unwrap().to_owned();
        }
        self.variant = variant;
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        match self.variant {
            VERIFY => vec!["verify"],
            EXPORT => vec!["export", "latest", &self.export],
            other => panic!("no variant {other}"),
        }
    }

    fn judge(&mut self) {
        let (yard, plain) = (self.yard(), PathBuf::from(&self.export));
        assert_eq!(repository::fingerprint(yard), self.before, "who only reads has changed something");
        yard.run(&["verify"]);
        // A name is given to what is whole, and to nothing else.
        if plain.exists() {
            repository::is_accepted(&plain);
            must(Command::new("rm").arg("-r").arg(&plain));
        }
        yard.run(&["export", "latest", &self.export]);
        repository::is_accepted(&plain);
        assert_eq!(self.exports(), "plain");
        must(Command::new("rm").arg("-r").arg(&plain));
        // Of the killed run stands what says that it reads: after a day nobody believes it any more, and after another one it goes.
        for _ in 0..2 {
            repository::a_day_passes(yard);
            yard.run(&["prune", "--keep-last", "2", "--yes"]);
        }
        assert_eq!((repository::count(yard, "runs"), repository::count(yard, "backups")), (0, 2), "{}", yard.describe());
        assert_eq!(repository::fingerprint(yard), self.before);
        yard.judge_untouched();
    }
}

#[test]
fn a_killed_verify_or_export_changes_nothing_and_is_repeated() {
    kill_at_random(&mut ReadBackups::default());
}

#[test]
fn a_verify_killed_at_any_durable_call_changes_nothing_and_is_repeated() {
    sweep(&mut ReadBackups::default(), Runner::ClusterUser, Aim::Caller, VERIFY);
}

#[test]
fn an_export_killed_at_any_durable_call_leaves_nothing_half_made() {
    sweep(&mut ReadBackups::default(), Runner::ClusterUser, Aim::Caller, EXPORT);
}
