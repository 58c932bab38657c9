//! `prune` of backups, and a backup while what was dropped is to go: whatever was killed, what is kept restores, and the next pruning
//! leaves nothing else.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::json;

use crate::kill::dump::{ALL_ORDERS, orders};
use crate::kill::harness::{Story, kill_at_random};
use crate::kill::sweep::{Aim, Runner, sweep};
use crate::kill::yard::{Place, Yard};
use crate::kill::{repository, restored};
use crate::support::volume::must;

/// How many backups stay.
const KEPT: usize = 2;
const PRUNE: [&str; 4] = ["prune", "--keep-last", "2", "--yes"];

/// One repository, in which backups come and go.
#[derive(Debug, Default)]
struct PruneBackups {
    yard: Option<Yard>,
    variant: usize,
    changes: u32,
    /// The backups that stood before the victim began, and that nobody may take away.
    kept: BTreeSet<String>,
}

impl PruneBackups {
    fn begin() -> Yard {
        let mut yard = Yard::new(Place::Folder).unwrap();
        yard.run(&["init", "--allow-ephemeral"]);
        yard.serve();
        yard.sql("shop", &orders(20_000));
        yard
    }

    /// Makes a backup of what no other holds.
    fn back_up(&mut self) {
        self.changes += 1;
        let change = format!("UPDATE orders SET customer = customer + 1 WHERE number % 50 = {}", self.changes % 50);
        self.yard().sql("shop", &change);
        self.yard().run(&["backup"]);
    }

    /// The backups that retention has not dropped, the newest first.
    fn standing(&self) -> Vec<String> {
        let listed = self.yard().run(&["list", "--json"]).json();
        let backups = listed["backups"].as_array().unwrap().iter().filter(|backup| backup["dropped"] != true);
        backups.map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The marks of runs that have no pack.
    fn marks_without_packs(&self) -> String {
        let script = "cd \"$1\" && for mark in dropped/*; do
            [ ! -e \"$mark\" ] || [ -n \"$(find \"packs/$(basename \"$mark\" .dropped)\" -name '*.pack' 2>/dev/null)\" ] || echo \"$mark\"
        done";
        must(Command::new("sh").args(["-c", script, "sh"]).arg(repository::folder(self.yard())))
    }
}

impl Story for PruneBackups {
    fn name(&self) -> &'static str {
        "prune of backups"
    }

    fn variants(&self) -> &'static [&'static str] {
        &["prune", "backup in between"]
    }

    fn prepare(&mut self, variant: usize) -> bool {
        if self.yard.is_none() {
            self.yard = Some(Self::begin());
            for _ in 0..KEPT {
                self.back_up();
            }
        }
        self.variant = variant;
        // What was dropped here is due for the victim, and for the pruning that follows it.
        self.back_up();
        self.yard().run(&PRUNE);
        repository::a_day_passes(self.yard());
        // And this makes another one to be dropped.
        self.back_up();
        self.kept = self.standing().into_iter().take(KEPT).collect();
        assert_eq!(self.kept.len(), KEPT);
        true
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        if self.variant == 0 { PRUNE.to_vec() } else { vec!["backup"] }
    }

    fn judge(&mut self) {
        let yard = self.yard();
        yard.run(&["verify"]);
        let standing = self.standing();
        assert!(self.kept.iter().all(|kept| standing.contains(kept)), "of {:?} only {standing:?} are there", self.kept);
        // Nobody changed anything since the newest of them.
        let wanted = yard.sql("shop", ALL_ORDERS);
        assert_eq!(restored::answers(yard, &standing[0], &[ALL_ORDERS]), [wanted], "{}", standing[0]);

        // The next one drops what the victim had not dropped, and the one after it removes that, with all that a killed run left.
        for _ in 0..2 {
            repository::a_day_passes(self.yard());
            yard.run(&PRUNE);
        }
        assert_eq!(self.standing(), standing[..KEPT]);
        assert_eq!(
            (repository::count(yard, "backups"), repository::count(yard, "tombstones"), repository::count(yard, "runs")),
            (KEPT, 0, 0),
            "{}",
            yard.describe()
        );
        // Nobody's packs are left to go, and the marks of what was dropped stand beside packs that others need.
        let plan = &yard.run(&["prune", "--keep-last", "2", "--dry-run", "--json"]).json()["plan"];
        assert_eq!((&plan["pending_bytes"], &plan["freed_bytes"]), (&json!(0), &json!(0)), "packs that nobody needs: {plan}");
        assert_eq!(self.marks_without_packs(), "", "{}", yard.describe());
        // Three of the objects are no packs, no backups and no marks: two for those who restore by hand, and the intent of this look.
        let verified = yard.run(&["verify", "--json"]).json();
        assert_eq!(verified["objects"], KEPT + repository::count(yard, "packs") + repository::count(yard, "dropped") + 3, "{verified}");
        yard.judge_untouched();
    }
}

#[test]
fn a_killed_prune_of_backups_spares_what_is_kept_and_the_next_ones_leave_nothing_else() {
    kill_at_random(&mut PruneBackups::default());
}

#[test]
fn a_prune_of_backups_killed_at_any_durable_call_spares_what_is_kept() {
    sweep(&mut PruneBackups::default(), Runner::ClusterUser, Aim::Caller, 0);
}
