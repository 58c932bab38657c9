//! Runs one PostgreSQL program (`initdb`, `pg_dump`, `psql`…): arguments, a clean environment, its last words, its end.
//!
//! A program ends with its handle: dropping kills and reaps it. When pgpersist itself is killed, a program that reads from
//! us or writes to us ends by the closed pipe at its next read or write; one that is waiting for the server at that moment
//! ends when the server answers, which `pg_dump --lock-wait-timeout` and psql's `lock_timeout` bound.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result, Said};
use crate::fs::os_user::OsUser;
use crate::pg::version::ServerVersion;
use crate::server::connection::ConnectionOptions;
use crate::server::spawn;

/// How much of a program's stderr is kept: its end, where programs say why they failed.
const KEPT_STDERR: usize = 16 * 1024;

/// How many lines of it an error shows.
const SHOWN_LINES: usize = 12;

/// How much a program that is run to its end may print.
const LARGEST_OUTPUT: u64 = 16 * 1024 * 1024;

/// What pipes to and from programs may hold, so that neither side waits for each page of 4 KiB.
const PIPE_BYTES: usize = 1024 * 1024;

/// A program to be run. Its environment has none of our `PG…` variables but those given with [`Program::env`], so that it
/// connects to what its arguments say and to nothing else; its messages are in English.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    user: Option<OsUser>,
}

/// What a program printed.
#[derive(Debug)]
pub struct Output {
    /// All of its stdout.
    pub stdout: Vec<u8>,
    /// The end of its stderr.
    pub stderr: String,
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stderr: JoinHandle<Vec<u8>>,
}

/// The stdout of a program, read in gulps.
///
/// `pg_dump` writes 4 KiB at a time. A reader that waits in the pipe is woken for each of them, and a fifth of a dump's
/// CPU time goes into that; one that lets the pipe fill for a moment is not.
#[derive(Debug)]
pub struct Gulps {
    pipe: File,
    last: usize,
}

/// Less than this in one read means that we are faster than the program.
const GULP: usize = PIPE_BYTES / 4;

/// How long the pipe may fill then: at 1 GB/s it does not get full in this time.
const GULP_PAUSE: Duration = Duration::from_millis(1);

impl Read for Gulps {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.last < GULP {
            std::thread::sleep(GULP_PAUSE);
        }
        let count = self.pipe.read(buffer)?;
        // A small buffer says nothing about the program.
        self.last = if count == buffer.len() { GULP } else { count };
        Ok(count)
    }
}

