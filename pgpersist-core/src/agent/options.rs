//! How an agent goes about it.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::disk_watch::DiskOptions;
use crate::agent::hooks::options::HooksOptions;
use crate::agent::http::options::HttpOptions;
use crate::agent::jobs::ScheduledJob;
use crate::agent::reporter::LONGEST_CHECK;
use crate::agent::restart_policy::RestartPolicy;
use crate::error::{Error, Result};
use crate::health::HealthCheck;
use crate::health::checks::standard;
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

impl AgentOptions {
    /// The same with checks of the user's own, which `/health`, `/metrics`, the status page and the hooks tell after ours. Of options
    /// with neither HTTP nor hooks nobody asks them.
    ///
    /// # Errors
    /// `Invalid` for a check that may take longer than an agent waits for a report (8 s), and for two of the same name.
    pub fn with_checks(mut self, checks: &[Arc<dyn HealthCheck>]) -> Result<Self> {
        if let Some(slow) = checks.iter().find(|check| check.deadline() > LONGEST_CHECK) {
            let (deadline, longest) = (slow.deadline().as_secs_f64(), LONGEST_CHECK.as_secs());
            return Err(Error::invalid(
                format!("the check {:?} may take {deadline} s, and in an agent {longest} s are the most", slow.name()),
                "give it a shorter deadline; what takes long belongs into a job, whose result the check tells",
            ));
        }
        let (http, hooks) = (self.http.as_mut().map(|http| &mut http.health), self.hooks.as_mut().map(|hooks| &mut hooks.health));
        for health in http.into_iter().chain(hooks) {
            health.checks.extend_from_slice(checks);
            standard::checks(health)?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::agent::hooks::options::HooksOptions;
    use crate::data_directory::local::LocalDataDirectory;
    use crate::error::ErrorKind;
    use crate::health::Finding;
    use crate::health::checks::standard::HealthOptions;
    use crate::server::cluster::{Cluster, ClusterOptions};
    use crate::server::installation::InstallationSearch;

    #[derive(Debug)]
    struct Own(&'static str, u64);

    #[async_trait]
    impl HealthCheck for Own {
        fn name(&self) -> &str {
            self.0
        }

        async fn check(&self) -> Finding {
            Finding::pass(self.0, "seen")
        }

        fn deadline(&self) -> Duration {
            Duration::from_secs(self.1)
        }
    }

    fn options() -> AgentOptions {
        let directory = Arc::new(LocalDataDirectory::open("/nowhere/pgdata").unwrap());
        let health = HealthOptions::new(Cluster::new(directory, InstallationSearch::default(), ClusterOptions::default()));
        let http = Some(HttpOptions::new(([127, 0, 0, 1], 0).into(), health.clone()));
        AgentOptions { http, hooks: Some(HooksOptions::new(health)), ..AgentOptions::default() }
    }

    fn with(checks: &[(&'static str, u64)]) -> Result<AgentOptions> {
        let checks: Vec<Arc<dyn HealthCheck>> =
            checks.iter().map(|(name, deadline)| Arc::new(Own(name, *deadline)) as Arc<dyn HealthCheck>).collect();
        options().with_checks(&checks)
    }

    #[test]
    fn own_checks_are_asked_by_all_who_tell_of_health() {
        let options = with(&[("queue", 5), ("mail:out", 8)]).unwrap();
        for health in [options.http.unwrap().health, options.hooks.unwrap().health] {
            let names: Vec<_> = standard::checks(&health).unwrap().iter().map(|check| check.name().to_owned()).collect();
            assert_eq!(names[names.len() - 2..], ["queue", "mail:out"]);
            assert!(names.contains(&"server".to_owned()));
        }
    }

    #[test]
    fn what_would_keep_a_report_from_coming_is_refused() {
        for (checks, text) in [
            (&[("queue", 9)][..], "the check \"queue\" may take 9 s, and in an agent 8 s are the most"),
            (&[("queue", 5), ("queue", 5)][..], "two checks are called \"queue\""),
            (&[("server", 5)][..], "two checks are called \"server\""),
        ] {
            let error = with(checks).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, text));
        }
    }
}
