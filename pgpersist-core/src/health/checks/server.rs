//! `server`: does its process run, since when, and under our lock?

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::data_directory::fence;
use crate::error::Result;
use crate::health::checks::judgement::not_known;
use crate::health::{Finding, HealthCheck};
use crate::server::cluster::{Cluster, ServerState, ServerStatus};
use crate::server::lock;
use crate::wording;
use crate::workers;

/// The name of its finding.
pub const NAME: &str = "server";

/// Looks at the process; whether it answers is asked by `connection`.
#[derive(Debug, Clone)]
pub struct ServerCheck {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl ServerCheck {
    /// A check of the server of this cluster.
    pub fn new(cluster: Cluster, clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        Self { cluster, clock, deadline }
    }

    async fn look(&self) -> Result<Seen> {
        let status = self.cluster.status().await?;
        // The server may have ended since: then there is simply no uptime to tell.
        let presence = self.cluster.presence().await?;
        let started_at = presence.running().map(|pid_file| pid_file.started_at);
        let directory = self.cluster.directory().clone();
        let (held, is_fenced) =
            workers::run(move || Ok((lock::is_held(directory.as_ref()), fence::read(directory.own_folder())?.is_some()))).await?;
        let uptime = started_at.map(|at| Duration::from_secs((self.clock.now().unix_timestamp() - at).max(0).unsigned_abs()));
        // Where the lock may not be opened, nothing is known about it.
        Ok(Seen { uptime, holds_lock: held.ok(), is_fenced, status })
    }
}

#[derive(Debug)]
struct Seen {
    status: ServerStatus,
    uptime: Option<Duration>,
    holds_lock: Option<bool>,
    is_fenced: bool,
}

#[async_trait]
impl HealthCheck for ServerCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        match self.look().await {
            Ok(seen) => judge(&seen),
            Err(error) => not_known(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(seen: &Seen) -> Finding {
    let status = &seen.status;
    let process = match (status.pid, seen.uptime) {
        (Some(pid), Some(uptime)) => format!(" (pid {pid}, up {})", wording::duration(uptime)),
        (Some(pid), None) => format!(" (pid {pid})"),
        _ => String::new(),
    };
    let log = status.log_file.display();
    let finding = match status.state {
        ServerState::Running if seen.holds_lock == Some(false) => Finding::warn(
            NAME,
            format!("running{process}, but started by hand, so nothing keeps a second container from starting another on the same files"),
            "restart it under pgpersist's lock: `pgpersist stop`, then `pgpersist start`",
        ),
        ServerState::Running => Finding::pass(NAME, format!("running{process}")),
        ServerState::Recovering => {
            Finding::warn(NAME, format!("recovering{process}"), format!("wait: it goes on by itself; {log} shows how far it is"))
        }
        ServerState::Starting => Finding::warn(NAME, format!("starting{process}"), format!("wait, and look at {log}")),
        ServerState::Stopping => {
            Finding::fail(NAME, format!("stopping{process}"), "start it again with `pgpersist start` once it has stopped")
        }
        ServerState::Stopped => {
            let detail = status.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
            let remedy = match (seen.holds_lock, seen.is_fenced) {
                (_, true) => "look at what it was fenced for; when all is well, run `pgpersist unfence`".to_owned(),
                (Some(true), false) => "stop the container that runs it, or wait until its last process has ended".to_owned(),
                (_, false) => format!("start it with `pgpersist start`; {log} may say why it ended"),
            };
            Finding::fail(NAME, format!("not running{detail}"), remedy)
        }
        ServerState::Absent | ServerState::Empty | ServerState::HalfMade | ServerState::Foreign | ServerState::Damaged => {
            Finding::fail(NAME, "not running: there is no cluster to run", "see the finding of the data directory")
        }
    };
    let finding = finding.observing("state", serde_json::to_value(status.state).unwrap_or_default()).observing("pid", status.pid);
    let finding =
        finding.observing("port", status.port).observing("version", status.version.clone()).observing("holds_lock", seen.holds_lock);
    match seen.uptime {
        Some(uptime) => finding.observing("uptime_s", uptime.as_secs()),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    fn seen(state: ServerState) -> Seen {
        let running = !matches!(state, ServerState::Stopped | ServerState::Absent);
        Seen {
            status: ServerStatus {
                state,
                detail: None,
                pid: running.then_some(412),
                port: running.then_some(5432),
                socket_directory: None,
                version: Some("15.8".into()),
                system_identifier: None,
                log_file: "/app/log/postgresql.log".into(),
                data_directory: "/app/pgdata".into(),
            },
            uptime: running.then_some(Duration::from_secs(273_600)),
            holds_lock: Some(running),
            is_fenced: false,
        }
    }

    #[test]
    fn a_running_server_says_since_when() {
        let finding = judge(&seen(ServerState::Running));
        assert_eq!((finding.status, finding.summary.as_str()), (Status::Pass, "running (pid 412, up 3 d 4 h)"));
        assert_eq!((&finding.observed["state"], &finding.observed["uptime_s"]), (&"running".into(), &273_600.into()));
    }

    #[test]
    fn each_other_state_has_its_status_and_remedy() {
        for (state, expected) in [
            (ServerState::Recovering, Status::Warn),
            (ServerState::Starting, Status::Warn),
            (ServerState::Stopping, Status::Fail),
            (ServerState::Stopped, Status::Fail),
            (ServerState::Absent, Status::Fail),
            (ServerState::Damaged, Status::Fail),
        ] {
            let finding = judge(&seen(state));
            assert!(finding.status == expected && finding.remedy.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn a_server_without_our_lock_is_a_warning_and_one_unseen_that_holds_it_a_failure() {
        let by_hand = Seen { holds_lock: Some(false), ..seen(ServerState::Running) };
        assert!(judge(&by_hand).status == Status::Warn && judge(&by_hand).summary.contains("by hand"));
        let elsewhere = Seen { holds_lock: Some(true), ..seen(ServerState::Stopped) };
        assert!(judge(&elsewhere).remedy.unwrap().contains("container"));
    }
}
