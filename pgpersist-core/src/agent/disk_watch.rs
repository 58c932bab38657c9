//! Looks at the room on the volumes every few minutes: remembers it for the forecast, and takes in ballast.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::agent::log::{Told, with_causes};
use crate::agent::status::{AgentStatus, Phase};
use crate::clock::{Clock, SystemClock};
use crate::data_directory::ballast;
use crate::error::Result;
use crate::health::space::history;
use crate::pg::log_line::Severity;
use crate::server::cluster::Cluster;
use crate::wording::size;
use crate::workers;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(600);

/// What is watched on the volumes of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskOptions {
    /// The stores that are folders.
    pub stores: Vec<PathBuf>,
    /// How much ballast is kept on the data directory's volume, to be given back when that is full; none without it.
    pub ballast_bytes: Option<u64>,
}

impl DiskOptions {
    /// Watches these stores beside the data, and keeps so much ballast.
    pub fn new(stores: Vec<PathBuf>, ballast_bytes: Option<u64>) -> Self {
        Self { stores, ballast_bytes }
    }
}

/// What is to be watched as long as nothing else is said.
pub(crate) type Watched = watch::Sender<(Cluster, DiskOptions)>;

/// Looks for ever, whenever a server is ready.
pub(crate) async fn watch(
    watched: watch::Receiver<(Cluster, DiskOptions)>,
    mut status: watch::Receiver<AgentStatus>,
    told: Told,
) -> Infallible {
    let mut watched = watched;
    let mut failed = false;
    loop {
        // On the way up nobody is to wait for us, and without a server nothing grows.
        if status.wait_for(|status| status.phase == Phase::Ready).await.is_err() {
            std::future::pending::<()>().await;
        }
        let (cluster, options) = watched.borrow_and_update().clone();
        let looked = workers::run(move || look(&cluster, &options)).await;
        match &looked {
            Ok(news) => news.iter().for_each(|news| told.say(Severity::Log, news)),
            // A volume that does not answer is told by others; this is said once.
            Err(error) if !failed => told.say(Severity::Warning, &format!("disk watch: {}", with_causes(error))),
            Err(_) => {}
        }
        failed = looked.is_err();
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            changed = watched.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// One look. Blocking. Returns what somebody should hear of.
fn look(cluster: &Cluster, options: &DiskOptions) -> Result<Option<String>> {
    let own = cluster.directory().own_folder();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log_file = cluster.log_file();
    let log_directory = log_file.path().parent().unwrap_or(cluster.path());
    let before = ballast::size_bytes(own)?;
    let news = match options.ballast_bytes {
        Some(bytes) if before == Some(bytes) => None,
        Some(bytes) if ballast::take_in(own, bytes)? => Some(format!("{} of ballast are taken in", size(bytes))),
        Some(bytes) => {
            let kept = if before.is_some() { "another size stays" } else { "there is none" };
            Some(format!("no room for {} of ballast, which wants four times as much to be free: {kept}", size(bytes)))
        }
        None => ballast::give_back(own)?.map(|bytes| format!("{} of ballast are given back, since none is configured", size(bytes))),
    };
    // With the ballast as it is from now on: its coming and going is no growth.
    history::record(cluster.path(), own, &options.stores, log_directory, &*clock)?;
    Ok(news)
}