impl Program {
    /// A program by its path, without arguments.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), arguments: Vec::new(), environment: Vec::new(), user: None }
    }

    /// Adds an argument. Secrets never go here: every user of the machine can read it.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Has it connect to this server: the connection string as its argument, what is no argument in its environment, and, where
    /// we are root, as the user whom the server knows.
    #[must_use]
    pub fn connected_to(mut self, connection: &ConnectionOptions) -> Self {
        self.environment.extend(connection.environment());
        self.user = connection.os_user.clone().filter(|_| rustix::process::geteuid().is_root());
        self.arg(format!("--dbname={}", connection.conninfo()))
    }

    /// Runs it to its end, with nothing to read on stdin.
    ///
    /// # Errors
    /// [`Error::Program`] when it fails; [`Error::Deadline`] when it does not end, and it is killed then.
    pub async fn run(self, deadline: Duration) -> Result<Output> {
        let (mut running, _, stdout) = self.start(Stdio::null(), Stdio::piped()).map(take_pipes)?;
        let name = running.name.clone();
        let work = async {
            let mut printed = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(LARGEST_OUTPUT).read_to_end(&mut printed).await.map_err(|e| Error::file("read the output of", &name, e))?;
            }
            let (status, stderr) = running.end().await?;
            check(&name, status, &stderr)?;
            Ok(Output { stdout: printed, stderr })
        };
        match tokio::time::timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline { what: format!("{} did not end", self_name(&self.path)), after: deadline, remedy: None }),
        }
    }

    /// Starts it with its stdout as a pipe for blocking reads, and nothing on stdin.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be started.
    pub fn spawn_source(&self) -> Result<(Running, Gulps)> {
        let (running, _, stdout) = self.start(Stdio::null(), Stdio::piped()).map(take_pipes)?;
        let stdout = stdout.expect("stdout was asked to be a pipe");
        Ok((running, Gulps { pipe: blocking(stdout.into_owned_fd(), &self.path)?, last: GULP }))
    }

    /// Starts it with its stdin and its stdout as pipes for blocking writes and reads.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be started.
    pub fn spawn_filter(&self) -> Result<(Running, File, File)> {
        let (running, stdin, stdout) = self.start(Stdio::piped(), Stdio::piped()).map(take_pipes)?;
        let stdin = stdin.expect("stdin was asked to be a pipe");
        let stdout = stdout.expect("stdout was asked to be a pipe");
        Ok((running, blocking(stdin.into_owned_fd(), &self.path)?, blocking(stdout.into_owned_fd(), &self.path)?))
    }

    /// Asks it for its version.
    ///
    /// # Errors
    /// As [`Program::run`]; [`ErrorKind::Invalid`] when it answers with something else.
    pub async fn version(path: &Path) -> Result<ServerVersion> {
        let output = Self::new(path).arg("--version").run(Duration::from_secs(10)).await?;
        String::from_utf8_lossy(&output.stdout)
            .parse()
            .map_err(|e: crate::pg::version::ParseVersionError| Error::invalid(format!("{}: {e}", path.display()), ""))
    }

    fn start(&self, stdin: Stdio, stdout: Stdio) -> Result<Running> {
        let mut command = Command::new(&self.path);
        std::env::vars_os().filter(|(name, _)| is_withheld(name)).for_each(|(name, _)| {
            command.env_remove(name);
        });
        spawn::run_as(command.as_std_mut(), self.user.as_ref());
        let mut child = command
            .args(&self.arguments)
            .env("LC_ALL", "C")
            .env_remove("LANGUAGE")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::file("run", &self.path, e))?;
        let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
        Ok(Running { name: self_name(&self.path), child, stderr: tokio::spawn(keep_end(stderr)) })
    }
}

impl Running {
    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end; all of its pipes must be closed or read to their end.
    ///
    /// # Errors
    /// [`Error::Program`] when it failed or was killed.
    pub async fn finish(mut self) -> Result<()> {
        let (status, stderr) = self.end().await?;
        check(&self.name, status, &stderr)
    }

    /// As [`Running::finish`], but leaves the judgement to the caller: how it ended, and the end of its stderr.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be waited for.
    pub async fn end(&mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait().await.map_err(|e| Error::file("wait for", &self.name, e))?;
        // A grandchild could hold the pipe open for ever; what the program itself said is there by now.
        let said = tokio::time::timeout(Duration::from_secs(5), &mut self.stderr).await;
        let said = said.ok().and_then(|said| said.ok()).unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }

    /// Kills it and waits until it is gone, so that nothing of it is at work any more.
    pub async fn kill(mut self) {
        // It fails only when the program has ended, which is what is wanted.
        let _ = self.child.kill().await;
    }
}

/// The error of a program that did not end well.
///
/// # Errors
/// [`Error::Program`] unless the status is success.
pub fn check(program: &str, status: ExitStatus, stderr: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    // Somebody or the kernel killed it: that says nothing against trying again.
    let kind = if status.signal().is_some() { ErrorKind::Unavailable } else { kind_of(stderr) };
    let lines: Vec<_> = stderr.lines().collect();
    let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    let remedy = status
        .signal()
        .is_some()
        .then(|| "run the same command again; if nobody killed it, look in `dmesg` whether memory ran out".to_owned());
    Err(Error::Program { program: program.to_owned(), status: status.to_string(), said: Said(last), kind, remedy })
}

