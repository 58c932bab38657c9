//! The judge: PostgreSQL's own programs. It shares no code with what it judges.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::place::Place;

/// What one column of rows holds, asked by psql.
pub(crate) fn rows(place: &Place, query: &str) -> Vec<String> {
    let mut psql = program("psql");
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h"]).arg(place.volume());
    must(psql.args(["-p", &place.postgres.to_string(), "-d", "customerInvoice", "-c", query])).lines().map(str::to_owned).collect()
}

/// What `pg_controldata` says about the state of a cluster.
pub(crate) fn state(directory: &Path) -> String {
    let said = must(program("pg_controldata").arg(directory));
    said.lines().find_map(|line| line.strip_prefix("Database cluster state:")).unwrap().trim().to_owned()
}

/// A program of PostgreSQL's, run by the user who owns the cluster.
fn program(name: &str) -> Command {
    let distribution = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = distribution.filter_map(|path| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path.join("bin")))).max();
    let folder = newest.map_or_else(|| PathBuf::from(must(Command::new("pg_config").arg("--bindir")).trim()), |(_, folder)| folder);
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(folder.join(name));
        command
    } else {
        Command::new(folder.join(name))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    command
}

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
