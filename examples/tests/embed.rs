//! The embedding example, run twice as a process of its own: what the first run wrote, the second one finds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails; clippy knows test functions only, not what they call")]

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A folder of the user who runs PostgreSQL, with the program in it; its server ends with it.
struct Volume(TempDir);

impl Volume {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgpersist-test-").permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        // The clone may lie in a home that the user who runs PostgreSQL cannot enter.
        std::fs::copy(env!("CARGO_BIN_EXE_embed"), folder.path().join("embed")).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").arg("postgres:").arg(folder.path()).status().unwrap().success());
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self) -> String {
        let program = self.path().join("embed");
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        let output = command.arg(self.path()).env("ALLOW_EPHEMERAL", "1").current_dir("/").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn dumps(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join("backups")).unwrap().map(|entry| entry.unwrap().path());
        let mut dumps: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(".sql.gz")).collect();
        dumps.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("backup_"));
        dumps
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The program stops its server; one that failed half way may not have.
        let Ok(text) = std::fs::read_to_string(self.path().join("pgdata/postmaster.pid")) else { return };
        if let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

#[test]
fn the_second_run_finds_what_the_first_one_wrote() {
    let volume = Volume::new();
    assert!(volume.run().starts_with("created cluster, visit 1\n"));
    assert!(volume.run().starts_with("adopted cluster, visit 2\n"));
    let dumps = volume.dumps();
    assert_eq!(dumps.len(), 2, "{dumps:?}");
    for dump in dumps {
        assert!(Command::new("gunzip").arg("-t").stdin(File::open(dump).unwrap()).status().unwrap().success());
    }
}
