//! `status`: what stands in the data directory and what its server is doing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::runtime;
use pgpersist_core::agent::control::protocol::AgentView;
use pgpersist_core::agent::status::Phase;
use pgpersist_core::agent::supervising;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::server::cluster::{ServerState, ServerStatus};
use pgpersist_core::wording::{duration, moment};

/// Tell what stands in the data directory and what its server is doing
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist status -D /app/pgdata")]
#[command(after_help = "Exit codes: 0 running, 6 stopped, starting, stopping, recovering or half-made, 4 absent or empty, 5 foreign, \
    7 damaged or migrated away")]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<Exit> {
    let cluster = cluster::open(context)?;
    let (status, agent) = runtime::block_on("`status`", async {
        // First: an agent that starts a server meanwhile would be told together with none.
        let agent = supervising::view(&cluster, context.progress.as_ref()).await?;
        Ok((cluster.status().await?, agent))
    })?;
    context.output.write(
        || {
            let mut document = document(&status);
            // The field of all that end with a look at the server; a look changes nothing.
            document["changed"] = false.into();
            document["agent"] = json!(agent);
            document
        },
        || text(&status) + &agent.as_ref().map(agent_text).unwrap_or_default(),
    )?;
    Ok(Exit(match status.state {
        ServerState::Running => 0,
        ServerState::Stopped | ServerState::Starting | ServerState::Stopping | ServerState::Recovering | ServerState::HalfMade => 6,
        ServerState::Absent | ServerState::Empty => 4,
        ServerState::Foreign => 5,
        ServerState::Damaged => 7,
    }))
}

/// The document of everything that ends with a look at the server.
pub(crate) fn document(report: &impl serde::Serialize) -> Value {
    // Our own structs serialise; a failure would be told by a document that says so rather than by a panic.
    serde_json::to_value(report).unwrap_or_else(|e| json!({ "error": Error::Bug(e.to_string()).to_string() }))
}

/// A server in a few lines.
pub(crate) fn text(status: &ServerStatus) -> String {
    let word = document(&status.state).as_str().unwrap_or_default().replace('_', "-");
    let mut text = format!("{}: {word}", printable(&status.data_directory.display().to_string()));
    if let Some(pid) = status.pid {
        text.push_str(&format!(" (process {pid}"));
        if let Some(port) = status.port {
            text.push_str(&format!(", port {port}"));
        }
        if let Some(directory) = &status.socket_directory {
            text.push_str(&format!(", socket in {}", printable(&directory.display().to_string())));
        }
        text.push(')');
    }
    text.push('\n');
    if let Some(detail) = &status.detail {
        text.push_str(&format!("  {}\n", printable(detail)));
    }
    if let (Some(version), Some(identifier)) = (&status.version, &status.system_identifier) {
        text.push_str(&format!(
            "  PostgreSQL {version}, system identifier {identifier}\n  log: {}\n",
            printable(&status.log_file.display().to_string())
        ));
    }
    text
}

/// An agent in a few lines.
fn agent_text(agent: &AgentView) -> String {
    let phase = Duration::try_from_secs_f64(agent.phase_s).unwrap_or_default();
    let mut text = format!("  agent: process {}, {} for {}", agent.pid, agent.phase.as_str(), duration(phase));
    if agent.restarts > 0 {
        text.push_str(&format!(", server started again {} times", agent.restarts));
    }
    if let Some(address) = &agent.http {
        text.push_str(&format!(", http://{address}"));
    }
    text.push('\n');
    if let (Some(failure), false) = (&agent.last_failure, agent.phase == Phase::Ready) {
        text.push_str(&format!("  the server ended: {}\n", printable(failure)));
    }
    for (job, status) in &agent.jobs {
        let next = match (status.running_since, status.next_at) {
            (Some(since), _) => format!("under way since {}", moment(since)),
            (None, Some(next)) => format!("next at {}", moment(next)),
            (None, None) => "next after what it follows".to_owned(),
        };
        text.push_str(&format!("  {job}: {next}\n"));
    }
    text
}
