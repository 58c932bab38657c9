//! A migration that a power failure cut off is finished by the next one, and its source is intact.

use std::time::Instant;

use crate::kill::dump::ALL_ORDERS;
use crate::kill::migrate::{Original, judge_moved};
use crate::kill::yard::{Place, Yard};
use crate::power_loss::{FILE_SYSTEMS, assert_midway, cuts};
use crate::support::moments::Moments;
use crate::support::proof::proven;

#[test]
fn a_power_failure_during_a_migration_leaves_the_source_and_what_the_next_one_finishes() {
    let mut moments = Moments::new("power loss, migrate");
    let original = Original::new();
    for file_system in FILE_SYSTEMS {
        let began = Instant::now();
        let mut length = None;
        let (mut early, mut aimed) = (0, 0);
        for cut in 0..cuts() + 1 {
            // In turns: from another disk, from the volume itself, and into the volume's root.
            let place = if cut % 3 == 2 { Place::IsVolume(file_system) } else { Place::OnVolume(file_system) };
            let Some(mut yard) = Yard::new(place) else { return };
            let disk = if cut % 3 == 1 { yard.data.parent().unwrap() } else { yard.scratch.path() };
            let source = original.copy_to(&disk.join("source"));
            yard.sync();
            let from = source.path.to_str().unwrap();
            let started = Instant::now();
            let mut migration = yard.victim(&["migrate", "--from", from, "--yes"]).spawn().unwrap();
            // The first and each fourth are cut off at once after they were done.
            let done = cut % 4 == 0;
            if done {
                assert!(migration.wait().unwrap().success(), "{}", yard.describe());
                length = Some(started.elapsed());
            } else {
                std::thread::sleep(moments.within(length.unwrap()));
                aimed += 1;
                early += usize::from(migration.try_wait().unwrap().is_none());
            }
            yard.cut_the_power();
            let _ = migration.kill();
            migration.wait().unwrap();
            yard.boot();
            println!("power loss, migrate, {}, {place:?}: cut {cut}, {}", file_system.name(), if done { "at the end" } else { "midway" });
            source.judge_intact();
            yard.age_leftovers();
            if done {
                // What was reported done boots without help.
                yard.run(&["start"]);
                assert_eq!(yard.sql("shop", ALL_ORDERS), original.wanted);
                yard.run(&["stop"]);
            }
            let report = yard.run(&["migrate", "--from", from, "--yes", "--json"]).json();
            assert!(!done || report["changed"] == false, "what was reported done was not: {report}");
            source.judge_intact();
            judge_moved(&yard, &original);
        }
        assert_midway(early, aimed);
        let counts = format!("{} cuts, {early} of {aimed} midway", cuts() + 1);
        proven(format!("power loss migrate, {}", file_system.name()), counts, Some(moments.seed()), began);
    }
}
