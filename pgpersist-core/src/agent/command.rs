//! What an agent can be told while it runs.

use tokio::sync::mpsc;

use crate::agent::options::AgentOptions;
use crate::server::cluster::Cluster;

/// How many commands may wait: people and signals are slow.
const WAITING: usize = 16;

/// One command.
#[derive(Debug)]
pub enum Command {
    /// Shut the server down and end. A second one, or [`Command::StopNow`], makes the shutdown an immediate one.
    Stop,
    /// The same, at once: sessions are cut off, and the next start recovers.
    StopNow,
    /// Go on with this configuration. What cannot change while a server runs counts from its next start on.
    Reload(Box<(Cluster, AgentOptions)>),
}

/// Where commands go in, and the end where the agent takes them out.
pub fn channel() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(WAITING)
}
