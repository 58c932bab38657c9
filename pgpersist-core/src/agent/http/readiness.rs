//! Whether the server answers a query: asked for real, but not more often than once a second.

use std::time::Duration;

use crate::agent::http::site::Site;
use crate::agent::status::Phase;
use crate::error::{Error, Result};
use crate::server::cluster::Cluster;
use crate::server::session::Session;

/// How long an answer stays: probes cannot hammer the server.
pub(crate) const LASTS: Duration = Duration::from_secs(1);

/// How long the server has for its answer. Who asks waits no longer, whatever hangs.
const DEADLINE: Duration = Duration::from_secs(2);

/// What keeps the server from being ready, in one line; `None` when nothing does.
pub(crate) async fn obstacle(site: &Site) -> Option<String> {
    let phase = site.status.borrow().phase;
    if phase != Phase::Ready {
        return Some(format!("the server is {}", phase.as_str()));
    }
    let asked = site.readiness.get(|| ask(site.cluster.clone()));
    match tokio::time::timeout(DEADLINE, asked).await {
        Err(_) => Some(format!("the server did not answer within {} s", DEADLINE.as_secs())),
        Ok(None) => Some("the question failed".to_owned()),
        Ok(Some(found)) => match &found.value {
            Ok(()) => None,
            Err(error) => Some(error.causes().last().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))),
        },
    }
}

/// The bare word for a server that this keeps from being ready.
pub(crate) fn word(obstacle: Option<&str>, phase: Phase) -> &'static str {
    match (obstacle, phase) {
        (None, _) => "ready",
        (Some(_), Phase::Ready) => "unready",
        (Some(_), phase) => phase.as_str(),
    }
}

/// One query in a session of its own, as a client would send it.
async fn ask(cluster: Cluster) -> Result<()> {
    // It reads files, and on a volume that hangs it does not come back; then nobody asks a second time.
    let connection = cluster.connection("postgres").await?;
    let answer = async {
        let session = Session::connect(&connection, DEADLINE).await?;
        session.text("ask the server", "SELECT 1").await
    };
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => answer.map(|_| ()),
        Err(_) => Err(Error::Deadline { what: "the server did not answer".to_owned(), after: DEADLINE, remedy: None }),
    }
}
