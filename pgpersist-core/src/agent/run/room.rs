//! On a full volume the agent stays, says so, and starts the server when there is room again: what ends would only be
//! restarted, and nobody could be told.

use std::time::Duration;

use crate::agent::command::Command;
use crate::agent::log::with_causes;
use crate::agent::run::Agent;
use crate::agent::status::Phase;
use crate::error::{ErrorKind, Result};
use crate::pg::log_line::Severity;
use crate::server::room::{self, Room};
use crate::wording::size;

/// How often it looks whether there is room again.
const PERIOD: Duration = Duration::from_secs(2);

impl Agent {
    /// Waits as long as a server would find no room; false when it was told to stop meanwhile.
    pub(super) async fn wait_for_room(&mut self) -> Result<bool> {
        let mut waited = false;
        loop {
            match room::make(&self.cluster).await {
                Ok(Room::Enough) => {
                    if waited {
                        self.told.say(Severity::Log, "there is room again");
                    }
                    return Ok(true);
                }
                Ok(Room::GivenBack(bytes)) => {
                    let said =
                        format!("the volume was full: {} of ballast are given back so that the server can start; make room", size(bytes));
                    self.told.say(Severity::Warning, &said);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    if !waited {
                        waited = true;
                        let remedy = error.remedy().unwrap_or_default();
                        self.told.say(Severity::Error, &format!("{}; it is started when there is room: {remedy}", with_causes(&error)));
                        self.status.send_modify(|status| status.last_failure = Some(with_causes(&error)));
                        self.set_phase(Phase::Waiting, None);
                    }
                }
                // What else is wrong is told better by what comes next.
                Err(_) => return Ok(true),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                command = self.commands.recv() => match command {
                    Some(Command::Reload(new)) => self.reload(*new, None).await,
                    Some(Command::Stop | Command::StopNow) | None => return Ok(false),
                },
            }
        }
    }
}
