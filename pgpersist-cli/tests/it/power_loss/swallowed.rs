//! The tests can fail: with syncs, renames or removals left out, which strace swallows without a word, the same cuts and
//! judges find a loss; without a fault they find nothing.

use std::process::Command;
use std::time::Instant;

use crate::kill::dump::{ALL_ORDERS, orders};
use crate::kill::migrate::{Original, Source};
use crate::kill::sweep::{Runner, strace};
use crate::kill::yard::{Place, Yard};
use crate::power_loss::FILE_SYSTEMS;
use crate::support::judge;
use crate::support::proof::proven;
use crate::support::volume::{FileSystem, must};

/// What is left out: system calls that do nothing and say that they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing: the control of the controls.
    None,
    Syncs,
    Renames,
    Removals,
}

impl Fault {
    fn calls(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Syncs => Some("fsync,fdatasync,syncfs,sync_file_range"),
            Self::Renames => Some("rename,renameat,renameat2,link,linkat"),
            Self::Removals => Some("unlink,unlinkat"),
        }
    }

    /// Only a power failure shows that something was not synced.
    fn needs_a_cut(self) -> bool {
        matches!(self, Self::None | Self::Syncs)
    }
}

/// A command in its surroundings, and what must be true when it has ended well.
trait Scene {
    fn name(&self) -> &'static str;
    fn yard(&mut self) -> &mut Yard;
    fn arguments(&self) -> Vec<String>;
    /// Looks at what is there now, with the system's and PostgreSQL's programs. What is not as promised is an error; that
    /// something could not be looked at is a panic.
    fn verdict(&mut self) -> Result<(), String>;
}

/// Runs a scene with a fault; the verdict, or that the command itself noticed.
fn run(scene: &mut dyn Scene, fault: Fault) -> Result<(), String> {
    let arguments = scene.arguments();
    let yard = scene.yard();
    yard.hand_over();
    if yard.volume.is_some() {
        yard.sync();
    }
    // Its children are left alone, but for what they do before their programs begin.
    let mut command = strace(yard, Runner::ClusterUser);
    if let Some(calls) = fault.calls() {
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:retval=0")]);
    } else {
        command.args(["-e", "trace=none"]);
    }
    let status = command.arg(yard.reachable_program()).args(&arguments).status().unwrap();
    if !status.success() {
        return Err(format!("the command itself noticed: {status}"));
    }
    if fault.needs_a_cut() && yard.volume.is_some() {
        yard.cut_the_power();
        yard.boot();
    }
    scene.verdict()
}

/// Plants faults, each in a scene of its own: each is found, and without one nothing is.
fn find<'a>(make: &dyn Fn() -> Option<Box<dyn Scene + 'a>>, faults: &[Fault], place: &str) {
    for fault in [Fault::None].iter().chain(faults) {
        let began = Instant::now();
        let Some(mut scene) = make() else { return };
        let name = scene.name();
        let found = run(scene.as_mut(), *fault);
        println!("planted fault: {name}, {fault:?}, {place}: {found:?}");
        match (fault, &found) {
            (Fault::None, Ok(())) => {}
            (Fault::None, Err(what)) => panic!("{name}, {place}: nothing was left out, and yet {what}"),
            (_, Ok(())) => panic!("{name}, {place}: {fault:?} did nothing, and nobody noticed"),
            (_, Err(what)) => {
                let what = what.replace(['|', '\n'], " ");
                proven(
                    format!("planted fault: {name} without {}, {place}", format!("{fault:?}").to_lowercase()),
                    format!("found: {what}"),
                    None,
                    began,
                );
            }
        }
    }
}

/// A command that is to end well; else its code and what it said.
fn ends_well(yard: &Yard, arguments: &[&str]) -> Result<String, String> {
    let run = yard.scratch.run(arguments, &[]);
    match run.code {
        Some(0) => Ok(run.stdout),
        code => Err(format!("`pgpersist {}` then ends with {code:?}: {}", arguments.join(" "), run.stderr.lines().next().unwrap_or(""))),
    }
}

fn expect(what: &str, found: String, expected: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is `{found}` and not `{expected}`")) }
}

/// No marker and nothing half-made is left.
fn nothing_half_made(yard: &Yard) -> Result<(), String> {
    if !yard.data.exists() {
        return Err("the data directory is gone".to_owned());
    }
    let own = yard.data.parent().unwrap();
    for end in ["half-made.json", ".pgpersist-tmp"] {
        if let Some(left) = [own, &yard.data].iter().flat_map(|folder| judge::names_ending(folder, end)).next() {
            return Err(format!("{left} is left"));
        }
    }
    Ok(())
}

struct Init(Yard);

impl Scene for Init {
    fn name(&self) -> &'static str {
        "init"
    }

    fn yard(&mut self) -> &mut Yard {
        &mut self.0
    }

    fn arguments(&self) -> Vec<String> {
        ["init", "--allow-ephemeral"].map(str::to_owned).to_vec()
    }

    fn verdict(&mut self) -> Result<(), String> {
        nothing_half_made(&self.0)?;
        let report: serde_json::Value = serde_json::from_str(&ends_well(&self.0, &["init", "--allow-ephemeral", "--json"])?).unwrap();
        expect("what the next init does", report["action"].as_str().unwrap_or_default().to_owned(), "adopted")?;
        ends_well(&self.0, &["start"])?;
        expect("the database", self.0.sql("shop", "SELECT current_database()"), "shop")?;
        ends_well(&self.0, &["stop"])?;
        expect("the state", judge::controldata(&self.0.data, "Database cluster state"), "shut down")
    }
}

