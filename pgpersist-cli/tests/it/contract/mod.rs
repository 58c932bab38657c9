//! The contract as tables: each command as a process, its exit code, what stands on stdout and stderr, the promised fields.
//!
//! Lines that stand for themselves get a folder each; those of a journey share one cluster and come in order. A test fails
//! as long as a command that `--help` lists has no line.

mod backups;
mod cancelled;
mod case;
mod cluster;
mod configuration;
mod drill;
mod dumps;
mod export;
mod health;
mod kinds;
mod migrate;
mod physical;
mod restore;
mod retention;
mod root;
mod store;
mod store_keys;
mod stores;
mod temp;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::contract::case::Case;
use crate::support::scratch::Scratch;

/// The lines that stand for themselves.
fn tables() -> impl Iterator<Item = Case> {
    configuration::table()
        .into_iter()
        .chain(cluster::table())
        .chain(health::table())
        .chain(drill::table())
        .chain(temp::table())
        .chain(store::table())
        .chain(stores::table())
        .chain(store_keys::table())
}

/// All lines of the contract.
fn promises() -> Vec<Case> {
    let journeys = [
        cluster::journey(),
        dumps::journey(),
        health::journey(),
        backups::journey(),
        migrate::journey(),
        physical::journey(),
        restore::journey(),
        retention::journey(),
        export::journey(),
        drill::journey(),
        drill::restores(),
        drill::live(),
        root::journey(),
        stores::journey(),
        store_keys::journey(),
    ];
    tables().chain(journeys.into_iter().flatten()).collect()
}

#[test]
fn every_promise_holds() {
    let broken: Vec<&str> =
        tables().filter(|case| catch_unwind(AssertUnwindSafe(|| case.check())).is_err()).map(|case| case.promise).collect();
    assert!(broken.is_empty(), "broken promises (each told above): {broken:#?}");
}

/// The subcommands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Explanations that wrap are indented deeper than names.
    commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn every_command_has_a_promise_and_help_that_begins_with_an_example() {
    let scratch = Scratch::new();
    let help = |words: &[String]| {
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.push("--help");
        let run = scratch.run(&words, &[]);
        assert!(run.code == Some(0) && run.stdout.starts_with("Example:\n  "), "{words:?}: {}", run.stdout);
        run.stdout
    };
    let promised =
        |path: &[String]| promises().iter().any(|case| path.iter().zip(&case.arguments).filter(|(a, b)| a == b).count() == path.len());
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        for name in listed(&help(&path)).into_iter().filter(|name| name != "help") {
            let below = [path.clone(), vec![name]].concat();
            assert!(promised(&below), "`pgpersist {}` has no line in the contract's table", below.join(" "));
            waiting.push(below);
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} commands were found: the help no longer reads as expected");
}

#[test]
fn the_example_passes_the_check() {
    let scratch = Scratch::new();
    let example = scratch.run(&["config", "example"], &[]).stdout;
    scratch.write("example.toml", &example);
    let run = scratch.run(&["config", "check", "--config", "example.toml"], &[]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
    let scratch = Scratch::new();
    let mut child = scratch.command().args(["config", "example"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(
        scratch.command().args(["config", "example"]).stdout(full).stderr(std::process::Stdio::null()).status().unwrap().code(),
        Some(6)
    );
}
