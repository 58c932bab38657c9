//! `backup`: whatever was killed, what is listed is whole and restores, nothing is kept waiting on the server, and the next backup works.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::kill::dump::orders;
use crate::kill::harness::{Story, kill_at_random};
use crate::kill::restored;
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};
use crate::support::moments::{Moments, rounds};
use crate::support::processes;
use crate::support::proof::proven;

/// A server at work, of which backups are made.
#[derive(Debug, Default)]
struct Backup {
    yard: Option<Yard>,
    /// Who works in it; it ends with the server.
    worker: Option<Child>,
    /// The backups that were found to restore.
    known: BTreeSet<String>,
    /// What was committed before the victim began.
    committed: u64,
}

const ROWS: u32 = 60_000;

/// Commits transactions one after another, each of which counts itself and moves something from one order to another.
const WORK: &str = "CREATE TABLE ledger (n int PRIMARY KEY);
    CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
    BEGIN
        FOR i IN (SELECT coalesce(max(n), 0) + 1 FROM ledger)..2000000000 LOOP
            INSERT INTO ledger VALUES (i);
            UPDATE orders SET customer = customer - 1 WHERE number = 1 + i % 20000;
            UPDATE orders SET customer = customer + 1 WHERE number = 1 + (i + 777) % 20000;
            COMMIT;
            PERFORM pg_sleep(0.002);
        END LOOP;
    END $$";

const LAST: &str = "SELECT coalesce(max(n), 0) FROM ledger";
const LEDGER: &str = "SELECT count(*) FROM ledger";
const BALANCE: &str = "SELECT count(*) || ' ' || sum(customer) FROM orders";
const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";

impl Backup {
    fn begin() -> Yard {
        let mut yard = Yard::new(Place::Folder).unwrap();
        yard.run(&["init", "--allow-ephemeral"]);
        yard.serve();
        yard.sql("shop", &orders(ROWS));
        yard.sql("shop", WORK);
        yard
    }

    /// The worker ends with the server, and goes on with the next one.
    fn work(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            let _ = worker.wait();
        }
        let mut psql = self.yard().psql("shop");
        psql.args(["-c", "CALL work()"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.worker = Some(psql.spawn().unwrap());
    }

    fn committed(&self) -> u64 {
        self.yard().sql("shop", LAST).parse().unwrap()
    }

    fn listed(&self) -> BTreeSet<String> {
        let listed = self.yard().run(&["list", "--json"]).json();
        listed["backups"].as_array().unwrap().iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A slot goes with its session, and the server sees that when it has an answer for it.
    fn wait_for_slots(&self) {
        let began = Instant::now();
        while self.yard().sql("postgres", SLOTS) != "0" {
            assert!(began.elapsed() < Duration::from_secs(60), "the slot of a killed backup keeps the server's log");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The transactions up to some moment, none of them missing, all of them whole.
    fn judge_restored(&self, backup: &str, committed: u64) {
        let answers = restored::answers(self.yard(), backup, &[LAST, LEDGER, BALANCE]);
        let (last, all): (u64, u64) = (answers[0].parse().unwrap(), answers[1].parse().unwrap());
        assert!(last >= committed, "{backup}: {committed} was committed before it began, and it ends with {last}");
        assert_eq!(last, all, "{backup}: a transaction is missing");
        assert_eq!(answers[2], self.yard().sql("shop", BALANCE), "{backup}: a transaction is torn");
    }
}

impl Story for Backup {
    fn name(&self) -> &'static str {
        "backup"
    }

    fn prepare(&mut self, _variant: usize) -> bool {
        if self.yard.is_none() {
            self.yard = Some(Self::begin());
            self.work();
        }
        self.committed = self.committed();
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["backup"]
    }

    fn judge(&mut self) {
        self.wait_for_slots();
        self.yard().run(&["verify"]);
        let listed = self.listed();
        assert!(self.known.is_subset(&listed), "of {:?} only {listed:?} are there", self.known);
        // What was published before the kill is a backup like any other.
        for backup in listed.difference(&self.known) {
            self.judge_restored(backup, self.committed);
        }
        let committed = self.committed();
        let report = self.yard().run(&["backup", "--json"]).json();
        let backup = report["name"].as_str().unwrap();
        self.judge_restored(backup, committed);
        self.wait_for_slots();
        self.yard().run(&["verify"]);
        self.yard().judge_untouched();
        self.known = self.listed();
        assert!(self.known.contains(backup) && self.known.is_superset(&listed), "{backup} and {listed:?}: {:?}", self.known);
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        // The server first: what it had to do for the worker ends with it.
        self.yard = None;
        if let Some(mut worker) = self.worker.take() {
            let _ = worker.wait();
        }
    }
}

#[test]
fn a_killed_backup_publishes_nothing_that_does_not_restore_and_the_next_works() {
    kill_at_random(&mut Backup::default());
}

#[test]
fn a_backup_killed_at_any_durable_call_publishes_nothing_that_does_not_restore() {
    sweep(&mut Backup::default(), Runner::ClusterUser, Aim::Caller, 0);
}

/// How many rounds an everyday run of the tests has in which the server is killed.
const SERVERS: usize = 2;

#[test]
fn a_killed_server_makes_the_backup_void_or_finds_it_published() {
    let mut backup = Backup::default();
    assert!(backup.prepare(0));
    let began = Instant::now();
    backup.judge();
    let undisturbed = Instant::now();
    backup.yard().run(&["backup", "--full-read"]);
    let length = undisturbed.elapsed();
    // It is older than what is committed before the first round.
    backup.known = backup.listed();
    let mut moments = Moments::new("server under backup");
    let (rounds, mut void) = (rounds(SERVERS), 0);
    for round in 0..rounds {
        assert!(backup.prepare(0));
        let moment = moments.within(length);
        println!("server under backup: round {round}: after {} of {} ms", moment.as_millis(), length.as_millis());
        let mut victim = backup.yard().victim(&["backup", "--full-read"]).spawn().unwrap();
        std::thread::sleep(moment);
        processes::kill_server(&backup.yard().data);
        let status = victim.wait().unwrap();
        assert!(matches!(status.code(), Some(0 | 6)), "{status}\n{}", backup.yard().describe());
        void += usize::from(status.code() == Some(6));
        backup.yard().run(&["start"]);
        backup.work();
        backup.judge();
    }
    proven("kill server under backup", format!("{rounds} kills, {void} backups void"), Some(moments.seed()), began);
}
