//! `dump`: what stands under a dump's name is whole, whatever was killed, and the next dump works.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep, sweep_children};
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::volume::must;

/// A server with something to dump.
#[derive(Debug, Default)]
struct Dump {
    yard: Option<Yard>,
    judge: DumpJudge,
}

/// As it dumps for a fraction of a second, a kill finds it at every stage.
const ROWS: u32 = 200_000;

impl Story for Dump {
    fn name(&self) -> &'static str {
        "dump"
    }

    fn prepare(&mut self, _variant: usize) -> bool {
        if self.yard.is_none() {
            let mut yard = Yard::new(Place::Folder).unwrap();
            yard.run(&["init", "--allow-ephemeral"]);
            yard.serve();
            yard.sql("shop", &orders(ROWS));
            self.yard = Some(yard);
        }
        // A cluster writes down once which store took its dumps: each of these dumps is to do that.
        must(Command::new("find").arg(self.yard().scratch.path()).args(["-name", "stores.json", "-delete"]));
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["dump"]
    }

    /// pg_dump makes no durable calls; it writes.
    fn steps_of_programs(&self) -> &'static [&'static str] {
        &["write"]
    }

    fn judge(&mut self) {
        self.judge.judge(self.yard.as_ref().unwrap());
        let yard = self.yard.as_ref().unwrap();
        yard.age_leftovers();
        let report = yard.run(&["dump", "--json"]).json();
        let dump = yard.store().join(report["name"].as_str().unwrap());
        let sum = must(Command::new("sha256sum").arg(&dump));
        assert_eq!(sum.split_whitespace().next(), report["sha256"].as_str());
        let rows = must(Command::new("sh").args(["-c", "gunzip -c \"$1\" | grep -cE '^[0-9]+.[0-9a-f]{32}.'", "sh"]).arg(&dump));
        assert_eq!(rows.trim(), ROWS.to_string(), "{} holds something else", dump.display());
        yard.run(&["verify"]);
        yard.judge_no_leftovers();
        yard.judge_untouched();
        self.judge.judge(self.yard.as_ref().unwrap());
        // Room for the next: a hundred dumps prove no more than two.
        let yard = self.yard.as_ref().unwrap();
        yard.run(&["prune", "--keep-last", "2", "--yes"]);
        self.judge.known.retain(|(dump, _)| dump.exists());
    }
}

/// Reads all that has a dump's name: gzip must call it whole, pg_dump's last words must be there, and where a side file tells
/// its SHA-256, `sha256sum` must agree.
#[derive(Debug, Default)]
pub(crate) struct DumpJudge {
    /// What was found whole once, with or without a side file; it is not read again.
    known: BTreeSet<(PathBuf, bool)>,
}

impl DumpJudge {
    pub(crate) fn judge(&mut self, yard: &Yard) {
        for dump in yard.dumps() {
            self.read(dump, "-- PostgreSQL database dump complete");
        }
        for globals in judge::names_ending(&yard.store(), ".sql.gz").into_iter().filter(|name| name.contains("/globals_")) {
            self.read(globals.into(), "-- PostgreSQL database cluster dump complete");
        }
    }

    fn read(&mut self, dump: PathBuf, last_words: &str) {
        let side_file = PathBuf::from(format!("{}.json", dump.display()));
        let is_known = (dump.clone(), side_file.exists());
        if self.known.contains(&is_known) {
            return;
        }
        must(Command::new("gunzip").arg("-t").arg(&dump));
        let end = must(Command::new("sh").args(["-c", "gunzip -c \"$1\" | tail -c 300", "sh"]).arg(&dump));
        assert!(end.contains(last_words), "{} does not end as a dump does: …{end}", dump.display());
        if is_known.1 {
            let said: serde_json::Value = serde_json::from_str(&must(Command::new("cat").arg(&side_file))).unwrap();
            let sum = must(Command::new("sha256sum").arg(&dump));
            let sum = sum.split_whitespace().next();
            assert!(sum.is_some() && sum == said["sha256"].as_str(), "{} is not what its side file says: {said}", dump.display());
        }
        self.known.insert(is_known);
    }
}

/// A table of so many rows.
pub(crate) fn orders(rows: u32) -> String {
    format!(
        "CREATE TABLE orders AS SELECT n AS number, md5(n::text) AS reference, n % 97 AS customer FROM generate_series(1, {rows}) n;
         ALTER TABLE orders ADD PRIMARY KEY (number)"
    )
}

/// Asks for everything in that table, as one line.
pub(crate) const ALL_ORDERS: &str = "SELECT count(*) || ' ' || md5(string_agg(orders::text, ',' ORDER BY number)) FROM orders";

#[test]
fn a_killed_dump_leaves_no_half_file_and_the_next_works() {
    let mut dump = Dump::default();
    kill_at_random(&mut dump);
    judge_restorable(dump.yard());
}

#[test]
fn a_dump_killed_at_any_durable_call_leaves_no_half_file() {
    sweep(&mut Dump::default(), Runner::ClusterUser, Aim::Caller, 0);
}

#[test]
fn a_dump_whose_programs_are_killed_leaves_no_half_file() {
    sweep_children(&mut Dump::default(), 0);
}

/// The newest dump restores without us: `gunzip | psql` into an empty database gives what the source holds.
fn judge_restorable(yard: &Yard) {
    let newest = yard.dumps().pop().unwrap();
    yard.sql("postgres", "CREATE DATABASE again");
    let mut gunzip = Command::new("gunzip").arg("-c").arg(newest).stdout(Stdio::piped()).spawn().unwrap();
    must(yard.psql("again").stdin(gunzip.stdout.take().unwrap()));
    assert!(gunzip.wait().unwrap().success());
    assert_eq!(yard.sql("again", ALL_ORDERS), yard.sql("shop", ALL_ORDERS));
}
