//! How an agent goes about it.

use std::time::Duration;

use crate::agent::disk_watch::DiskOptions;
use crate::agent::hooks::options::HooksOptions;
use crate::agent::http::options::HttpOptions;
use crate::agent::jobs::ScheduledJob;
use crate::agent::restart_policy::RestartPolicy;
use crate::init::ready::InitOptions;
use crate::logical::shelf::Shelf;

/// How an agent goes about it.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// How the data directory is made ready.
    pub init: InitOptions,
    /// Where the cluster's dumps are.
    pub shelf: Option<Shelf>,
    /// Whether somebody has said that a left `postmaster.pid` is stale although nothing proves it.
    pub trust_stale_pid: bool,
    /// How long a clean shutdown may take before an immediate one follows.
    pub stop_timeout: Duration,
    /// Whether a server that ends by itself is started again.
    pub restarts: RestartPolicy,
    /// Whether the server's log is passed on.
    pub relay_log: bool,
    /// What is watched on the volumes.
    pub disk: DiskOptions,
    /// What is done at its times.
    pub jobs: Vec<ScheduledJob>,
    /// Where probes, health and metrics are answered; nowhere without it.
    pub http: Option<HttpOptions>,
    /// Who is told of failures and recoveries; nobody without it.
    pub hooks: Option<HooksOptions>,
}

impl Default for AgentOptions {
    /// `init`'s defaults, no store, 60 s for a clean shutdown, the log is passed on, no ballast, no jobs, no HTTP, no hooks.
    fn default() -> Self {
        Self {
            init: InitOptions::default(),
            shelf: None,
            trust_stale_pid: false,
            stop_timeout: Duration::from_secs(60),
            restarts: RestartPolicy::default(),
            relay_log: true,
            disk: DiskOptions::default(),
            jobs: Vec::new(),
            http: None,
            hooks: None,
        }
    }
}
