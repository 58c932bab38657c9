//! Lines on standard error: what the service says, its agent, and its server.

use std::io::Write;

use pgpersist_core::agent::log::{AgentLog, Speaker};
use pgpersist_core::pg::log_line::Severity;

/// Hears the agent and, through it, the server.
#[derive(Debug)]
pub(crate) struct Lines;

impl AgentLog for Lines {
    fn line(&self, speaker: Speaker, severity: Severity, text: &str) {
        let speaker = match speaker {
            Speaker::Agent => "pgpersist",
            Speaker::Server => "postgres",
        };
        write(speaker, severity, text);
    }
}

/// A line of the service's own.
pub(crate) fn say(severity: Severity, text: &str) {
    write("service", severity, text);
}

fn write(speaker: &str, severity: Severity, text: &str) {
    // Nobody is left to be told that nobody listens.
    let _ = writeln!(std::io::stderr(), "{speaker} {}: {text}", severity.as_str());
}
