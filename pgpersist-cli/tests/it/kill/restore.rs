//! `restore`: after a kill at any moment the next one ends well in the same place, and what stood beside it is as it was.

use std::path::Path;

use crate::kill::dump::{ALL_ORDERS, orders};
use crate::kill::harness::{Story, kill_at_random};
use crate::kill::restored;
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::volume::FileSystem;

/// The server's port in a yard.
const PORT: u16 = 5432;

/// A store with backups of a cluster that is gone.
#[derive(Debug)]
struct Original {
    yard: Yard,
    store: String,
    wanted: String,
    sums: String,
}

impl Original {
    fn new() -> Self {
        let mut yard = Yard::new(Place::Folder).unwrap();
        yard.run(&["init", "--allow-ephemeral"]);
        yard.serve();
        yard.sql("shop", &orders(60_000));
        yard.run(&["backup"]);
        yard.sql("shop", "UPDATE orders SET customer = customer + 1 WHERE number % 100 = 0");
        yard.run(&["backup"]);
        let wanted = yard.sql("shop", ALL_ORDERS);
        yard.run(&["stop"]);
        yard.serves = false;
        let store = yard.store().to_str().unwrap().to_owned();
        Self { sums: sums(&store), yard, store, wanted }
    }
}

/// What the backups consist of. Who reads them may note that beside.
fn sums(store: &str) -> String {
    let repository = Path::new(store).join(".pgpersist/main/repository");
    ["packs", "backups"].map(|folder| judge::fingerprint(&repository.join(folder))).concat()
}

#[derive(Debug, Default)]
struct Restore {
    original: Option<Original>,
    yard: Option<Yard>,
    store: String,
}

impl Story for Restore {
    fn name(&self) -> &'static str {
        "restore"
    }

    fn variants(&self) -> &'static [&'static str] {
        &["into a folder", "into a mount point"]
    }

    fn prepare(&mut self, variant: usize) -> bool {
        self.store.clone_from(&self.original.get_or_insert_with(Original::new).store);
        // The old one goes before the new one comes.
        self.yard = None;
        self.yard = Yard::new([Place::Folder, Place::IsVolume(FileSystem::Ext4)][variant]);
        self.yard.is_some()
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["restore", "latest", "--store", &self.store]
    }

    /// Without those that give each of a thousand files its length, all of which lie in a folder that has no name yet.
    fn steps(&self) -> Option<&'static str> {
        Some("fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir")
    }

    fn judge(&mut self) {
        let (yard, original) = (self.yard(), self.original.as_ref().unwrap());
        yard.judge_what_stands("shop", ALL_ORDERS, &original.wanted);
        yard.age_leftovers();
        let control = yard.data.join("global/pg_control");
        let volume = yard.data.parent().unwrap();
        let begun = control.exists() || !judge::names_ending(volume, "half-made.json").is_empty();
        let run = yard.scratch.run(&self.arguments(), &[]);
        match run.code {
            Some(0) => {}
            // What was published, or is by the next who comes, is a cluster, which nothing is restored over.
            Some(5) => assert!(begun, "{run:?}\n{}", yard.describe()),
            _ => panic!("the next restore did not end well: {run:?}\n{}", yard.describe()),
        }
        assert!(control.exists(), "{run:?}\n{}", yard.describe());
        yard.run(&["start"]);
        restored::recovered(|| yard.psql("postgres"));
        assert_eq!(yard.sql("shop", ALL_ORDERS), original.wanted);
        restored::indexes_agree(&yard.sockets(), PORT);
        yard.run(&["stop"]);
        yard.judge_cluster();
        assert_eq!(sums(&self.store), original.sums, "the backups were touched");
        original.yard.judge_untouched();
        self.yard = None;
    }
}

#[test]
fn a_killed_restore_is_repeated_into_the_same_place_and_nothing_beside_it_is_touched() {
    kill_at_random(&mut Restore::default());
}

#[test]
fn a_restore_killed_at_any_durable_call_is_repeated_into_the_same_place() {
    sweep(&mut Restore::default(), Runner::ClusterUser, Aim::Caller, 0);
}
