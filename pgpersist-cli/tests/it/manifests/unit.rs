//! `examples/systemd/pgpersist.service`: systemd understands it, and it says of the program what is so.

use std::process::Command;

use crate::manifests::{stop_timeout, text};
use crate::support::scratch::{Run, Scratch};

const UNIT: &str = "systemd/pgpersist.service";

/// The options of the unit that systemd of 2022 (version 250) or older knows; see `systemd.directives(7)`.
const KNOWN: &[&str] = &[
    "After",
    "CapabilityBoundingSet",
    "Description",
    "Documentation",
    "Environment",
    "ExecReload",
    "ExecStart",
    "Group",
    "KillMode",
    "KillSignal",
    "LockPersonality",
    "NoNewPrivileges",
    "OOMPolicy",
    "OOMScoreAdjust",
    "PrivateDevices",
    "PrivateTmp",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectSystem",
    "ReadWritePaths",
    "RequiresMountsFor",
    "Restart",
    "RestartPreventExitStatus",
    "RestartSec",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "User",
    "WantedBy",
    "Wants",
    "WatchdogSec",
];

/// The options, in order; some are there more than once.
fn options() -> Vec<(String, String)> {
    let text = text(UNIT);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    lines.map(|line| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap()).collect()
}

#[track_caller]
fn option(key: &str) -> Vec<String> {
    let found: Vec<String> = options().into_iter().filter(|(name, _)| name == key).map(|(_, value)| value).collect();
    assert_eq!(found.len(), 1, "{key}");
    found[0].split(' ').map(str::to_owned).collect()
}

/// What `systemd-analyze verify` says of a unit; `None` where there is none.
fn verify(unit: &str) -> Option<String> {
    let scratch = Scratch::new();
    // Where the program is installed is not this machine's matter.
    scratch.write("pgpersist.service", &unit.replace("/usr/local/bin/pgpersist", "/bin/true"));
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(scratch.join("pgpersist.service")).output().ok()?;
    let said = Run::from(output).stderr;
    // It looks at what the unit wants, too, which is this machine's.
    Some(said.lines().filter(|line| line.contains("pgpersist")).collect::<Vec<_>>().join("\n"))
}

#[test]
fn systemd_understands_every_line() {
    for (key, _) in options() {
        assert!(KNOWN.contains(&key.as_str()), "{key}");
    }
    let Some(said) = verify(&text(UNIT)) else { return };
    assert_eq!(said, "");
    // It does see mistakes.
    let said = verify(&text(UNIT).replace("KillMode=", "KillMood=")).unwrap();
    assert!(said.contains("KillMood"), "{said}");
}

#[test]
fn it_waits_restarts_and_writes_as_the_program_needs() {
    let start = option("ExecStart");
    let patience: u32 = option("TimeoutStopSec")[0].parse().unwrap();
    assert!(patience >= stop_timeout(&start) + 10);
    // Time is asked for while it starts, and the loop turns every few seconds.
    assert_eq!(option("Type"), ["notify"]);
    assert!(option("WatchdogSec")[0].parse::<u32>().unwrap() >= 30);
    // The exit codes of `run` that a restart cannot help with: docs/contract.md.
    assert_eq!(option("RestartPreventExitStatus"), ["1", "2", "4", "5", "7"]);
    let scratch = Scratch::new();
    let configuration = text("systemd/pgpersist.toml");
    let show = scratch.write("pgpersist.toml", &configuration);
    let shown = scratch.run(&["config", "show", "--json", "--config", show.to_str().unwrap()], &[]).done().stdout;
    for place in option("RequiresMountsFor") {
        assert!(
            shown.contains(&format!("\"{place}\"")) && place.starts_with(&format!("{}/", option("ReadWritePaths")[0])),
            "{place}: {shown}"
        );
    }
    scratch.write("pgpersist.toml", &configuration.replace("/app/", "{dir}/app/"));
    let arguments: Vec<&str> = start[1..].iter().map(String::as_str).collect();
    let plan = scratch.run(&[&arguments[..], &["--dry-run", "--allow-ephemeral"]].concat(), &[]).done();
    for step in ["create a cluster", "15 2 * * *", "0 4 * * 0", "answer HTTP on 127.0.0.1:9432"] {
        assert!(plan.stdout.contains(step), "{step}: {plan:?}");
    }
}
