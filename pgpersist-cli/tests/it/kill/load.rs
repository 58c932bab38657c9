//! `load`: the target is as it was or complete, and the next load removes what a killed one left.

use std::time::{Duration, Instant};

use crate::kill::dump::{ALL_ORDERS, orders};
use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};

/// A server with a dump to load, into a name that is free or taken in turns.
#[derive(Debug, Default)]
struct Load {
    yard: Option<Yard>,
    /// What the loaded database must hold.
    wanted: String,
    taken: bool,
}

impl Load {
    fn databases(&self, pattern: &str) -> Vec<String> {
        let sql = format!("SELECT datname FROM pg_database WHERE datname ~ '{pattern}' ORDER BY 1");
        self.yard().sql("postgres", &sql).lines().map(str::to_owned).collect()
    }

    /// What nobody may have touched: one table with one row.
    fn has_mark(&self, database: &str) -> bool {
        self.yard().sql(database, "SELECT count(*) FROM pg_class WHERE relname = 'mark'") == "1"
            && self.yard().sql(database, "SELECT word FROM mark") == "precious"
    }

    fn is_complete(&self, database: &str) -> bool {
        self.yard().sql(database, "SELECT count(*) FROM pg_class WHERE relname = 'orders'") == "1"
            && self.yard().sql(database, ALL_ORDERS) == self.wanted
    }

    fn leftovers(&self) -> Vec<String> {
        let mut left = self.databases("_load_");
        left.extend(self.yard().sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname ~ '_load_'").lines().map(str::to_owned));
        left
    }
}

impl Story for Load {
    fn name(&self) -> &'static str {
        "load"
    }

    fn variants(&self) -> &'static [&'static str] {
        &["into a free name", "over a database"]
    }

    fn prepare(&mut self, variant: usize) -> bool {
        if self.yard.is_none() {
            let mut yard = Yard::new(Place::Folder).unwrap();
            yard.run(&["init", "--allow-ephemeral"]);
            yard.let_passwords_in();
            yard.serve();
            yard.sql("shop", &orders(60_000));
            self.wanted = yard.sql("shop", ALL_ORDERS);
            yard.run(&["dump"]);
            self.yard = Some(yard);
        }
        for old in self.databases("^copy") {
            self.yard().sql("postgres", &format!("DROP DATABASE \"{old}\" WITH (FORCE)"));
        }
        self.taken = variant == 1;
        if self.taken {
            self.yard().sql("postgres", "CREATE DATABASE copy");
            self.yard().sql("copy", "CREATE TABLE mark AS SELECT 'precious' AS word");
        }
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["load", "latest", "-d", "copy", "--clean", "--yes"]
    }

    /// What it does to a disk is done by the server: what it says to the server is what counts.
    fn steps(&self) -> Option<&'static str> {
        Some("sendto,sendmsg,writev")
    }

    fn judge(&mut self) {
        // What it had said to the server before it was killed, the server does: a database is renamed under our eyes.
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^pgpersist'";
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.yard().sql("postgres", busy) != "0" {
            assert!(Instant::now() < deadline, "the sessions of a killed load do not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.databases("^copy$").is_empty() {
            assert!(!self.taken, "the target is gone; there are {:?}", self.databases("."));
        } else {
            assert!(self.is_complete("copy") || (self.taken && self.has_mark("copy")), "the target is half-made");
        }
        self.yard().run(&["load", "latest", "-d", "copy", "--clean", "--yes"]);
        assert!(self.is_complete("copy"));
        // What the first one's psql still held when the next load came, the one after that removes.
        self.yard().wait_for_orphans();
        if !self.leftovers().is_empty() {
            self.yard().run(&["load", "latest", "-d", "copy", "--clean", "--yes"]);
        }
        assert_eq!(self.leftovers(), Vec::<String>::new(), "left behind");
        if self.taken {
            let kept = self.databases("^copy_before_");
            assert_eq!(kept.iter().filter(|database| self.has_mark(database)).count(), 1, "the old database is not among {kept:?}");
        }
        self.yard().judge_untouched();
    }
}

#[test]
fn a_killed_load_leaves_the_target_as_it_was_or_complete() {
    kill_at_random(&mut Load::default());
}

#[test]
fn a_load_killed_at_any_message_to_the_server_leaves_the_target_as_it_was_or_complete() {
    sweep(&mut Load::default(), Runner::ClusterUser, Aim::Caller, 0);
    sweep(&mut Load::default(), Runner::ClusterUser, Aim::Caller, 1);
}
