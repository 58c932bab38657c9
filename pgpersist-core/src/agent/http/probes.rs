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
    match (&obstacle, status.phase) {
        (None, _) => answer(true, "ready", None, &status, access),
        (Some(_), Phase::Ready) => answer(false, "unready", obstacle, &status, access),
        (Some(_), phase) => answer(false, phase.as_str(), obstacle, &status, access),
    }
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
