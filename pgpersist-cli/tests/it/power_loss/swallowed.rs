//! The tests can fail: with syncs or renames left out, which strace swallows without a word, the same cuts and judges find a
//! loss.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::kill::dump::{DumpJudge, orders};
use crate::kill::sweep::{Runner, strace};
use crate::kill::yard::{Place, Yard};
use crate::power_loss::{FILE_SYSTEMS, yard};
use crate::support::judge;
use crate::support::proof::proven;

const SYNCS: &str = "fsync,fdatasync,syncfs,sync_file_range";

/// Runs a command of which some calls do nothing and say that they did. Its children are left alone, but those before their
/// programs begin.
fn run_without(yard: &Yard, calls: &str, arguments: &[&str]) {
    yard.hand_over();
    let mut command = strace(yard, Runner::ClusterUser);
    command
        .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:retval=0")])
        .arg(yard.reachable_program())
        .args(arguments);
    let status = command.status().unwrap();
    assert!(status.success(), "{arguments:?} without {calls}: {status}\n{}", yard.describe());
}

#[test]
fn an_init_that_syncs_nothing_is_found_out_by_a_power_failure() {
    for file_system in FILE_SYSTEMS {
        for place in [Place::OnVolume(file_system), Place::IsVolume(file_system)] {
            let began = Instant::now();
            let Some(mut yard) = Yard::new(place) else { return };
            yard.sync();
            run_without(&yard, SYNCS, &["init", "--allow-ephemeral"]);
            let identifier = judge::controldata(&yard.data, "Database system identifier");
            yard.cut_the_power();
            yard.boot();
            let judged = catch_unwind(AssertUnwindSafe(|| {
                let report = yard.run(&["init", "--allow-ephemeral", "--json"]).json();
                assert_eq!((&report["action"], &report["system_identifier"]), (&"adopted".into(), &identifier.clone().into()));
                yard.judge_cluster();
            }));
            assert!(judged.is_err(), "{place:?}: nothing was synced, and nobody noticed");
            proven(format!("planted fault: init without syncs, {place:?}"), "found", None, began);
        }
    }
}

#[test]
fn a_dump_that_syncs_nothing_is_found_out_by_a_power_failure() {
    for file_system in FILE_SYSTEMS {
        let began = Instant::now();
        let Some(mut yard) = yard(file_system) else { return };
        yard.run(&["init", "--allow-ephemeral"]);
        yard.run(&["start"]);
        yard.sql("shop", &orders(5_000));
        yard.run(&["dump"]);
        yard.sync();
        let before = yard.dumps();
        run_without(&yard, SYNCS, &["dump"]);
        let after = yard.dumps();
        assert_eq!((before.len(), after.len()), (1, 2));
        yard.cut_the_power();
        yard.boot();
        let whole = yard.dumps() == after && catch_unwind(AssertUnwindSafe(|| DumpJudge::default().judge(&yard))).is_ok();
        assert!(!whole, "{}: nothing was synced, and nobody noticed", file_system.name());
        proven(format!("planted fault: dump without syncs, {}", file_system.name()), "found", None, began);
    }
}

#[test]
fn an_init_that_does_not_rename_is_found_out_by_the_judge() {
    let began = Instant::now();
    let yard = Yard::new(Place::Folder).unwrap();
    run_without(&yard, "renameat,renameat2", &["init", "--allow-ephemeral"]);
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let report = yard.run(&["init", "--allow-ephemeral", "--json"]).json();
        assert_eq!(report["action"], "adopted");
        yard.judge_cluster();
    }));
    assert!(judged.is_err(), "nothing got its name, and nobody noticed");
    proven("planted fault: init without renames", "found", None, began);
}
