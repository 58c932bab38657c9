//! At a fence the agent stays, so that the pod and its volume do, and keeps the server down.

use crate::agent::command::Command;
use crate::agent::life::Life;
use crate::agent::run::{Agent, PERIOD};
use crate::agent::status::Phase;
use crate::data_directory::Claim;
use crate::data_directory::fence::{self, Fence};
use crate::error::Result;
use crate::pg::log_line::Severity;
use crate::workers;

impl Agent {
    /// Waits as long as there is a fence, without a server; false when it was told to stop meanwhile.
    pub(super) async fn wait_for_fence(&mut self, claim: Option<&Claim>) -> Result<bool> {
        let Some(fence) = self.fence().await? else { return Ok(!self.stop_asked) };
        // Nobody else comes in meanwhile.
        let _claim = if claim.is_some() { None } else { Some(self.cluster.directory().claim().await?) };
        self.open_control();
        // One whose agent was killed while it shut the server down.
        if let Some(life) = Life::adopt(&self.cluster).await? {
            self.shut_down(&life, self.options.stop_timeout, false).await?;
        }
        self.told.say(Severity::Warning, &format!("{}: no server is started until `pgpersist unfence`", fence.describe()));
        self.set_phase(Phase::Fenced, None);
        while !self.stop_asked {
            if self.fence().await?.is_none() {
                self.told.say(Severity::Log, "the fence is gone");
                return Ok(true);
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                command = self.commands.recv() => match command {
                    Some(Command::Reload(new)) => self.reload(*new, None).await,
                    Some(Command::Stop | Command::StopNow) | None => return Ok(false),
                },
            }
        }
        Ok(false)
    }

    async fn fence(&self) -> Result<Option<Fence>> {
        let own = self.cluster.directory().own_folder().clone();
        workers::run(move || fence::read(&own)).await
    }
}