#[test]
fn an_init_that_leaves_something_out_is_found_out() {
    for file_system in FILE_SYSTEMS {
        for (place, word) in [(Place::OnVolume(file_system), "on"), (Place::IsVolume(file_system), "is")] {
            let make = || Some(Box::new(Init(Yard::new(place)?)) as Box<dyn Scene>);
            find(&make, &[Fault::Syncs, Fault::Renames], &format!("{word} {}", file_system.name()));
        }
    }
}

struct Dump {
    yard: Yard,
    before: usize,
}

impl Scene for Dump {
    fn name(&self) -> &'static str {
        "dump"
    }

    fn yard(&mut self) -> &mut Yard {
        &mut self.yard
    }

    fn arguments(&self) -> Vec<String> {
        vec!["dump".to_owned()]
    }

    fn verdict(&mut self) -> Result<(), String> {
        let dumps = self.yard.dumps();
        expect("the number of dumps", dumps.len().to_string(), &(self.before + 1).to_string())?;
        for dump in dumps {
            if !Command::new("gunzip").arg("-t").arg(&dump).output().unwrap().status.success() {
                return Err(format!("gunzip does not read {}", dump.display()));
            }
            let said = Command::new("cat").arg(format!("{}.json", dump.display())).output().unwrap().stdout;
            let said: serde_json::Value = serde_json::from_slice(&said).map_err(|e| format!("{} has no side file: {e}", dump.display()))?;
            let sum = must(Command::new("sha256sum").arg(&dump));
            expect(
                "the SHA-256",
                sum.split_whitespace().next().unwrap_or_default().to_owned(),
                said["sha256"].as_str().unwrap_or_default(),
            )?;
        }
        Ok(())
    }
}

#[test]
fn a_dump_that_leaves_something_out_is_found_out() {
    for file_system in FILE_SYSTEMS {
        let make = || {
            let mut yard = Yard::new(Place::OnVolume(file_system))?;
            yard.run(&["init", "--allow-ephemeral"]);
            yard.serve();
            yard.sql("shop", &orders(5_000));
            yard.run(&["dump"]);
            Some(Box::new(Dump { before: yard.dumps().len(), yard }) as Box<dyn Scene>)
        };
        find(&make, &[Fault::Syncs, Fault::Renames], file_system.name());
    }
}

struct Migrate<'a> {
    yard: Yard,
    source: Source,
    original: &'a Original,
}

impl Scene for Migrate<'_> {
    fn name(&self) -> &'static str {
        "migrate"
    }

    fn yard(&mut self) -> &mut Yard {
        &mut self.yard
    }

    fn arguments(&self) -> Vec<String> {
        ["migrate", "--from", self.source.path.to_str().unwrap(), "--yes"].map(str::to_owned).to_vec()
    }

    fn verdict(&mut self) -> Result<(), String> {
        self.source.judge_intact();
        nothing_half_made(&self.yard)?;
        ends_well(&self.yard, &["start"])?;
        let rows = self.yard.psql("shop").args(["-c", ALL_ORDERS]).output().unwrap();
        expect("the rows", String::from_utf8_lossy(&rows.stdout).trim_end().to_owned(), &self.original.wanted)?;
        ends_well(&self.yard, &["stop"])?;
        let checked = judge::program("pg_checksums").arg("--check").arg(&self.yard.data).output().unwrap();
        if checked.status.success() { Ok(()) } else { Err(format!("pg_checksums: {}", String::from_utf8_lossy(&checked.stderr))) }
    }
}

#[test]
fn a_migration_that_leaves_something_out_is_found_out() {
    let original = Original::new();
    let original = &original;
    for file_system in FILE_SYSTEMS {
        let make = move || {
            let yard = Yard::new(Place::OnVolume(file_system))?;
            let source = original.copy_to(&yard.scratch.path().join("source"));
            Some(Box::new(Migrate { yard, source, original }) as Box<dyn Scene + '_>)
        };
        find(&make, &[Fault::Syncs, Fault::Renames], file_system.name());
    }
}

struct Prune(Yard);

impl Scene for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn yard(&mut self) -> &mut Yard {
        &mut self.0
    }

    fn arguments(&self) -> Vec<String> {
        ["prune", "--keep-last", "1", "--yes"].map(str::to_owned).to_vec()
    }

    fn verdict(&mut self) -> Result<(), String> {
        expect("the number of dumps", self.0.dumps().len().to_string(), "1")
    }
}

#[test]
fn a_prune_that_removes_nothing_is_found_out() {
    let make = || {
        let mut yard = Yard::new(Place::OnVolume(FileSystem::Ext4))?;
        yard.run(&["init", "--allow-ephemeral"]);
        yard.serve();
        for _ in 0..3 {
            yard.run(&["dump"]);
        }
        Some(Box::new(Prune(yard)) as Box<dyn Scene>)
    };
    find(&make, &[Fault::Removals], "ext4");
}
