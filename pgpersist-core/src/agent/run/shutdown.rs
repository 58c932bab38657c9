//! How an agent shuts its server down: fast, then immediately, and heard meanwhile.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agent::command::Command;
use crate::agent::life::Life;
use crate::agent::run::Agent;
use crate::agent::status::Phase;
use crate::error::{Error, ErrorKind, Result};
use crate::pg::log_line::Severity;
use crate::server::cluster::Cluster;
use crate::server::lock::{self, Held};

/// How long an immediate shutdown may take.
const IMMEDIATE: Duration = Duration::from_secs(15);

impl Agent {
    /// Shuts the server down: fast, then immediately. A second command to stop hurries.
    pub(super) async fn shut_down(&mut self, life: &Life, timeout: Duration, immediate: bool) -> Result<()> {
        self.set_phase(Phase::Stopping, None);
        self.jobs.dismiss();
        let cluster = self.cluster.clone();
        if !immediate {
            self.told.say(Severity::Log, "shutting the server down");
            life.signal(Signal::INT)?;
            let fast = life.all_ended(&cluster, Instant::now() + timeout);
            tokio::pin!(fast);
            let ended = loop {
                tokio::select! {
                    ended = &mut fast => break ended?,
                    command = self.commands.recv() => match command {
                        // It was shut down for another reason: this is the first word of stopping.
                        Some(Command::Stop) if !self.stop_asked => self.stop_asked = true,
                        Some(Command::Stop | Command::StopNow) => {
                            self.stop_asked = true;
                            break false;
                        }
                        Some(Command::Reload(_)) => self.say_reloaded(),
                        None => break (&mut fast).await?,
                    },
                }
            };
            if ended {
                return self.say_ended(&cluster).await;
            }
        }
        self.told.say(Severity::Warning, "the clean shutdown is cut short: the next start recovers, nothing is lost");
        life.signal(Signal::QUIT)?;
        if life.all_ended(&cluster, Instant::now() + IMMEDIATE).await? {
            return self.say_ended(&cluster).await;
        }
        Err(Error::Deadline {
            what: format!("the server (process {}) did not end", life.pid()),
            after: timeout + IMMEDIATE,
            remedy: Some(format!("look at {} and at the processes below {}", cluster.log_file().path().display(), life.pid())),
        })
    }

    /// It was told to stop before it came to a server: one that an agent before left running is ended all the same.
    pub(super) async fn end_what_was_left(&mut self) -> Result<()> {
        let Some(life) = Life::adopt(&self.cluster).await? else { return Ok(()) };
        let _claim = match self.cluster.directory().claim().await {
            Ok(claim) => claim,
            // Somebody else is at home, and it is theirs.
            Err(error) if error.kind() == ErrorKind::Conflict => return Ok(()),
            Err(error) => return Err(error),
        };
        self.told.say(Severity::Log, &format!("the server, process {}, runs already and is adopted", life.pid()));
        self.stop_asked = true;
        self.shut_down(&life, self.options.stop_timeout, false).await
    }

    async fn say_ended(&self, cluster: &Cluster) -> Result<()> {
        match lock::look(cluster).await {
            Ok(Held::ByLeftover(holders)) => {
                let what = format!("the server has ended, but {}, which it started, still holds its lock", lock::named(&holders));
                self.told.say(Severity::Warning, &what);
            }
            _ => self.told.say(Severity::Log, "the server has ended"),
        }
        Ok(())
    }
}
