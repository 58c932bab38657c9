//! `pg_verifybackup` of a major version: the installation's own, or one that `PGPERSIST_TEST_VERIFYBACKUP` leads to (bin directories, joined by
//! colons; see `script/fetch-postgres-judges`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::installation::Installation;
use crate::support::judge;
use crate::support::skip::absent;
use crate::support::volume::must;

/// The oldest major whose program is asked: what comes with servers without clients begins there.
const OLDEST: u32 = 15;

/// The program of this major, where there is one.
fn of(installation: &Installation) -> Option<PathBuf> {
    let named = std::env::var_os("PGPERSIST_TEST_VERIFYBACKUP").unwrap_or_default();
    let named: Vec<PathBuf> = std::env::split_paths(&named).collect();
    let programs = std::iter::once(&installation.bin).chain(&named).map(|folder| folder.join("pg_verifybackup"));
    programs.filter(|program| program.exists()).find(|program| major(program) == installation.version.major)
}

fn major(program: &Path) -> u32 {
    // pg_verifybackup (PostgreSQL) 16.2
    let told = must(Command::new(program).arg("--version"));
    let version = told.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap();
    version.split('.').next().unwrap().parse().unwrap()
}

/// Reads an export, log and all. Returns who did.
pub(super) fn accepts(installation: &Installation, export: &Path) -> String {
    let major = installation.version.major;
    match of(installation) {
        Some(program) => {
            must(judge::as_server_user(&program).arg(export));
            format!("pg_verifybackup {major}")
        }
        None if major < OLDEST => {
            // The manifest is the same in both; the log is another.
            must(judge::program("pg_verifybackup").arg("--no-parse-wal").arg(export));
            "a newer pg_verifybackup without the log".to_owned()
        }
        None => {
            absent("pg_verifybackup", format_args!("there is none of PostgreSQL {major}"));
            "no pg_verifybackup".to_owned()
        }
    }
}
