//! A scratch folder that the user who runs PostgreSQL can reach, and commands that run as that user.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Ends the server and removes the folder when its standard input ends: when whoever holds the other end has ended,
/// however. It ignores what a terminal sends to all of its processes.
const UNDERTAKER: &str = r#"
trap '' HUP INT TERM
read -r nothing
if pid=$(head -n 1 "$0/server/data/postmaster.pid" 2>/dev/null); then
    kill -QUIT "$pid" 2>/dev/null
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
fi
rm -rf --one-file-system "$0"
"#;

/// A folder that vanishes with its handle, and also when the bench is interrupted.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    // Its standard input closes when we end, however that comes.
    _undertaker: Child,
}

impl Place {
    /// Makes one for the user who runs PostgreSQL.
    pub(crate) fn new() -> Self {
        let place = Self::of_our_own();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(place.path()));
        }
        place
    }

    /// Makes one that nobody else may write to.
    pub(crate) fn of_our_own() -> Self {
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("pgpersist-bench-").permissions(open).tempdir();
        let folder = folder.expect("the temporary folder takes a folder");
        let mut undertaker = Command::new("sh");
        undertaker.args(["-c", UNDERTAKER]).arg(folder.path()).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
        Self { _undertaker: undertaker.spawn().expect("sh runs"), folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Copies a program to where the user who runs PostgreSQL can execute it: the clone may lie in a closed home.
    pub(crate) fn bring(&self, program: &Path) -> PathBuf {
        let name = program.file_name().expect("a program has a name");
        let copy = self.path().join(name);
        std::fs::copy(program, &copy).unwrap_or_else(|e| panic!("{} cannot be copied: {e}", program.display()));
        copy
    }
}

/// Whether PostgreSQL, which refuses root, must run as another user.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program that is run as the user who runs PostgreSQL, without `PG…` variables of ours. `setpriv` replaces itself by
/// the program, so it is not in what is measured.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C.UTF-8").current_dir("/").stdin(Stdio::null());
    command
}

/// Runs a command that must succeed and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
