//! `start`: after a kill at any moment the next one starts the server by itself, and what was committed is there.

use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep, sweep_children};
use crate::kill::yard::{Place, Yard};
use crate::support::processes;

/// One cluster, started and stopped again and again.
#[derive(Debug, Default)]
struct Start {
    yard: Option<Yard>,
    committed: usize,
}

impl Story for Start {
    fn name(&self) -> &'static str {
        "start"
    }

    fn prepare(&mut self, _variant: usize) -> bool {
        if self.yard.is_none() {
            let yard = Yard::new(Place::Folder).unwrap();
            yard.run(&["init", "--allow-ephemeral"]);
            yard.run(&["start"]);
            yard.sql("shop", "CREATE TABLE orders (number int PRIMARY KEY)");
            yard.run(&["stop"]);
            self.yard = Some(yard);
        }
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["start"]
    }

    /// A server that starts on a cleanly stopped cluster makes few durable calls: it is met while it takes hold of its memory
    /// and socket, and while its processes tell each other how far they are, as well.
    fn steps_of_programs(&self) -> &'static [&'static str] {
        &["fsync", "fdatasync", "rename", "unlink", "ftruncate", "pwrite64", "shmget", "shmat", "listen", "kill"]
    }

    fn wait_for_orphans(&self) {
        // The server, if it came to life, is to stay. What is to end are programs that were asked about versions, and they
        // take no longer than this.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }

    fn judge(&mut self) {
        let yard = self.yard();
        yard.age_leftovers();
        // Without `--yes`: a machine that boots has nobody who could say it.
        let report = yard.run(&["start", "--json"]).json();
        assert_eq!(report["state"], "running");
        let again = yard.run(&["start", "--json"]).json();
        assert_eq!((&again["changed"], &again["pid"]), (&false.into(), &report["pid"]), "two servers");
        assert_eq!(yard.sql("shop", "SELECT count(*) FROM orders"), self.committed.to_string());
        yard.sql("shop", "INSERT INTO orders SELECT count(*) FROM orders");
        // Half of the servers end by a kill, so that the next victim meets a cluster that must recover.
        if self.committed.is_multiple_of(2) {
            yard.run(&["stop"]);
            yard.judge_no_leftovers();
        } else {
            processes::kill_all(&yard.data);
        }
        yard.judge_untouched();
        self.committed += 1;
    }
}

#[test]
fn a_killed_start_is_repeated_without_help_and_loses_nothing() {
    kill_at_random(&mut Start::default());
}

#[test]
fn a_start_killed_at_any_durable_call_is_repeated_without_help() {
    sweep(&mut Start::default(), Runner::ClusterUser, Aim::Caller, 0);
    sweep(&mut Start::default(), Runner::ClusterUser, Aim::Family, 0);
}

#[test]
fn a_server_killed_at_a_durable_call_of_its_own_is_started_again_without_help() {
    sweep_children(&mut Start::default(), 0);
}
