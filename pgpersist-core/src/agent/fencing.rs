//! Putting up a fence and taking it away, together with the agent: the server goes down and comes up, and the agent stays.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::agent::supervising;
use crate::clock::{Clock, SystemClock};
use crate::data_directory::fence::{self, Fence};
use crate::error::{Error, Result};
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::{Cluster, ServerState, ServerStatus};
use crate::server::stop;
use crate::workers;

/// How often is looked whether an agent has done its part.
const POLL: Duration = Duration::from_millis(100);
/// What an agent gets on top of the time for a clean shutdown: it gives an immediate one some time after it.
const IMMEDIATE: Duration = Duration::from_secs(30);

/// What became of a fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FenceReport {
    /// The cluster after it.
    #[serde(flatten)]
    pub status: ServerStatus,
    /// Putting up: whether a server was shut down. Taking away: whether there was a fence.
    pub changed: bool,
    /// The fence that stands; nothing where it was taken away.
    pub fence: Option<Fence>,
}

/// Puts up a fence, and waits until the server is down: its agent shuts it down, or this does where there is none. One that
/// stands already stays as it is, with its reason. It outlives this process, its machine and an error on the way.
///
/// # Errors
/// The state's own where there is no cluster; [`Error::File`]; [`Error::Deadline`] when the agent does not shut its server down
/// within `timeout` and some time for an immediate shutdown; without an agent, as [`stop::stop`].
pub async fn fence(cluster: &Cluster, reason: Option<String>, timeout: Duration) -> Result<FenceReport> {
    cluster.directory().state().await?.into_cluster(cluster.path())?;
    let own = cluster.directory().own_folder().clone();
    let wanted = Fence { since: SystemClock.now(), reason };
    let standing = workers::run(move || fence::put(&own, wanted)).await?;
    let changed = shut_down(cluster, timeout).await?;
    Ok(FenceReport { status: cluster.status().await?, changed, fence: Some(standing) })
}

/// Takes the fence away, and waits until an agent that waited for it has its server up. One that takes longer than `timeout` is
/// a warning: the fence is gone. Without an agent nothing is started.
///
/// # Errors
/// The state's own where there is no cluster; [`Error::File`].
pub async fn unfence(cluster: &Cluster, timeout: Duration, progress: &dyn ProgressSink) -> Result<FenceReport> {
    cluster.directory().state().await?.into_cluster(cluster.path())?;
    let own = cluster.directory().own_folder().clone();
    let changed = workers::run(move || fence::remove(&own)).await?;
    let deadline = Instant::now() + timeout;
    while changed && supervising::is_there(cluster).await? && cluster.status().await?.state != ServerState::Running {
        if Instant::now() > deadline {
            let late = "the fence is gone; the server does not accept connections yet: look at what its agent says";
            progress.event(Event::Warning(late.to_owned()));
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(FenceReport { status: cluster.status().await?, changed, fence: None })
}

/// Waits until the agent has shut the server down, or does it where there is none; whether there was one to shut down.
async fn shut_down(cluster: &Cluster, timeout: Duration) -> Result<bool> {
    let ran = cluster.presence().await?.running().is_some();
    let deadline = Instant::now() + timeout + IMMEDIATE;
    while supervising::is_there(cluster).await? {
        if cluster.presence().await?.running().is_none() {
            return Ok(ran);
        }
        if Instant::now() > deadline {
            return Err(Error::Deadline {
                what: "the fence stands, but the agent has not shut its server down".to_owned(),
                after: timeout,
                remedy: Some("look at what the agent says; `pgpersist stop` ends both".to_owned()),
            });
        }
        tokio::time::sleep(POLL).await;
    }
    stop::stop(cluster, timeout).await.map(|report| report.changed)
}
