//! `/metrics`: the agent's own numbers, and below them what the health checks observed.

use std::sync::atomic::Ordering;

use crate::agent::http::site::Site;
use crate::agent::status::{AgentStatus, Phase};
use crate::health::render::prometheus::{self, counter, gauge, line};
use crate::health::report::Report;

/// The whole text. What is not known has no line.
pub(crate) fn render(site: &Site, report: Option<&Report>) -> String {
    let mut text = String::new();
    gauge(&mut text, "pgpersist_build_info", "Always 1, with the version of pgpersist.");
    line(&mut text, "pgpersist_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let status = site.status.borrow().clone();
    agent(&mut text, &status);
    hooks(&mut text, &status);
    requests(&mut text, site);
    text + &report.map(prometheus::render).unwrap_or_default()
}

fn agent(text: &mut String, status: &AgentStatus) {
    gauge(text, "pgpersist_agent_phase", "What the agent is doing: 1 for that phase, 0 for the others.");
    for phase in Phase::ALL {
        line(text, "pgpersist_agent_phase", &[("phase", phase.as_str())], f64::from(u8::from(phase == status.phase)));
    }
    gauge(text, "pgpersist_agent_phase_seconds", "For how long the agent has been in its phase.");
    line(text, "pgpersist_agent_phase_seconds", &[], status.since.elapsed().as_secs_f64());
    if status.phase == Phase::Ready {
        gauge(text, "pgpersist_server_ready_seconds", "For how long the server has accepted connections.");
        line(text, "pgpersist_server_ready_seconds", &[], status.since.elapsed().as_secs_f64());
    }
    let restarts = "How often the server was started again after it had ended by itself.";
    counter(text, "pgpersist_server_restarts_total", restarts);
    line(text, "pgpersist_server_restarts_total", &[], status.restarts as f64);
    let Some(recovery) = status.recovery else { return };
    let mut number = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            gauge(text, name, help);
            line(text, name, &[], value);
        }
    };
    number("pgpersist_recovery_elapsed_seconds", "For how long the server has been recovering.", Some(recovery.elapsed_s));
    number(
        "pgpersist_recovery_replayed_bytes",
        "Up to which position of its log, an LSN, it has replayed.",
        Some(recovery.replayed.0 as f64),
    );
    number("pgpersist_recovery_end_bytes", "Where its log ends, an LSN.", recovery.end.map(|end| end.0 as f64));
    number("pgpersist_recovery_bytes_per_second", "How fast it replays.", recovery.bytes_per_s);
    number("pgpersist_recovery_remaining_seconds", "How long it will still take at this rate.", recovery.eta_s);
}

fn hooks(text: &mut String, status: &AgentStatus) {
    if !status.hooks.is_empty() {
        counter(text, "pgpersist_hook_runs_total", "How often a hook, or the heartbeat, was told something, by outcome.");
    }
    for (hook, runs) in &status.hooks {
        for (outcome, count) in [("success", runs.successes), ("failure", runs.failures)] {
            line(text, "pgpersist_hook_runs_total", &[("hook", hook), ("outcome", outcome)], count as f64);
        }
    }
}

fn requests(text: &mut String, site: &Site) {
    let requests = site.counts.requests();
    if !requests.is_empty() {
        counter(text, "pgpersist_http_requests_total", "Answers by path and status.");
    }
    for (path, status, count) in requests {
        line(text, "pgpersist_http_requests_total", &[("path", path), ("code", &status.to_string())], count as f64);
    }
    let displaced = "Connections that asked for nothing and were closed for one that came later.";
    counter(text, "pgpersist_http_connections_displaced_total", displaced);
    line(text, "pgpersist_http_connections_displaced_total", &[], site.counts.displaced.load(Ordering::Relaxed) as f64);
}
