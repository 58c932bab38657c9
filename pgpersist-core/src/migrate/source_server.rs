//! The source's server: who keeps it running, how to stop it so that it stays down, and whether all of it is gone.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result, Said};
use crate::migrate::debian::{self, DebianCluster};
use crate::server::cluster::Cluster;
use crate::server::process::{self, Presence};
use crate::server::{lock, stale, stop};
use crate::workers;

const PG_CTLCLUSTER: &str = "/usr/bin/pg_ctlcluster";
/// How long backends of a killed postmaster get to notice and end.
const ORPHANS_GRACE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// How a server is stopped: through whoever would start it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMethod {
    /// It belongs to a unit of systemd.
    Systemd {
        /// The unit.
        unit: String,
    },
    /// Debian's tools know it.
    PgCtlcluster {
        /// The major version, as Debian's folders have it.
        version: String,
        /// The cluster's name there.
        name: String,
    },
    /// pgpersist or a hand started it: a signal is enough.
    Signal,
}

impl StopMethod {
    /// Finds out who keeps a running server running. Blocking.
    pub(crate) fn of(pid: i32, started_by_us: bool, debian: Option<&DebianCluster>) -> Self {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if let Some(unit) = unit_of(&groups) {
            return Self::Systemd { unit };
        }
        match debian {
            Some(cluster) if !started_by_us && Path::new(PG_CTLCLUSTER).exists() => {
                Self::PgCtlcluster { version: cluster.version.clone(), name: cluster.name.clone() }
            }
            _ => Self::Signal,
        }
    }

    /// The command that people would type.
    pub(crate) fn as_command(&self) -> String {
        match self {
            Self::Systemd { unit } => format!("systemctl stop {unit}"),
            Self::PgCtlcluster { version, name } => format!("pg_ctlcluster {version} {name} stop"),
            Self::Signal => "pgpersist stop".to_owned(),
        }
    }

    fn command(&self, etc_root: &Path) -> Option<tokio::process::Command> {
        match self {
            Self::Systemd { unit } => {
                let mut command = tokio::process::Command::new("systemctl");
                command.args(["--no-ask-password", "stop", unit]);
                Some(command)
            }
            Self::PgCtlcluster { version, name } => {
                let mut command = tokio::process::Command::new(PG_CTLCLUSTER);
                command.args([version, name, "stop", "-m", "fast"]);
                if etc_root != Path::new(debian::ETC_ROOT) {
                    command.env("PG_CLUSTER_CONF_ROOT", etc_root);
                }
                Some(command)
            }
            Self::Signal => None,
        }
    }
}

/// The unit of PostgreSQL that a process belongs to, from the text of `/proc/PID/cgroup`. Units of other names, such as
/// that of a terminal or a job runner, started the server by hand and are none of our business.
fn unit_of(groups: &str) -> Option<String> {
    let parts = groups.lines().flat_map(|line| line.split('/'));
    parts.into_iter().find(|part| part.starts_with("postgres") && part.ends_with(".service")).map(str::to_owned)
}

/// Stops the source's server, so that nobody starts it again by itself.
pub(crate) async fn stop(source: &Cluster, method: &StopMethod, etc_root: &Path, timeout: Duration) -> Result<()> {
    if let Some(mut command) = method.command(etc_root) {
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(timeout, command.output()).await {
            Ok(output) => output.map_err(|e| Error::file("run the program that stops the server of", source.path(), e))?,
            Err(_) => {
                return Err(Error::Deadline {
                    what: format!("`{}` did not end", method.as_command()),
                    after: timeout,
                    remedy: Some("stop the server by hand and repeat; nothing of the source was changed".to_owned()),
                });
            }
        };
        // A unit would start it again behind our back, so only systemd itself may stop it. Debian's tools only start it.
        if !output.status.success() && matches!(method, StopMethod::Systemd { .. }) {
            return Err(Error::Program {
                program: method.as_command(),
                status: output.status.to_string(),
                said: Said(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                kind: ErrorKind::Denied,
                remedy: Some(format!("run `{}` as root, and repeat the migration", method.as_command())),
            });
        }
    }
    stop::stop(source, timeout).await.map(drop)
}

/// Makes sure that nothing runs in the source: no postmaster, none of its orphans, none in another container that we can
/// know of.
///
/// # Errors
/// `Conflict` when a server runs; as [`prove_gone`].
pub(crate) async fn ensure_quiet(source: &Cluster, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + ORPHANS_GRACE;
    loop {
        let presence = source.presence().await?;
        if let Some(pid_file) = presence.running() {
            return Err(Error::conflict(
                format!("a server runs in {} (process {}): somebody started it again", source.path().display(), pid_file.pid),
                "keep it from being started, and repeat: the migration goes on where it stopped",
            ));
        }
        let directory = source.directory().clone();
        let (orphans, held) = workers::run(move || Ok((process::working_in(directory.path()), lock::is_held(directory.as_ref())?))).await?;
        if orphans.is_empty() && !held {
            return prove_gone(source, timeout).await;
        }
        if Instant::now() >= deadline {
            return Err(Error::Deadline {
                what: format!("processes of the server in {} did not end ({orphans:?})", source.path().display()),
                after: ORPHANS_GRACE,
                remedy: Some("end them and repeat: the migration goes on where it stopped".to_owned()),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Proves that a left `postmaster.pid` is a leftover and not that of a server in another container, or refuses with the
/// evidence after it watched the source for so long. Consent to a migration is no proof: it is given before anybody knows.
///
/// # Errors
/// `Unsafe` when nothing proves it.
pub(crate) async fn prove_gone(source: &Cluster, watch: Duration) -> Result<()> {
    let Presence::Stale(pid_file) = source.presence().await? else { return Ok(()) };
    let file = source.path().join("postmaster.pid");
    stale::prove(source, &pid_file, watch, false).await.map_err(|error| match error {
        Error::Unsafe { what, remedy: Some(remedy) } if remedy.contains("--yes") => Error::refused(
            what,
            format!("if you are sure that no other machine or container uses this directory, remove {} and repeat", file.display()),
        ),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_of_postgresql_count() {
        let unit = unit_of("0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n");
        assert_eq!(unit.as_deref(), Some("postgresql@15-main.service"));
        assert_eq!(unit_of("1:name=systemd:/user.slice/user-1000.slice/session-2.scope\n0::/\n"), None);
        assert_eq!(unit_of("0::/system.slice/gitlab-runner.service\n"), None);
    }
}
