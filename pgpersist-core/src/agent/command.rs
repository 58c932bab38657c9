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

/// The end where an agent takes its commands out.
#[derive(Debug)]
pub struct Commands {
    receiver: mpsc::Receiver<Command>,
    sender: mpsc::WeakSender<Command>,
}

impl Commands {
    /// The next command; none when nobody is left who could give one.
    pub(crate) async fn recv(&mut self) -> Option<Command> {
        self.receiver.recv().await
    }

    /// A way in that does not count as somebody who could give one.
    pub(crate) fn way_in(&self) -> mpsc::WeakSender<Command> {
        self.sender.clone()
    }
}

/// Where commands go in, and the end where the agent takes them out.
pub fn channel() -> (mpsc::Sender<Command>, Commands) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let commands = Commands { receiver, sender: sender.downgrade() };
    (sender, commands)
}
