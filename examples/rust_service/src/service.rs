//! The order of its life. Up: it listens, so that probes are answered from the first moment; its agent makes the data directory
//! ready and starts the server; the schema is brought up; only then it is ready. Down: it takes no more requests and finishes
//! those that it has; only then the agent stops the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::agent::command::{self, Command};
use pgpersist_core::agent::run::Agent;
use pgpersist_core::config::load::Config;
use pgpersist_core::pg::log_line::Severity;
use pgpersist_core::{Error, Result, configured};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::log::{self, Lines};
use crate::pool::Pool;
use crate::probes::Probes;
use crate::routes::Service;
use crate::{listener, migrations, routes};

/// How long the server has for a clean shutdown. With the requests before it, less than the 90 s of systemd; in a pod
/// `terminationGracePeriodSeconds` must be longer.
const STOP: Duration = Duration::from_secs(60);

/// Runs until it is told to stop, or cannot go on.
pub(crate) async fn run(config: &Config) -> Result<()> {
    let mut signals = Signals::listen()?;
    let cluster = configured::cluster::open(config, BTreeMap::new())?;
    // What a container loses with its life is refused, unless somebody says that this is just a trial.
    let allow_ephemeral = std::env::var_os("ALLOW_EPHEMERAL").is_some();
    let mut options = configured::agent::options(config, &cluster, allow_ephemeral, false, STOP)?;
    // The agent would listen there by itself. One port is enough, and the service knows more: it is not ready while it drains.
    let pages = options
        .http
        .take()
        .ok_or_else(|| Error::invalid("nothing tells where to listen", "set `[health] listen` to such as 127.0.0.1:8080"))?;
    let database = config.cluster.databases.first();
    let database = database.ok_or_else(|| Error::invalid("nothing tells the name of the database", "set `[cluster] databases`"))?;
    let listener = TcpListener::bind(pages.listen).await;
    let listener = listener
        .map_err(|error| Error::unavailable(format!("could not listen on {}: {error}", pages.listen), "set another `[health] listen`"))?;

    let (commands, receiver) = command::channel();
    let agent = Agent::new(cluster.clone(), options, Arc::new(Lines), receiver);
    let pool = Pool::new(cluster, database);
    let (drain, draining) = watch::channel(false);
    let (probes, migrated) = Probes::new(agent.pages(&pages), draining.clone());
    let status = agent.status();
    let mut agent = tokio::spawn(agent.run());
    let router = routes::router(Service { pool: pool.clone(), probes });
    let serving = tokio::spawn(listener::serve(listener, router, draining));

    let end = tokio::select! {
        () = signals.stop() => End::Asked,
        ended = &mut agent => End::Agent(ended),
        error = migrations::bring_up(&pool, status, migrated) => End::Schema(error),
    };
    log::say(Severity::Log, "requests that have come are finished, and no more are taken");
    drain.send_replace(true);
    let _ = serving.await;
    match end {
        End::Agent(ended) => outcome(ended),
        End::Asked => stop(agent, &commands, &mut signals).await,
        End::Schema(error) => stop(agent, &commands, &mut signals).await.and(Err(error)),
    }
}

/// Why it ends.
enum End {
    Asked,
    Agent(std::result::Result<Result<()>, JoinError>),
    Schema(Error),
}

/// Has the agent shut its server down; at once, where somebody asks a second time.
async fn stop(mut agent: JoinHandle<Result<()>>, commands: &mpsc::Sender<Command>, signals: &mut Signals) -> Result<()> {
    // An agent that takes no command any more is about to end.
    let _ = commands.try_send(Command::Stop);
    loop {
        tokio::select! {
            ended = &mut agent => return outcome(ended),
            () = signals.stop() => drop(commands.try_send(Command::StopNow)),
        }
    }
}

fn outcome(ended: std::result::Result<Result<()>, JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| Err(Error::Bug(format!("the agent ended: {error}"))))
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Error::Bug(format!("could not listen to signals: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
