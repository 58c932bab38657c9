//! `restore --delta`: killed at any moment, no server starts in what it leaves half-made, and the next one goes on and ends well.

use crate::kill::dump::{ALL_ORDERS, orders};
use crate::kill::harness::{Story, kill_at_random};
use crate::kill::restored;
use crate::kill::yard::{Place, Yard};
use crate::support::judge;
use crate::support::volume::FileSystem;

/// The server's port in a yard.
const PORT: u16 = 5432;
/// What goes on after the backup.
const LATER: &str =
    "UPDATE orders SET customer = customer + 1 WHERE number % 3 = 0; CREATE TABLE IF NOT EXISTS later AS SELECT * FROM orders";

#[derive(Debug, Default)]
struct Delta {
    /// One for each variant: the same cluster is changed and restored again and again.
    yards: [Option<Yard>; 2],
    at: usize,
    wanted: [String; 2],
    end: String,
}

impl Story for Delta {
    fn name(&self) -> &'static str {
        "restore --delta"
    }

    fn variants(&self) -> &'static [&'static str] {
        &["in a folder", "in a mount point"]
    }

    fn prepare(&mut self, variant: usize) -> bool {
        self.at = variant;
        if self.yards[variant].is_none() {
            let Some(mut yard) = Yard::new([Place::Folder, Place::IsVolume(FileSystem::Ext4)][variant]) else { return false };
            yard.run(&["init", "--allow-ephemeral"]);
            yard.serve();
            yard.sql("shop", &orders(30_000));
            yard.run(&["backup"]);
            self.wanted[variant] = yard.sql("shop", ALL_ORDERS);
            yard.run(&["stop"]);
            yard.serves = false;
            self.yards[variant] = Some(yard);
        }
        let yard = self.yards[variant].as_ref().unwrap();
        yard.run(&["start"]);
        yard.sql("shop", LATER);
        yard.run(&["stop"]);
        let plan = yard.run(&["restore", "--delta", "--dry-run", "--json"]).json();
        self.end = plan["unshipped_wal"]["end_lsn"].as_str().unwrap().to_owned();
        true
    }

    fn yard(&self) -> &Yard {
        self.yards[self.at].as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        vec!["restore", "latest", "--delta", "--yes", "--discard-unshipped-wal", &self.end]
    }

    fn judge(&mut self) {
        let yard = self.yard();
        yard.wait_for_orphans();
        let control = yard.data.join("global/pg_control");
        if !control.exists() {
            let status = yard.scratch.run(&["status", "--json"], &[]);
            assert_eq!(status.json()["state"], "half_made", "{status:?}\n{}", yard.describe());
            for refused in [&["start"][..], &["init", "--allow-ephemeral"]] {
                let run = yard.scratch.run(refused, &[]);
                assert_eq!(run.code, Some(6), "{run:?}\n{}", yard.describe());
            }
            let by_hand = judge::program("postgres").arg("-D").arg(&yard.data).output().unwrap();
            assert!(!by_hand.status.success(), "a server started by hand in what is half-made");
        }
        yard.age_leftovers();
        yard.run(&self.arguments());
        assert!(control.exists());
        yard.run(&["start"]);
        assert_eq!(yard.sql("shop", ALL_ORDERS), self.wanted[self.at]);
        assert_eq!(yard.sql("shop", "SELECT to_regclass('later') IS NULL AND NOT pg_is_in_recovery()"), "t");
        restored::indexes_agree(&yard.sockets(), PORT);
        yard.run(&["stop"]);
        yard.judge_cluster();
        let timeline: u32 = judge::controldata(&yard.data, "Latest checkpoint's TimeLineID").parse().unwrap();
        assert!(timeline > 1);
    }
}

#[test]
fn a_killed_delta_restore_starts_nowhere_and_is_gone_on_with() {
    kill_at_random(&mut Delta::default());
}
