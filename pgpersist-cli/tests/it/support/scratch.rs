//! A scratch folder, and the program run in it as a process of its own.

use std::fs::{File, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::user;

/// A folder that others can look into, since a command started as root goes on as another user.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    port: u16,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).prefix("pgpersist-test-").tempdir().unwrap();
        // Free a moment ago; the kernel hands out another one to whoever asks next.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A port for this test alone.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Makes a folder of the user whom clusters belong to.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).unwrap();
        user::hand_over(&path);
        path
    }

    /// Writes a file; `{dir}` and `{port}` in its text stand for folder and port.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.write_bytes(name, self.fill(text).as_bytes())
    }

    /// Writes a file that belongs to the owner of its folder.
    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.join(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        let folder = std::fs::metadata(path.parent().unwrap()).unwrap();
        std::os::unix::fs::chown(&path, Some(folder.uid()), Some(folder.gid())).unwrap();
        path
    }

    /// Runs `pgpersist` in the folder. `{dir}` and `{port}` in arguments and variables stand for folder and port. Nothing
    /// of the environment of the tests reaches the program but `PATH`.
    pub(crate) fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        self.finish(self.command(), arguments, environment)
    }

    /// The same as a plain user.
    pub(crate) fn run_as_user(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let (mut command, _program) = user::pgpersist_as_user();
        self.prepare(&mut command);
        self.finish(command, arguments, environment)
    }

    pub(crate) fn finish(&self, mut command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        command.args(arguments.iter().map(|word| self.fill(word)));
        command.envs(environment.iter().map(|(name, value)| (*name, self.fill(value))));
        Run::from(command.output().unwrap())
    }

    /// The program, ready to be run in the folder.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpersist"));
        self.prepare(&mut command);
        command
    }

    /// Sets working directory, environment and standard input.
    pub(crate) fn prepare(&self, command: &mut Command) {
        command.current_dir(self.path()).env_clear().env("HOME", self.path()).stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
    }

    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{dir}", self.path().to_str().unwrap()).replace("{port}", &self.port.to_string())
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// The one document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is no JSON document: {e}\n{self:?}"))
    }

    /// The one document on stderr.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|e| panic!("stderr is no JSON document: {e}\n{self:?}"))
    }

    /// Fails unless it ended well; what it said on the way does not count.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Fails unless it ended with this code, printed nothing on stdout, and all of these on stderr, the error first.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, told: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stdout.is_empty() && self.stderr.starts_with("error: "), "{self:?}");
        for text in told {
            assert!(self.stderr.contains(text), "`{text}` is not on stderr: {}", self.stderr);
        }
        self
    }
}
