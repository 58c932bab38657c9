//! The judge: PostgreSQL's own programs and the system's. It shares no code with what it judges.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use rustix::process::geteuid;

use crate::support::volume::must;

/// The newest installation of this machine.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let distribution = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = distribution.filter_map(|path| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path.join("bin")))).max();
    match newest {
        Some((_, programs)) => programs,
        None => PathBuf::from(must(Command::new("pg_config").arg("--bindir")).trim()),
    }
});

/// The user whom PostgreSQL runs as, when we are root, which it refuses.
pub(crate) fn server_user() -> Option<&'static str> {
    geteuid().is_root().then_some("postgres")
}

/// Where a program of PostgreSQL's is.
pub(crate) fn path(name: &str) -> PathBuf {
    PROGRAMS.join(name)
}

/// A program of PostgreSQL's, run by the user who owns the cluster, with nothing of our environment.
pub(crate) fn program(name: &str) -> Command {
    as_server_user(&path(name))
}

/// Any program, run by the user who owns the cluster.
pub(crate) fn as_server_user(program: &Path) -> Command {
    let mut command = match server_user() {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups").arg(program);
            command
        }
        None => Command::new(program),
    };
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Hands a folder to the user who owns the cluster.
pub(crate) fn give(folder: &Path) {
    if let Some(user) = server_user() {
        must(Command::new("chown").arg("--recursive").arg(format!("{user}:")).arg(folder));
    }
}

/// What `pg_controldata` says about one thing; its checksum must fit.
pub(crate) fn controldata(directory: &Path, field: &str) -> String {
    let output = program("pg_controldata").arg(directory).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("WARNING"), "pg_controldata: {}\n{said}", output.status);
    let value = said.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("pg_controldata tells no `{field}`:\n{said}")).trim().to_owned()
}

/// Every page of a cleanly stopped cluster has the checksum it should have.
pub(crate) fn checksums_hold(directory: &Path) {
    let said = must(program("pg_checksums").arg("--check").arg(directory));
    assert!(said.contains("Bad checksums:  0"), "{said}");
}

/// One SHA-256 of all files of a tree: names, owners, permissions and content.
pub(crate) fn fingerprint(tree: &Path) -> String {
    let script = "cd \"$1\" && find . -printf '%y %m %U:%G %p %l\\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
    must(Command::new("sh").args(["-c", script, "sh"]).arg(tree))
}

/// The names below a folder that end in something.
pub(crate) fn names_ending(folder: &Path, end: &str) -> Vec<String> {
    let found = must(Command::new("find").arg(folder).args(["-name", &format!("*{end}")]));
    found.lines().map(str::to_owned).collect()
}

/// psql by a server's socket: bare answers, and an end at the first error.
pub(crate) fn psql(socket: &Path, port: u16, database: &str) -> Command {
    let mut command = program("psql");
    command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h"]).arg(socket).args(["-p", &port.to_string(), "-d", database]);
    command
}
