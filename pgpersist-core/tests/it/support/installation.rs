//! The PostgreSQL installations that the tests run against: those of the distribution, and bundles that are named by
//! `PGPERSIST_TEST_BINDIRS` (bin directories, joined by colons; see `script/fetch-postgres-bundles`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pgpersist_core::pg::version::ServerVersion;

/// The programs of one version.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    /// Where its programs are.
    pub(crate) bin: PathBuf,
    /// What `postgres --version` says.
    pub(crate) version: ServerVersion,
}

/// A user of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Whom PostgreSQL runs as, when that is not ourselves: as root the tests run it as the user `postgres`, since it refuses root.
pub(crate) fn server_user() -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("there is a list of users");
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let user = passwd.lines().map(fields).find(|f| f[0] == "postgres").expect("as root, the tests need a user `postgres`");
    Some(User { uid: user[2].parse().expect("a number"), gid: user[3].parse().expect("a number") })
}

impl Installation {
    /// One for each major version found, oldest first. Of several with one major version the distribution's counts, since it
    /// has all the programs.
    pub(crate) fn all() -> Vec<Self> {
        let distribution =
            std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        let named = std::env::var_os("PGPERSIST_TEST_BINDIRS").unwrap_or_default();
        let named: Vec<PathBuf> = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
        let mut all: Vec<Self> = Vec::new();
        for bin in distribution.filter(|bin| bin.join("postgres").exists()) {
            all.push(Self::open(&bin));
        }
        for bin in named {
            let found = Self::open(&bin);
            if !all.iter().any(|other| other.version.major == found.version.major) {
                all.push(found);
            }
        }
        all.retain(|installation| installation.version.is_supported());
        all.sort_by_key(|installation| installation.version);
        assert!(!all.is_empty(), "the tests need PostgreSQL: install it, or name bin directories in PGPERSIST_TEST_BINDIRS");
        all
    }

    fn open(bin: &Path) -> Self {
        let output = Command::new(bin.join("postgres")).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{} does not run: {error}", bin.join("postgres").display()));
        let version = String::from_utf8_lossy(&output.stdout).parse().expect("postgres tells its version");
        Self { bin: bin.to_owned(), version }
    }

    /// Whether it has a program: bundles have no clients.
    pub(crate) fn has(&self, program: &str) -> bool {
        self.bin.join(program).exists()
    }

    /// A program, to be run as the user who runs PostgreSQL, speaking English, knowing nothing of our `PG…` variables.
    pub(crate) fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if server_user().is_some() {
            // std clears supplementary groups only together with the user id, and only in newer versions: setpriv always does.
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
        command
    }

    /// Makes a cluster: superuser `postgres`, trust, no locale, not fsynced, and what `options` say.
    pub(crate) fn initdb(&self, data_directory: &Path, options: &[&str]) {
        let mut command = self.command("initdb");
        command.args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres", "--pgdata"]);
        succeed(command.arg(data_directory).args(options));
    }
}

/// Runs a command, which must succeed, and returns what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("it prints text")
}
