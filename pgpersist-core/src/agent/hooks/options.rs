//! Who is told, and how soon.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::hooks::Hook;
use crate::agent::hooks::heartbeat::Heartbeat;
use crate::health::checks::standard::HealthOptions;

/// Who is told, and how soon.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HooksOptions {
    /// What is looked at; its `cluster_name` is told with each event.
    pub health: HealthOptions,
    /// Who is told of failures and recoveries. Each name is there once.
    pub hooks: Vec<Arc<dyn Hook>>,
    /// Who is called while all is well.
    pub heartbeat: Option<Heartbeat>,
    /// How often the cluster's health is looked at. What fails is told when it fails twice in a row, the second look following
    /// after some seconds.
    pub interval: Duration,
    /// How long a hook may take for one event, and a call of the heartbeat.
    pub deadline: Duration,
}

impl HooksOptions {
    /// Nobody yet, a look each minute, 30 s for each event.
    pub fn new(health: HealthOptions) -> Self {
        Self { health, hooks: Vec::new(), heartbeat: None, interval: Duration::from_secs(60), deadline: Duration::from_secs(30) }
    }
}
