//! A scratch folder, and the program run in it as a process of its own.

pub(crate) mod judge;
pub(crate) mod moments;
pub(crate) mod processes;
pub(crate) mod proof;
pub(crate) mod shared_memory;
pub(crate) mod volume;

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder that others can look into, since a command started as root goes on as another user.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    finally: Vec<Vec<String>>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).prefix("pgpersist-test-").tempdir().unwrap();
        Self { folder, finally: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file; `{dir}` in its text stands for the folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        File::create(self.path().join(name)).unwrap().write_all(self.fill(text).as_bytes()).unwrap();
    }

    /// Runs a command line when this is dropped, also after a panic: such as `stop`.
    pub(crate) fn finally(&mut self, arguments: &[&str]) {
        self.finally.push(arguments.iter().map(|word| (*word).to_owned()).collect());
    }

    /// Runs `pgpersist` in the folder. `{dir}` in arguments and variables stands for it. Nothing of the environment of the
    /// tests reaches the program but `PATH`.
    pub(crate) fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = self.command();
        command.args(arguments.iter().map(|word| self.fill(word)));
        command.envs(environment.iter().map(|(name, value)| (*name, self.fill(value))));
        let output = command.output().unwrap();
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The program, ready to be run in the folder.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpersist"));
        command.current_dir(self.path()).env_clear().env("HOME", self.path()).stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{dir}", self.path().to_str().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for arguments in std::mem::take(&mut self.finally) {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.run(&words, &[]);
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The one document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is no JSON document: {e}\n{self:?}"))
    }

    /// The one document on stderr.
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|e| panic!("stderr is no JSON document: {e}\n{self:?}"))
    }
}
