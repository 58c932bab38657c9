//! A cluster whose `init` was cut off is made by the next; one whose `init` ended well is there.

use std::time::{Duration, Instant};

use crate::kill::yard::{Place, Yard};
use crate::power_loss::{FILE_SYSTEMS, assert_midway, cuts};
use crate::support::judge;
use crate::support::moments::Moments;
use crate::support::proof::proven;

#[test]
fn a_power_failure_during_init_leaves_what_the_next_init_finishes() {
    let mut moments = Moments::new("power loss, init");
    for file_system in FILE_SYSTEMS {
        let began = Instant::now();
        let mut length = Duration::from_secs(1);
        let (mut early, mut aimed) = (0, 0);
        for cut in 0..cuts() + 1 {
            let place = if cut % 2 == 0 { Place::OnVolume(file_system) } else { Place::IsVolume(file_system) };
            let Some(mut yard) = Yard::new(place) else { return };
            yard.sync();
            let mut init = yard.victim(&["init", "--allow-ephemeral"]).spawn().unwrap();
            // The first and each third go to the end: what was promised by then must be there. The others are cut off.
            let done = if cut % 3 == 0 {
                let started = Instant::now();
                assert!(init.wait().unwrap().success());
                length = started.elapsed();
                Some(judge::controldata(&yard.data, "Database system identifier"))
            } else {
                std::thread::sleep(moments.within(length));
                aimed += 1;
                early += usize::from(init.try_wait().unwrap().is_none());
                None
            };
            yard.cut_the_power();
            let _ = init.kill();
            init.wait().unwrap();
            yard.boot();
            println!(
                "power loss, init, {}, {place:?}: cut {cut}, {}",
                file_system.name(),
                if done.is_some() { "at the end" } else { "midway" }
            );
            let report = yard.run(&["init", "--allow-ephemeral", "--json"]).json();
            if let Some(identifier) = done {
                assert_eq!((&report["action"], &report["system_identifier"]), (&"adopted".into(), &identifier.into()));
            }
            assert_eq!(report["system_identifier"], judge::controldata(&yard.data, "Database system identifier"));
            yard.age_leftovers();
            yard.run(&["init", "--allow-ephemeral"]);
            yard.judge_cluster();
        }
        assert_midway(early, aimed);
        let counts = format!("{} cuts, {early} of {aimed} midway", cuts() + 1);
        proven(format!("power loss init, {}", file_system.name()), counts, Some(moments.seed()), began);
    }
}
