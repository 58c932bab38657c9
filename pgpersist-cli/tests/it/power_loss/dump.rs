//! What stands under a dump's name after a power failure is whole, and a dump that was reported done is there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::kill::dump::{DumpJudge, orders};
use crate::power_loss::{FILE_SYSTEMS, assert_midway, cuts, yard};
use crate::support::moments::Moments;
use crate::support::proof::proven;
use crate::support::volume::must;

#[test]
fn a_power_failure_during_a_dump_leaves_no_half_file_and_takes_no_finished_one() {
    let mut moments = Moments::new("power loss, dump");
    for file_system in FILE_SYSTEMS {
        let Some(mut yard) = yard(file_system) else { return };
        let began = Instant::now();
        yard.run(&["init", "--allow-ephemeral"]);
        yard.run(&["start"]);
        yard.sql("shop", &orders(100_000));
        let mut promised: BTreeMap<PathBuf, String> = BTreeMap::new();
        let mut judge = DumpJudge::default();
        let (mut early, mut aimed) = (0, 0);
        for cut in 0..cuts() {
            let started = Instant::now();
            let report = yard.run(&["dump", "--json"]).json();
            let length = started.elapsed();
            promised.insert(yard.store().join(report["name"].as_str().unwrap()), report["sha256"].as_str().unwrap().to_owned());
            // Each third cut comes at once after the dump that was reported done.
            if cut % 3 != 0 {
                let mut dump = yard.victim(&["dump"]).spawn().unwrap();
                std::thread::sleep(moments.within(length));
                aimed += 1;
                early += usize::from(dump.try_wait().unwrap().is_none());
                yard.cut_the_power();
                let _ = dump.kill();
                dump.wait().unwrap();
            } else {
                yard.cut_the_power();
            }
            yard.boot();
            println!("power loss, dump, {}: cut {cut}", file_system.name());
            for (dump, sum) in &promised {
                assert_eq!(must(Command::new("sha256sum").arg(dump)).split_whitespace().next(), Some(sum.as_str()), "{}", dump.display());
            }
            judge.judge(&yard);
            yard.run(&["start"]);
            yard.age_leftovers();
            yard.run(&["dump"]);
            yard.run(&["verify"]);
            yard.judge_no_leftovers();
        }
        yard.judge_untouched();
        assert_midway(early, aimed);
        let counts = format!("{} cuts, {early} of {aimed} midway", cuts());
        proven(format!("power loss dump, {}", file_system.name()), counts, Some(moments.seed()), began);
    }
}
