//! A server as a process: it listens on a port of the loopback, and ends with its handle, or with us when we are killed.

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One that answers.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) port: u16,
}

/// How long one may take to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

impl ServerProcess {
    /// Starts a program that is told its port; `command` makes it ready to run.
    #[track_caller]
    pub(crate) fn start(folder: &Path, mut command: impl FnMut(u16) -> Command) -> Self {
        // A port that was free a moment ago may be taken by another test.
        for _ in 0..5 {
            let port = free_port();
            if let Some(started) = Self::try_start(folder, port, command(port)) {
                return started;
            }
        }
        panic!("{:?} does not listen: {}", command(0), log(folder));
    }

    /// Starts a program that tells its port itself, as the first line on standard output.
    #[track_caller]
    pub(crate) fn start_telling(folder: &Path, command: Command) -> Self {
        let mut child = bound(command, folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            told.push(char::from(byte[0]));
        }
        let port = told.trim().parse().unwrap_or_else(|_| panic!("{told:?} is no port: {}", log(folder)));
        Self { child, port }
    }

    fn try_start(folder: &Path, port: u16, command: Command) -> Option<Self> {
        let child = bound(command, folder).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut server = Self { child, port };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nothing listens on port {port} in time: {}", log(folder));
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Ends with the thread that starts it: a test that is killed leaves no server. Nothing of our environment reaches it but PATH.
fn bound(command: Command, folder: &Path) -> Command {
    let mut bound = Command::new("setpriv");
    bound.arg("--pdeathsig=KILL").arg(command.get_program()).args(command.get_args());
    bound.env_clear().env("HOME", folder).env("TMPDIR", folder).env("LC_ALL", "C.UTF-8").env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(path) = std::env::var_os("PATH") {
        bound.env("PATH", path);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            bound.env(name, value);
        }
    }
    bound.current_dir(folder).stderr(File::create(log_of(folder)).unwrap());
    bound
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(log_of(folder)).unwrap_or_default()
}
