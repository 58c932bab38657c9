//! What a bench is told on its command line.

use std::path::PathBuf;
use std::process::Command;

/// Which bench, how much of it, and with which program.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    /// The bench.
    pub(crate) bench: String,
    /// pgbench's scale of the data set: 150 is the one that the targets speak of.
    pub(crate) scale: u32,
    /// How often each variant runs, where told.
    rounds: Option<usize>,
    /// The `pgpersist` to measure; built from this workspace unless named.
    program: Option<PathBuf>,
    /// Which parts of the bench, where told: all of them otherwise.
    parts: Vec<String>,
    /// The programs of a server from 17 on, for what only those can.
    pub(crate) summarizing: Option<PathBuf>,
}

impl Arguments {
    /// Reads the command line: `BENCH --scale smoke|gib|full|N --rounds N --program PATH --part NAME
    /// --bindir-17 FOLDER`.
    pub(crate) fn read() -> Self {
        let mut arguments = Self { bench: String::new(), scale: 60, rounds: None, program: None, parts: Vec::new(), summarizing: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
            match word.as_str() {
                "--scale" => arguments.scale = scale(&value()),
                "--rounds" => arguments.rounds = Some(value().parse().expect("--rounds is a number")),
                "--program" => arguments.program = Some(value().into()),
                "--part" => arguments.parts.push(value()),
                "--bindir-17" => arguments.summarizing = Some(value().into()),
                // Cargo says so to every bench.
                "--bench" => {}
                _ if word.starts_with('-') => {
                    panic!("unknown option {word}: --scale smoke|gib|full|N, --rounds N, --program PATH, --part NAME, --bindir-17 FOLDER")
                }
                _ => arguments.bench = word,
            }
        }
        arguments
    }

    /// How often each variant runs.
    pub(crate) fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default).max(1)
    }

    /// Whether this part of the bench is wanted.
    pub(crate) fn has_part(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| part == name)
    }

    /// The release build of `pgpersist`.
    pub(crate) fn program(&self) -> PathBuf {
        if let Some(program) = &self.program {
            return program.clone();
        }
        let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let built = cargo.args(["build", "--release", "--locked", "--package", "pgpersist-cli"]).current_dir(workspace).status();
        assert!(built.expect("cargo runs").success(), "pgpersist-cli does not build");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from(workspace).join("target"), PathBuf::from);
        target.join("release/pgpersist")
    }
}

fn scale(text: &str) -> u32 {
    match text {
        "smoke" => 2,
        "gib" => 60,
        "full" => 150,
        number => number.parse().expect("--scale is smoke, gib, full or a number"),
    }
}
