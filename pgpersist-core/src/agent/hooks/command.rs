//! Runs a program with each event.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::agent::hooks::Hook;
use crate::agent::hooks::event::Event;
use crate::error::{Error, Result};
use crate::fs::os_user::OsUser;
use crate::health::Status;
use crate::server::{program, spawn};

/// How much of what it says is kept, of either stream: the end.
const KEPT: usize = 4 << 10;
/// How long what it has started may hold its streams open after it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a program, without a shell, for each event: the document on its standard input, and `PGPERSIST_EVENT`,
/// `PGPERSIST_STATUS`, `PGPERSIST_CLUSTER` and `PGPERSIST_SUMMARY` in its environment, which else holds what programs of
/// PostgreSQL get of ours. Exit code 0 says that the event has arrived.
///
/// It runs in a process group of its own, in `/`. When it is dropped, all of the group are killed.
pub struct CommandHook {
    command: Vec<String>,
    user: Option<OsUser>,
}

impl fmt::Debug for CommandHook {
    /// Without its arguments, which may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CommandHook").field("program", &self.program()).finish_non_exhaustive()
    }
}

impl CommandHook {
    /// Runs this program with these arguments.
    ///
    /// # Errors
    /// `Invalid` when there is no program.
    pub fn new(command: Vec<String>) -> Result<Self> {
        if command.first().is_none_or(String::is_empty) {
            return Err(Error::invalid(
                "the hook's command names no program",
                "write it as `command = [\"/usr/local/bin/alert\", \"--pager\"]`",
            ));
        }
        Ok(Self { command, user: None })
    }

    /// The same as this user, where we are root.
    #[must_use]
    pub fn as_user(self, user: Option<OsUser>) -> Self {
        Self { user: user.filter(|_| rustix::process::geteuid().is_root()), ..self }
    }

    /// What it is called in messages; its arguments may be secrets.
    fn program(&self) -> &str {
        &self.command[0]
    }
}

/// Kills a process group when it is dropped, unless its leader was waited for: then the number may be somebody else's.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[async_trait]
impl Hook for CommandHook {
    fn name(&self) -> &str {
        "command"
    }

    async fn tell(&self, event: &Event) -> Result<()> {
        let document = serde_json::to_vec(event).map_err(|error| Error::Bug(format!("no document: {error}")))?;
        let mut command = std::process::Command::new(self.program());
        spawn::clean_environment(&mut command);
        command.args(&self.command[1..]).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, text) in variables(event) {
            command.env(name, text);
        }
        spawn::run_as(&mut command, self.user.as_ref());
        let mut command = Command::from(command);
        let failed = |action: &'static str| move |error: io::Error| Error::file(action, self.program(), error);
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed("run"))?;
        // It stands before the child in what is dropped: a leader that was reaped gives its number away.
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feeding = async move {
            if let Some(mut stdin) = stdin {
                // A program need not read it.
                let _ = stdin.write_all(&document).await;
            }
        };
        let hearing = async { tokio::join!(end_of(stdout), end_of(stderr)) };
        tokio::pin!(feeding, hearing);
        let (mut is_fed, mut said) = (false, None);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(failed("wait for"))?,
                () = &mut feeding, if !is_fed => is_fed = true,
                heard = &mut hearing, if said.is_none() => said = Some(heard),
            }
        };
        group.0 = None;
        let said = match said {
            Some(said) => Some(said),
            None => tokio::time::timeout(LAST_WORDS, &mut hearing).await.ok(),
        };
        let (stdout, stderr) = said.unwrap_or_default();
        let said = if stderr.trim().is_empty() { stdout } else { stderr };
        let name = Path::new(self.program()).file_name().unwrap_or(OsStr::new(self.program())).to_string_lossy();
        program::check(&name, status, &said)
    }
}

fn variables(event: &Event) -> [(&'static str, &str); 4] {
    let status = match event.status {
        Status::Pass => "pass",
        Status::Warn => "warn",
        Status::Unknown => "unknown",
        Status::Fail => "fail",
    };
    [
        ("PGPERSIST_EVENT", event.event.as_str()),
        ("PGPERSIST_STATUS", status),
        ("PGPERSIST_CLUSTER", &event.cluster),
        ("PGPERSIST_SUMMARY", &event.summary),
    ]
}

/// The end of what comes, up to the end.
async fn end_of(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::hooks::event::{EventKind, Subject};
    use time::macros::datetime;

    fn event(summary_bytes: usize) -> Event {
        let subject = Subject { cluster: "m".repeat(summary_bytes), host: "db-0".to_owned() };
        Event::new(EventKind::Failure, &subject, datetime!(2026-02-08 10:00 UTC), Status::Fail, Vec::new(), Vec::new())
    }

    fn shell(script: &str) -> CommandHook {
        CommandHook::new(["/bin/sh", "-c", script].map(str::to_owned).to_vec()).unwrap()
    }

    #[tokio::test]
    async fn it_gets_the_document_and_a_clean_environment() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("cat > {0}/document; env > {0}/environment; pwd", folder.path().display());
        shell(&script).tell(&event(4)).await.unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("document"), serde_json::to_string(&event(4)).unwrap());
        let environment = read("environment");
        for line in
            ["PGPERSIST_EVENT=failure", "PGPERSIST_STATUS=fail", "PGPERSIST_CLUSTER=mmmm", "PGPERSIST_SUMMARY=mmmm on db-0 fails", "PWD=/"]
        {
            assert!(environment.lines().any(|found| found == line), "{line}: {environment}");
        }
        assert!(!environment.contains("CARGO"), "{environment}");
    }

    #[tokio::test]
    async fn a_failure_tells_its_last_words_and_no_arguments() {
        for (script, expected) in [
            ("echo out; echo err canary >&2 | true; exit 3", "exit status: 3"),
            ("exec 0<&-; sleep 0.1; echo said on stdout; exit 1", "said on stdout"),
            ("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1", "line 2999"),
            ("kill -9 $$", "signal: 9"),
        ] {
            // More than a pipe holds, which not all of them read.
            let error = shell(script).tell(&event(100_000)).await.unwrap_err();
            let told = format!("{error} {}", error.causes().join(" "));
            assert!(told.starts_with("sh failed") && told.contains(expected) && told.len() < 5000, "{script}: {told}");
            assert!(!told.contains("while"), "{told}");
        }
        let error =
            CommandHook::new(vec!["/nonexistent/alert".to_owned(), "canary".to_owned()]).unwrap().tell(&event(4)).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/alert") && !format!("{error:?}").contains("canary"), "{error:?}");
        assert!(CommandHook::new(Vec::new()).is_err());
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_does_not_hold_it_up() {
        shell("sleep 600 & echo $! > /dev/null; trap 'kill $!' EXIT; exit 0").tell(&event(4)).await.unwrap();
    }

    #[tokio::test]
    async fn when_dropped_its_whole_group_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let hook = shell(&format!("sleep 600 & echo $! > {0}/child.tmp; mv {0}/child.tmp {0}/child; wait", folder.path().display()));
        let child = folder.path().join("child");
        let document = event(4);
        {
            let telling = hook.tell(&document);
            tokio::pin!(telling);
            while !child.exists() {
                assert!(tokio::time::timeout(Duration::from_millis(10), &mut telling).await.is_err());
            }
        }
        let id = std::fs::read_to_string(child).unwrap();
        let stat = format!("/proc/{}/stat", id.trim());
        // A zombie is one that nobody has reaped yet.
        let lives = || std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "));
        for _ in 0..6000 {
            if !lives() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it still runs: {id}");
    }
}