/// Programs end with 1 whatever happened; their English messages tell more. See `libpq/fe-connect.c` and `elog.c`.
fn kind_of(stderr: &str) -> ErrorKind {
    let any = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    if any(&["authentication failed", "no password supplied", "permission denied", "must be superuser", "must be owner"]) {
        ErrorKind::Denied
    } else if any(&[
        "Connection refused",
        "No such file or directory\n\tIs the server",
        "the database system is",
        "server closed the connection",
        "could not connect",
        "terminating connection",
        "No space left on device",
        "lock timeout",
        "too many clients",
    ]) {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Invalid
    }
}

type Pipes = (Running, Option<tokio::process::ChildStdin>, Option<tokio::process::ChildStdout>);

fn take_pipes(mut running: Running) -> Pipes {
    let (stdin, stdout) = (running.child.stdin.take(), running.child.stdout.take());
    (running, stdin, stdout)
}

fn blocking(pipe: std::io::Result<std::os::fd::OwnedFd>, program: &Path) -> Result<File> {
    let pipe = pipe.map_err(|e| Error::file("open a pipe to", program, e))?;
    // Unprivileged users share a bounded amount of pipe memory: a smaller pipe is slower, not wrong.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_BYTES);
    Ok(File::from(pipe))
}

async fn keep_end(mut stderr: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    // An error of the pipe ends it like its end does: what was said before still counts.
    while let Ok(count @ 1..) = stderr.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        if kept.len() > 2 * KEPT_STDERR {
            kept.drain(..kept.len() - KEPT_STDERR);
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT_STDERR));
    kept
}

fn self_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What would change what a client does, and credentials of stores, which are none of its business.
fn is_withheld(name: &OsStr) -> bool {
    const BEGINNINGS: &[&[u8]] = &[b"PG", b"PSQL", b"AWS_", b"AZURE_", b"GOOGLE_"];
    BEGINNINGS.iter().any(|beginning| name.as_encoded_bytes().starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn shell(script: &str) -> Program {
        Program::new(Path::new("/bin/sh")).arg("-c").arg(script)
    }

    #[tokio::test]
    async fn a_failure_ends_with_the_last_words() {
        let error = shell("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3").run(Duration::from_secs(60)).await;
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3)");
        let said = error.causes().join("\n");
        assert!(said.ends_with("line 2999") && said.starts_with("line 2988"), "{said}");
    }

    #[tokio::test]
    async fn the_environment_is_scrubbed() {
        let output = Program::new(Path::new("/usr/bin/env")).env("PGHOST", "/x").run(Duration::from_secs(60)).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let postgres: Vec<_> = text.lines().filter(|line| line.starts_with("PG") || line.starts_with("LC_ALL")).collect();
        assert_eq!(postgres.len(), 2, "{postgres:?}");
        assert!(postgres.contains(&"PGHOST=/x") && postgres.contains(&"LC_ALL=C"));
    }

    #[test]
    fn clients_get_no_credentials_of_stores() {
        for name in ["PGPASSWORD", "PSQLRC", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY"] {
            assert!(is_withheld(OsStr::new(name)), "{name}");
        }
        assert!(!is_withheld(OsStr::new("PATH")));
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed() {
        let error = shell("exec sleep 600").run(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_dropped_program_is_gone() {
        let (running, stdout) = shell("exec sleep 600").spawn_source().unwrap();
        drop(running);
        // The pipe ends when its only writer does.
        let read = tokio::task::spawn_blocking(move || std::io::Read::read_to_end(&mut { stdout }, &mut Vec::new()));
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), read).await.unwrap().unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_filter_reads_and_writes() {
        let (running, mut stdin, mut stdout) = shell("cat; exit 2").spawn_filter().unwrap();
        let text = tokio::task::spawn_blocking(move || {
            stdin.write_all(b"through").unwrap();
            drop(stdin);
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(text.await.unwrap(), "through");
        assert_eq!(running.finish().await.unwrap_err().to_string(), "cat failed (exit status: 2)".replace("cat", "sh"));
    }

    #[tokio::test]
    async fn a_killed_program_is_no_success() {
        let error = shell("kill -9 $$").run(Duration::from_secs(60)).await.unwrap_err();
        assert!(error.to_string().contains("signal: 9"), "{error}");
    }
}
