//! What the kubelet asks: does the agent live, has the server started, is it ready? One word for everybody, and for who may
//! see details why.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use crate::agent::http::access::Access;
use crate::agent::http::answers::Answer;
use crate::agent::http::readiness;
use crate::agent::http::site::Site;
use crate::agent::status::{AgentStatus, Phase};
use crate::server::recovery::RecoveryProgress;

/// An agent whose loop has not turned for so long is stuck. It turns while it waits, whatever for and however long.
const STUCK: Duration = Duration::from_secs(30);

/// The document of all three.
#[derive(Debug, Serialize)]
struct Document<'a> {
    state: &'a str,
    reason: Option<String>,
    phase: Phase,
    /// For how long it has been in this phase.
    phase_s: f64,
    pid: Option<i32>,
    restarts: u64,
    recovery: Option<RecoveryProgress>,
}

/// `/livez`.
pub(crate) fn live(site: &Site, access: Access) -> Answer {
    let status = site.status.borrow().clone();
    let silent = status.beat.elapsed();
    match silent < STUCK {
        true => answer(true, "alive", None, &status, access),
        false => answer(false, "stuck", Some(format!("the agent's loop has not turned for {} s", silent.as_secs())), &status, access),
    }
}

/// `/startupz`.
pub(crate) fn started(site: &Site, access: Access) -> Answer {
    let status = site.status.borrow().clone();
    match status.has_started {
        true => answer(true, "started", None, &status, access),
        false => {
            let reason = status.recovery.map_or_else(|| format!("the server is {}", status.phase.as_str()), |recovery| recovery.describe());
            answer(false, status.phase.as_str(), Some(reason), &status, access)
        }
    }
}

/// `/readyz`.
pub(crate) async fn ready(site: &Site, access: Access) -> Answer {
    let obstacle = readiness::obstacle(site).await;
    let status = site.status.borrow().clone();
    answer(obstacle.is_none(), readiness::word(obstacle.as_deref(), status.phase), obstacle, &status, access)
}

fn answer(is_well: bool, state: &str, reason: Option<String>, status: &AgentStatus, access: Access) -> Answer {
    let code = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if access != Access::Details {
        return Answer::text(code, state);
    }
    let phase_s = status.since.elapsed().as_millis() as f64 / 1000.0;
    let AgentStatus { phase, pid, restarts, recovery, .. } = *status;
    Answer::json(code, &Document { state, reason, phase, phase_s, pid, restarts, recovery })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use tokio::sync::watch;

    use super::*;
    use crate::agent::http::options::HttpOptions;
    use crate::agent::reporter::Reporter;
    use crate::data_directory::local::LocalDataDirectory;
    use crate::health::checks::standard::HealthOptions;
    use crate::pg::lsn::Lsn;
    use crate::server::cluster::{Cluster, ClusterOptions};
    use crate::server::installation::InstallationSearch;

    fn site(status: AgentStatus) -> Site {
        let directory = Arc::new(LocalDataDirectory::open("/nonexistent").unwrap());
        let cluster = Cluster::new(directory, InstallationSearch::from_environment(None), ClusterOptions::default());
        let options = HttpOptions::new("127.0.0.1:0".parse().unwrap(), HealthOptions::new(cluster.clone()));
        Site::new(cluster, &options, watch::channel(status).1, Arc::default(), Arc::new(Reporter::new()))
    }

    #[test]
    fn an_agent_is_stuck_when_its_loop_does_not_turn_and_never_for_its_phase() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        for phase in Phase::ALL {
            let waits = AgentStatus { phase, since: ago(4000), ..AgentStatus::new() };
            assert_eq!(live(&site(waits.clone()), Access::Bare), Answer::text(StatusCode::OK, "alive"));
            let stuck = AgentStatus { beat: ago(31), ..waits };
            assert_eq!(live(&site(stuck), Access::Bare), Answer::text(StatusCode::SERVICE_UNAVAILABLE, "stuck"));
        }
    }

    #[test]
    fn a_start_is_over_when_the_server_was_ready_once() {
        let recovery = RecoveryProgress { from: Lsn(0), replayed: Lsn(1), end: None, bytes_per_s: None, eta_s: None, elapsed_s: 7.0 };
        let status = AgentStatus { phase: Phase::Recovering, recovery: Some(recovery), ..AgentStatus::new() };
        assert_eq!(started(&site(status.clone()), Access::Bare), Answer::text(StatusCode::SERVICE_UNAVAILABLE, "recovering"));
        assert_eq!(started(&site(status.clone()), Access::Details).status, StatusCode::SERVICE_UNAVAILABLE);
        // A recovery after a crash, later, is no start any more.
        let later = AgentStatus { has_started: true, ..status };
        assert_eq!(started(&site(later), Access::Mistaken), Answer::text(StatusCode::OK, "started"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_even_up_is_not_asked() {
        for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Ready) {
            let site = site(AgentStatus { phase, ..AgentStatus::new() });
            assert_eq!(ready(&site, Access::Bare).await, Answer::text(StatusCode::SERVICE_UNAVAILABLE, phase.as_str()));
        }
        // One that is said to be up, and of which there is no trace.
        let site = site(AgentStatus { phase: Phase::Ready, ..AgentStatus::new() });
        assert_eq!(ready(&site, Access::Bare).await, Answer::text(StatusCode::SERVICE_UNAVAILABLE, "unready"));
    }
}
