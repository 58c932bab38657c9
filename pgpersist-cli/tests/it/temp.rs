//! `temp`: the command finds the cluster, its end is passed on, and nothing stays.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::support::scratch::Scratch;

/// Generous: on a loaded machine an end takes a second.
const END: Duration = Duration::from_secs(60);

/// `pgpersist temp …`, with its clusters and its templates below the scratch folder.
fn temp(scratch: &Scratch, arguments: &[&str]) -> Command {
    let cache = scratch.folder("cache");
    let mut command = scratch.command();
    command.arg("temp").args(arguments).env("TMPDIR", scratch.path()).env("PGPERSIST_CACHE", cache);
    command.env("PGSSLMODE", "require").env("PGSERVICE", "other");
    command
}

/// What lies in the scratch folder by the name of a throw-away cluster.
fn clusters(scratch: &Scratch) -> Vec<PathBuf> {
    clusters_in(scratch.path())
}

fn clusters_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("pgpersist-temp-")).collect()
}

fn wait_until_gone(scratch: &Scratch) {
    let deadline = Instant::now() + END;
    while !clusters(scratch).is_empty() {
        assert!(Instant::now() < deadline, "{:?} stays", clusters(scratch));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A `temp` that runs; killed when the test fails.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_command_finds_the_cluster_by_its_environment() {
    for options in [&[][..], &["--tcp"], &["--durable"]] {
        let scratch = Scratch::new();
        let script = "psql -XAtc \"SELECT 'plain ' || current_user || ' ' || current_database()\" && psql -XAt \"$DATABASE_URL\" -c \"SELECT 'url ' || coalesce(host(inet_server_addr()), 'socket'), current_setting('fsync')\"";
        let output = temp(&scratch, &[options, &["--", "sh", "-c", script]].concat()).output().unwrap();
        let (address, fsync) = match options {
            ["--tcp"] => ("127.0.0.1", "off"),
            ["--durable"] => ("socket", "on"),
            _ => ("socket", "off"),
        };
        let expected = format!("plain postgres postgres\nurl {address}|{fsync}\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success());
        assert_eq!(clusters(&scratch), Vec::<PathBuf>::new());
    }
}

#[test]
fn the_end_of_the_command_is_passed_on() {
    let scratch = Scratch::new();
    let code = |script: &str| temp(&scratch, &["--", "sh", "-c", script]).output().unwrap().status.code();
    assert_eq!(code("exit 42"), Some(42));
    assert_eq!(code("kill -TERM $$"), Some(143));
    assert_eq!(temp(&scratch, &["--", "/nowhere/at/all"]).output().unwrap().status.code(), Some(127));
    assert_eq!(temp(&scratch, &["--", "/"]).output().unwrap().status.code(), Some(126));
    assert_eq!(clusters(&scratch), Vec::<PathBuf>::new());
}

#[test]
fn a_signal_reaches_the_command_which_decides() {
    let scratch = Scratch::new();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = Running::start(temp(&scratch, &["--", "sh", "-c", script]));
    assert_eq!(running.line(), "ready\n");
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(7));
    assert_eq!(clusters(&scratch), Vec::<PathBuf>::new());
}

#[test]
fn without_a_command_it_stays_until_its_reader_is_gone() {
    let scratch = Scratch::new();
    let mut running = Running::start(temp(&scratch, &["--json"]));
    // The document ends where the process goes on: read as much as is one.
    let mut text = Vec::new();
    let document: Value = loop {
        let mut byte = [0];
        assert_eq!(running.0.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "no document");
        text.push(byte[0]);
        if let Ok(document) = serde_json::from_slice(&text) {
            break document;
        }
    };
    for field in ["host", "port", "user", "database", "url", "data_directory"] {
        assert!(!document[field].is_null(), "{field} is missing: {document}");
    }
    let answer = Command::new("psql").args(["-XAtc", "SELECT 1", document["url"].as_str().unwrap()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "1\n", "{}", String::from_utf8_lossy(&answer.stderr));
    drop(running.0.stdin.take());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert_eq!(clusters(&scratch), Vec::<PathBuf>::new());
}

#[test]
fn what_it_prints_is_understood_by_a_shell_and_a_signal_ends_it() {
    let scratch = Scratch::new();
    let mut command = temp(&scratch, &["--tcp"]);
    // As in the background of a script: stdin says nothing.
    let mut running = Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let lines: Vec<String> = BufReader::new(running.0.stdout.as_mut().unwrap()).lines().take(6).map(Result::unwrap).collect();
    let script = format!("{}\npsql -XAtc 'SELECT 2'", lines.join("\n"));
    let answer = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "2\n", "{script}: {}", String::from_utf8_lossy(&answer.stderr));
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert_eq!(clusters(&scratch), Vec::<PathBuf>::new());
}

#[test]
fn nothing_stays_when_it_is_killed_with_its_whole_group() {
    let scratch = Scratch::new();
    let mut command = temp(&scratch, &["--", "sh", "-c", "echo ready; sleep 600"]);
    command.process_group(0);
    let mut running = Running::start(command);
    assert_eq!(running.line(), "ready\n");
    assert_eq!(clusters(&scratch).len(), 1);
    kill_process_group(running.pid(), Signal::KILL).unwrap();
    assert_eq!(running.0.wait().unwrap().signal(), Some(9));
    wait_until_gone(&scratch);
}

#[test]
fn where_every_folder_is_open_to_others_its_template_goes_with_it() {
    let scratch = Scratch::new();
    let open = scratch.folder("open");
    // As a volume of a pod: no sticky bit keeps others from exchanging what is ours.
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let environment = [("TMPDIR", "{dir}/open"), ("HOME", "/nonexistent")];
    let run = scratch.run_as_user(&["temp", "--", "psql", "-XAtc", "SELECT 'answered'"], &environment).done();
    assert_eq!(run.stdout, "answered\n");
    assert_eq!(clusters_in(&open), Vec::<PathBuf>::new());
}

#[test]
fn kept_files_are_told_and_stay() {
    let scratch = Scratch::new();
    let output = temp(&scratch, &["--keep", "--", "true"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let kept = clusters(&scratch);
    assert_eq!(kept.len(), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains(kept[0].to_str().unwrap()), "{output:?}");
    assert!(kept[0].join("data/PG_VERSION").exists());
}
