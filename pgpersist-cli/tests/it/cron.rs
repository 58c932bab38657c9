//! `examples/cron`: its lines, as they stand there, run the way cron runs them, against a real cluster.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::support::scratch::Scratch;

const CRONTAB: &str = include_str!("../../../examples/cron/crontab");
const CONFIGURATION: &str = include_str!("../../../examples/cron/pgpersist.toml");

/// A crontab as cron understands it (`crontab(5)`): what it sets, and its command lines.
struct Crontab {
    environment: Vec<(String, String)>,
    commands: Vec<String>,
}

impl Crontab {
    fn parse(text: &str) -> Self {
        let mut crontab = Self { environment: Vec::new(), commands: Vec::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let name = line.split('=').next().unwrap_or_default();
            if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                crontab.environment.push((name.to_owned(), line[name.len() + 1..].to_owned()));
                continue;
            }
            let mut rest = line;
            for _ in 0..5 {
                let (field, after) = rest.split_once(' ').expect("five fields of time come before a command");
                assert!(field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c)), "{field} is no time");
                rest = after.trim_start();
            }
            assert!(!rest.contains('%'), "cron makes a line break of a per cent sign: {rest}");
            crontab.commands.push(rest.to_owned());
        }
        crontab
    }

    /// Runs a command as cron does: by SHELL, as the cluster's user, in an environment of the crontab's variables and little else. The
    /// paths of the example's machine are replaced by those of the scratch folder.
    fn run(&self, command: &str, scratch: &Scratch) -> Output {
        let shell = self.environment.iter().find(|(name, _)| name == "SHELL").map_or("/bin/sh", |(_, shell)| shell);
        let mut cron = if rustix::process::geteuid().is_root() {
            let mut cron = Command::new("setpriv");
            cron.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", shell]);
            cron
        } else {
            Command::new(shell)
        };
        cron.arg("-c")
            .arg(command)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .env("HOME", "/nonexistent")
            .env("LOGNAME", "postgres");
        for (name, value) in &self.environment {
            let value = value.replace("/usr/local/bin", &scratch.fill("{dir}/bin")).replace("/etc/pgpersist/", &scratch.fill("{dir}/"));
            cron.env(name, value);
        }
        cron.output().unwrap()
    }
}

/// Stops the server, whatever became of the test.
struct Stopped<'a>(&'a Scratch);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.run(&["--config", "{dir}/pgpersist.toml", "stop"], &[]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn cron_dumps_prunes_and_looks_and_is_silent_while_all_is_well() {
    let crontab = Crontab::parse(CRONTAB);
    let [dump_and_prune, health] = &crontab.commands[..] else { panic!("two lines: {:?}", crontab.commands) };
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("bin")).unwrap();
    let program = scratch.path().join("bin/pgpersist");
    std::fs::copy(env!("CARGO_BIN_EXE_pgpersist"), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    // No port and no shared folder of sockets: another server may use both.
    let local =
        CONFIGURATION.replace("/app/", "{dir}/app/") + "\n[cluster.settings]\nlisten_addresses = ''\nunix_socket_directories = ''\n";
    scratch.write("pgpersist.toml", &local);
    let _stopped = Stopped(&scratch);
    let run = |words: &[&str]| scratch.run(&[&["--config", "{dir}/pgpersist.toml"], words].concat(), &[]);
    assert_eq!(run(&["init", "--allow-ephemeral"]).code, Some(0));
    let start = run(&["start"]);
    assert_eq!(start.code, Some(0), "{start:?}");

    let dumped = crontab.run(dump_and_prune, &scratch);
    assert!(dumped.status.success(), "{}", text(&dumped.stderr));
    assert_eq!((text(&dumped.stdout), text(&dumped.stderr)), (String::new(), String::new()));
    assert_eq!(run(&["list", "--json"]).json()["dumps"].as_array().map(Vec::len), Some(1));

    let looked = crontab.run(health, &scratch);
    let said = text(&looked.stdout);
    // A scratch folder of a container does not outlive it, and health is right to say so.
    assert!(looked.status.success() && said.is_empty() || said.contains("✗ Placement"), "{said}{}", text(&looked.stderr));

    assert_eq!(run(&["stop"]).code, Some(0));
    let looked = crontab.run(health, &scratch);
    assert!(!looked.status.success() && text(&looked.stdout).contains("✗ Server"), "{}", text(&looked.stdout));
    let dumped = crontab.run(dump_and_prune, &scratch);
    assert!(!dumped.status.success() && text(&dumped.stderr).starts_with("error: "), "{}", text(&dumped.stderr));
}
