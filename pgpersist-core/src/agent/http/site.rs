//! What all pages know: the cluster, what its agent knows of it, who may see what, and the answers that are kept.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::agent::http::access::Rule;
use crate::agent::http::counts::Counts;
use crate::agent::http::kept::Kept;
use crate::agent::http::options::HttpOptions;
use crate::agent::http::{readiness, status_page};
use crate::agent::reporter::Reporter;
use crate::agent::status::AgentStatus;
use crate::error::Result;
use crate::health::checks::standard::HealthOptions;
use crate::report::overview::Overview;
use crate::retention::Retention;
use crate::server::cluster::Cluster;

/// What one configuration of a listener answers from.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) status: watch::Receiver<AgentStatus>,
    pub(crate) health: HealthOptions,
    pub(crate) retention: Retention,
    pub(crate) rule: Rule,
    pub(crate) counts: Arc<Counts>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) overview: Kept<Overview>,
    /// The right to wait for a report or an overview, which fewer have than may be connected: probes never wait behind them.
    pub(crate) waiting: Semaphore,
    pub(crate) readiness: Kept<Result<()>>,
}

impl Site {
    pub(crate) fn new(
        cluster: Cluster,
        options: &HttpOptions,
        status: watch::Receiver<AgentStatus>,
        counts: Arc<Counts>,
        reporter: Arc<Reporter>,
    ) -> Self {
        Self {
            cluster,
            status,
            health: options.health.clone(),
            retention: options.retention,
            rule: Rule::new(options.listen, options.token.clone()),
            counts,
            reporter,
            overview: Kept::new(status_page::LASTS),
            waiting: Semaphore::new((options.limits.connections / 16).max(1)),
            readiness: Kept::new(readiness::LASTS),
        }
    }
}
