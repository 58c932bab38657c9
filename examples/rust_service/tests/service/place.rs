//! A folder with all that one service has: its volume, its ports, its log. Whatever becomes of a test, nothing of it stays.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::http;

/// Longer than anything here takes, also on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) http: u16,
    pub(crate) postgres: u16,
}

/// A service that runs there.
#[derive(Debug)]
pub(crate) struct Service(Child);

impl Place {
    pub(crate) fn new() -> Self {
        // Started as root, the service goes on as another user.
        let folder = tempfile::Builder::new().prefix("pgpersist-test-").permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let place = Self { folder, http: http::free_port(), postgres: http::free_port() };
        if !rustix::process::geteuid().is_root() {
            fs::create_dir(place.volume()).unwrap();
        }
        place
    }

    /// As root, the service makes it.
    pub(crate) fn volume(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        self.volume().join("pgdata")
    }

    /// Starts the service with the configuration of its folder, but for places and ports, and waits until it is ready.
    pub(crate) fn start(&self) -> Service {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpersist-rust-service"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("ALLOW_EPHEMERAL", "1");
        command.env("PGPERSIST_CLUSTER_DATA_DIRECTORY", self.pgdata()).env("PGPERSIST_CLUSTER_PORT", self.postgres.to_string());
        command.env("PGPERSIST_CLUSTER_SETTINGS_UNIX_SOCKET_DIRECTORIES", self.volume());
        command.env("PGPERSIST_STORE_URL", self.volume().join("backups"));
        command.env("PGPERSIST_HEALTH_LISTEN", format!("127.0.0.1:{}", self.http));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let mut service = Service(command.spawn().unwrap());
        self.wait("the service to be ready", || {
            let ended = service.0.try_wait().unwrap();
            assert!(ended.is_none(), "the service ended with {}\n{}", ended.unwrap(), self.log());
            self.readiness() == Some(200)
        });
        service
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("service.log")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap()
    }

    /// What `/readyz` says; nothing where nobody answers.
    pub(crate) fn readiness(&self) -> Option<u16> {
        http::ask(self.http, "GET", "/readyz", "", "").ok().map(|answer| answer.status)
    }

    /// The process of the server that runs here.
    pub(crate) fn postmaster(&self) -> Pid {
        let text = fs::read_to_string(self.pgdata().join("postmaster.pid")).unwrap();
        Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap()).unwrap()
    }

    /// Waits for something that is bound to come.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut is_there: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_there() {
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Service {
    /// Tells it to stop, and nothing else.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Kills it with all that is in its process group.
    pub(crate) fn kill(mut self) {
        kill_process_group(self.pid(), Signal::KILL).unwrap();
        self.0.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self, place: &Place) -> ExitStatus {
        place.wait("the service to end", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended is known to have, so its number is not another process's.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A server outlives its service, and so it is looked for by where it works. Twice: one may just be starting another one.
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let working = working_below(self.folder.path());
            if working.is_empty() {
                return;
            }
            for process in working {
                let _ = kill_process(process, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The processes whose working directory is there.
fn working_below(folder: &Path) -> Vec<Pid> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let there = |number: &i32| fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|place| place.starts_with(folder));
    numbers.filter(there).filter_map(Pid::from_raw).collect()
}

/// The children of a process, with their titles.
pub(crate) fn children(parent: Pid) -> Vec<(Pid, String)> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let child = |number: i32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        let above: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let title = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        (above == parent.as_raw_nonzero().get()).then(|| Some((Pid::from_raw(number)?, String::from_utf8_lossy(&title).into_owned())))?
    };
    numbers.filter_map(child).collect()
}
