//! The agent's loop: ready, start, watch, start again, stop.

mod fence;
mod room;
mod shutdown;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent::command::{Command, Commands};
use crate::agent::control::server::Answering;
use crate::agent::control::{server, socket};
use crate::agent::disk_watch::{self, Watched};
use crate::agent::hooks::house::House;
use crate::agent::http::listener::Http;
use crate::agent::http::options::HttpOptions;
use crate::agent::http::pages::Pages;
use crate::agent::jobs::runner::Runner;
use crate::agent::life::{Life, Look, Place};
use crate::agent::log::{AgentLog, Told, with_causes};
use crate::agent::log_relay;
use crate::agent::making_ready::make_ready;
use crate::agent::options::AgentOptions;
use crate::agent::reporter::Reporter;
use crate::agent::restart_policy::Restarts;
use crate::agent::service_manager::ServiceManager;
use crate::agent::status::{AgentStatus, Phase, beat};
use crate::data_directory::Claim;
use crate::data_directory::fence::Fence;
use crate::error::{Error, ErrorKind, Result};
use crate::pg::log_line::Severity;
use crate::progress::ProgressSink;
use crate::server::cluster::Cluster;
use crate::server::restart;
use crate::server::start::{self, StartOptions};
use crate::workers;

/// How often a server on its way up is looked at: a look reads a few small files.
const EAGER: Duration = Duration::from_millis(5);
/// How long that goes on; what is not up by then is recovering, or waits for something.
const EAGER_FOR: Duration = Duration::from_secs(5);
/// How often a server is looked at otherwise, and its volume.
const PERIOD: Duration = Duration::from_secs(1);
/// How often a recovery tells how far it is.
const RECOVERY_TOLD: Duration = Duration::from_secs(10);
/// How long a look at the volume may take before it counts as a warning: a network file system may hang for minutes.
const VOLUME_LOOK: Duration = Duration::from_secs(10);
/// How long a clean shutdown is tried where nothing can be written any more.
const WITHOUT_VOLUME: Duration = Duration::from_secs(5);

/// Supervises one cluster until it is told to stop.
///
/// Dropping its future ends the supervision and nothing else: the server goes on, and the next agent adopts it.
#[derive(Debug)]
pub struct Agent {
    cluster: Cluster,
    options: AgentOptions,
    told: Told,
    commands: Commands,
    status: watch::Sender<AgentStatus>,
    restarts: Restarts,
    jobs: Runner,
    http: Http,
    watched: Watched,
    /// Answers on the control socket, once the directory is ours; ends with the agent.
    control: JoinSet<()>,
    hooks: House,
    reporter: Arc<Reporter>,
    service_manager: Option<Arc<ServiceManager>>,
    /// Whether it was told to stop while it shut the server down for another reason.
    stop_asked: bool,
    /// Whether it has had a server.
    has_had_a_server: bool,
}

/// What ended a wait.
enum Turn {
    Stop { immediate: bool },
    Fenced(Fence),
    Ended,
    VolumeGone(Error),
}

/// What follows the end of a server.
enum After {
    /// Nothing: it was told to stop, or somebody else has shut the server down.
    Finish,
    /// The directory is fenced.
    Fenced,
    /// It ended by itself.
    Failure(Error),
}

impl Agent {
    /// An agent that has not begun. Commands come from the receiver; see [`crate::agent::command::channel`].
    pub fn new(cluster: Cluster, options: AgentOptions, log: Arc<dyn AgentLog>, commands: Commands) -> Self {
        let restarts = Restarts::new(options.restarts);
        let (status, _) = watch::channel(AgentStatus::new());
        let told = Told(log);
        let own = cluster.directory().own_folder().path().to_owned();
        let jobs = Runner::new(own.clone(), told.clone(), status.clone());
        let reporter = Arc::new(Reporter::new());
        let http = Http::new(status.clone(), told.clone(), Arc::clone(&reporter));
        let hooks = House::new(own, told.clone(), status.clone(), Arc::clone(&reporter));
        let service_manager = None;
        let (watched, _) = watch::channel((cluster.clone(), options.disk.clone()));
        let control = JoinSet::new();
        Self {
            cluster,
            options,
            told,
            commands,
            status,
            restarts,
            jobs,
            http,
            watched,
            control,
            hooks,
            reporter,
            service_manager,
            stop_asked: false,
            has_had_a_server: false,
        }
    }

    /// One that also tells systemd how far it is.
    #[must_use]
    pub fn telling(mut self, service_manager: Arc<ServiceManager>) -> Self {
        self.service_manager = Some(service_manager);
        self
    }

    /// What it knows, now and later.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.subscribe()
    }

    /// What it answers over HTTP, for a program that has a listener of its own: where that listens is `options.listen`, which
    /// tells who sees details. They stay those of this cluster and these options when a reload brings others.
    pub fn pages(&self, options: &HttpOptions) -> Pages {
        self.http.pages(&self.cluster, options)
    }

    /// Makes the data directory ready, starts the server or adopts the one that an agent before left running, and stays with
    /// it. Returns when it was told to stop and the server has ended, or when somebody else has shut the server down.
    ///
    /// # Errors
    /// As [`crate::init::ready::make_ready`] and [`crate::server::start::start`]; `Unavailable` when the server ended by itself too often,
    /// when the volume is gone, when the address for HTTP is taken, and when the server does not end: in the last case alone it
    /// still runs.
    pub fn run(mut self) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.hooks.replace(self.options.hooks.as_ref());
            let beating = beat(self.status.clone());
            let watching = disk_watch::watch(self.watched.subscribe(), self.status.subscribe(), self.told.clone());
            let (service_manager, status) = (self.service_manager.clone(), self.status());
            let telling = async {
                match &service_manager {
                    Some(service_manager) => service_manager.follow(status).await,
                    None => std::future::pending().await,
                }
            };
            // In the same task, so that they turn as long as this one does, and for as long as that waits.
            let outcome = tokio::select! {
                outcome = self.live() => outcome,
                never = beating => match never {},
                never = watching => match never {},
                never = telling => match never {},
            };
            self.say_stopping();
            self.jobs.finish().await;
            if let Err(error) = &outcome
                && !self.stop_asked
            {
                let stopped = async { while let Some(Command::Reload(_)) = self.commands.recv().await {} };
                tokio::select! {
                    () = self.hooks.tell_end(error) => {}
                    () = stopped => {}
                }
            }
            outcome
        })
    }

    fn say_stopping(&self) {
        if let Some(service_manager) = &self.service_manager {
            service_manager.stopping();
        }
    }

    async fn live(&mut self) -> Result<()> {
        // First of all: whoever watches a long way up asks here, and with the address taken there is nothing to begin.
        self.http.follow(&self.cluster, self.options.http.as_ref()).await?;
        self.live_with_servers().await?;
        if self.has_had_a_server { Ok(()) } else { self.end_what_was_left().await }
    }

    async fn live_with_servers(&mut self) -> Result<()> {
        // What is fenced is not even made ready: somebody wants to see it as it is.
        if !self.wait_for_fence(None).await? {
            return Ok(());
        }
        if !self.wait_for_room().await? {
            return Ok(());
        }
        let Some(claim) = self.prepare().await? else { return Ok(()) };
        self.open_control();
        self.jobs.replace(&self.options.jobs);
        self.supervise(&claim).await
    }

    /// Opens the control socket. The claim is held; without the socket all else still works.
    fn open_control(&mut self) {
        if !self.control.is_empty() {
            return;
        }
        match socket::listen(self.cluster.directory().own_folder()) {
            Ok(listener) => {
                let answering = Answering { status: self.status.subscribe(), commands: self.commands.way_in(), slots: self.jobs.slots() };
                self.control.spawn(server::answer(listener, answering));
            }
            Err(error) => self.told.say(Severity::Warning, &format!("there is no control socket: {}", with_causes(&error))),
        }
    }

    async fn supervise(&mut self, claim: &Claim) -> Result<()> {
        loop {
            if !self.wait_for_fence(Some(claim)).await? || !self.wait_for_room().await? {
                return Ok(());
            }
            let Some(life) = self.begin(claim).await? else { return Ok(()) };
            match self.stay_with(life).await? {
                After::Finish => return Ok(()),
                After::Fenced => self.jobs.replace(&self.options.jobs),
                After::Failure(failure) => {
                    if !self.may_start_again(failure).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// None when it was told to stop before it came to anything.
    async fn prepare(&mut self) -> Result<Option<Claim>> {
        let progress: Arc<dyn ProgressSink> = Arc::new(self.told.clone());
        let (cluster, options) = (self.cluster.clone(), self.options.clone());
        let preparing = make_ready(&cluster, &options, &progress);
        tokio::pin!(preparing);
        loop {
            tokio::select! {
                made = &mut preparing => {
                    let (report, claim) = made?;
                    self.told.say(Severity::Log, &format!("{} the cluster in {}: PostgreSQL {}, system identifier {}",
                        report.action, report.data_directory.display(), report.version, report.system_identifier));
                    return Ok(Some(claim));
                }
                command = self.commands.recv() => match command {
                    Some(Command::Reload(_)) => self.told.say(Severity::Warning, "the configuration is not reloaded before the data directory is ready"),
                    // Making ready publishes last: what was begun is finished or undone by the next run.
                    Some(Command::Stop | Command::StopNow) | None => return Ok(None),
                },
            }
        }
    }

    /// Adopts or starts a server. None when it was told to stop before there was one.
    async fn begin(&mut self, claim: &Claim) -> Result<Option<Life>> {
        self.set_phase(Phase::Starting, None);
        loop {
            match self.try_begin(claim).await {
                Ok(life) => return Ok(life),
                // What is left of our own crashed server may hold the lock for a while.
                Err(error) if is_hopeless(&error) && !(self.restarts.count > 0 && error.kind() == ErrorKind::Conflict) => {
                    return Err(error);
                }
                Err(error) => {
                    if !self.may_start_again(error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn try_begin(&mut self, claim: &Claim) -> Result<Option<Life>> {
        if let Some(life) = Life::adopt(&self.cluster).await? {
            self.told.say(Severity::Log, &format!("the server, process {}, runs already and is adopted", life.pid()));
            return Ok(Some(life));
        }
        let cluster = self.cluster.clone();
        let installation = cluster.installation().await?;
        let options = StartOptions { trust_stale_pid: self.options.trust_stale_pid, ..StartOptions::default() };
        let way = start::clear_the_way(&cluster, &options);
        tokio::pin!(way);
        let lock = loop {
            tokio::select! {
                lock = &mut way => break lock?,
                command = self.commands.recv() => match command {
                    Some(Command::Reload(new)) => self.reload(*new, None).await,
                    Some(Command::Stop | Command::StopNow) | None => return Ok(None),
                },
            }
        };
        // A stop that comes now waits for the process, which is there at once, and then ends it.
        Life::begin(&self.cluster, claim, &installation, lock).await.map(Some)
    }

    /// Stays with a server to its end.
    async fn stay_with(&mut self, life: Life) -> Result<After> {
        self.has_had_a_server = true;
        let to = self.options.relay_log.then(|| self.told.0.clone());
        let relay = log_relay::start(self.cluster.log_file(), life.log_offset, to);
        self.status.send_modify(|status| status.pid = Some(life.pid()));
        let turn = self.watch(&life).await;
        let (told_to_stop, fenced) = (matches!(turn, Turn::Stop { .. }), matches!(turn, Turn::Fenced(_)));
        self.stop_asked |= told_to_stop;
        if told_to_stop || matches!(turn, Turn::VolumeGone(_)) {
            self.say_stopping();
        }
        let outcome = match turn {
            Turn::Ended => Ok(()),
            Turn::Stop { immediate } => self.shut_down(&life, self.options.stop_timeout, immediate).await,
            Turn::Fenced(fence) => {
                self.told.say(Severity::Warning, &fence.describe());
                self.shut_down(&life, self.options.stop_timeout, false).await
            }
            Turn::VolumeGone(error) => {
                self.told.say(Severity::Panic, &format!("{error}: the server is shut down"));
                let stopped = self.shut_down(&life, WITHOUT_VOLUME, false).await;
                stopped.and(Err(error))
            }
        };
        relay.finish().await;
        self.status.send_modify(|status| status.pid = None);
        outcome?;
        if told_to_stop {
            return Ok(After::Finish);
        }
        if fenced {
            return Ok(After::Fenced);
        }
        // A server that cannot write any more may be faster to end than we are to look.
        if let Ok(Err(error)) = tokio::time::timeout(VOLUME_LOOK, life.check_volume()).await {
            return Err(error);
        }
        let cluster = self.cluster.clone();
        let state = cluster.directory().state().await?.into_cluster(cluster.path()).ok().map(|files| files.control.state);
        match workers::run(move || Ok(life.why(&cluster, state))).await? {
            None => {
                self.told.say(Severity::Log, "the server was shut down by somebody else, and so this ends");
                Ok(After::Finish)
            }
            Some(why) if is_hopeless(&why) => Err(why),
            Some(why) => Ok(After::Failure(why)),
        }
    }

    /// Watches until something has to be done.
    async fn watch(&mut self, life: &Life) -> Turn {
        let began = Instant::now();
        let (mut told, mut place_seen, mut asked) = (Instant::now(), Instant::now(), Instant::now());
        let (mut phase, mut silent) = (None, false);
        let mut round = Box::pin(life.look_around(self.cluster.clone(), EAGER, false));
        loop {
            let seen = tokio::select! {
                () = life.ended() => return Turn::Ended,
                command = self.commands.recv() => match command {
                    Some(Command::Reload(new)) => {
                        self.reload(*new, Some(life)).await;
                        continue;
                    }
                    Some(Command::Stop) | None => return Turn::Stop { immediate: false },
                    Some(Command::StopNow) => return Turn::Stop { immediate: true },
                },
                seen = &mut round => seen,
                () = tokio::time::sleep_until((asked + VOLUME_LOOK).into()), if !silent => {
                    silent = true;
                    self.told.say(Severity::Warning, "the volume of the data directory does not answer");
                    continue;
                }
            };
            if std::mem::take(&mut silent) {
                self.told.say(Severity::Log, "the volume of the data directory answers again");
            }
            match seen.look {
                Ok(look) => self.note(look, &mut phase, &mut told, life, began),
                // A directory that cannot be read is what the look at its volume is for.
                Err(error) if phase.is_some() => self.told.say(Severity::Warning, &format!("could not look at the server: {error}")),
                Err(_) => {}
            }
            if let Some(Place { volume, fence }) = seen.place {
                place_seen = Instant::now();
                match (volume, fence) {
                    (Err(error), _) => return Turn::VolumeGone(error),
                    (Ok(()), Ok(Some(fence))) => return Turn::Fenced(fence),
                    (Ok(()), Ok(None)) => {}
                    (Ok(()), Err(error)) => self.told.say(Severity::Warning, &format!("whether there is a fence is not known: {error}")),
                }
            }
            let eager = phase != Some(Phase::Ready) && began.elapsed() < EAGER_FOR;
            asked = Instant::now();
            let pause = if eager { EAGER } else { PERIOD };
            round = Box::pin(life.look_around(self.cluster.clone(), pause, place_seen.elapsed() + pause >= PERIOD));
        }
    }

    /// Says and keeps what is new.
    fn note(&mut self, look: Look, phase: &mut Option<Phase>, told: &mut Instant, life: &Life, began: Instant) {
        let is_new = *phase != Some(look.phase);
        *phase = Some(look.phase);
        if is_new || look.recovery.is_some() {
            self.set_phase(look.phase, look.recovery);
        }
        match look.phase {
            Phase::Ready if is_new && !life.is_adopted() => {
                self.told.say(
                    Severity::Log,
                    &format!("the server, process {}, is ready after {:.2} s", life.pid(), began.elapsed().as_secs_f64()),
                );
            }
            Phase::Recovering if is_new => self.told.say(Severity::Log, "the server recovers"),
            Phase::Recovering if told.elapsed() >= RECOVERY_TOLD => {
                *told = Instant::now();
                let how_far = look.recovery.map_or_else(|| "the server still recovers".to_owned(), |recovery| recovery.describe());
                self.told.say(Severity::Log, &how_far);
            }
            _ => {}
        }
    }

    /// Waits as long as the policy says; false when it was told to stop meanwhile.
    async fn may_start_again(&mut self, failure: Error) -> Result<bool> {
        self.told.say(Severity::Error, &with_causes(&failure));
        self.status.send_modify(|status| status.last_failure = Some(with_causes(&failure)));
        let Some(wait) = self.restarts.next(Instant::now()) else {
            let said = format!("the server was started again {} and does not stay: this is given up", self.restarts.describe());
            self.told.say(Severity::Panic, &said);
            return Err(failure);
        };
        self.status.send_modify(|status| status.restarts = self.restarts.count);
        self.set_phase(Phase::Waiting, None);
        if !wait.is_zero() {
            self.told.say(Severity::Log, &format!("the server is started again in {} s", wait.as_secs()));
        }
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => break,
                command = self.commands.recv() => match command {
                    Some(Command::Reload(new)) => self.reload(*new, None).await,
                    Some(Command::Stop | Command::StopNow) | None => return Ok(false),
                },
            }
        }
        self.set_phase(Phase::Starting, None);
        Ok(true)
    }

    fn say_reloaded(&self) {
        if let Some(service_manager) = &self.service_manager {
            service_manager.reloaded();
        }
    }

    /// Goes on with another configuration, unless the server would refuse it.
    async fn reload(&mut self, new: (Cluster, AgentOptions), life: Option<&Life>) {
        self.take_up(new, life).await;
        self.say_reloaded();
    }

    async fn take_up(&mut self, (cluster, mut options): (Cluster, AgentOptions), life: Option<&Life>) {
        if cluster.path() != self.cluster.path() {
            return self.told.say(Severity::Error, "the configuration names another data directory; the old configuration stays");
        }
        let checked = async {
            let installation = cluster.installation().await?;
            let new = cluster.clone();
            workers::run(move || restart::check_settings(&new, &installation)).await
        };
        if let Err(error) = checked.await {
            return self.told.say(Severity::Error, &format!("{}; the old configuration stays", with_causes(&error)));
        }
        if cluster.options().port != self.cluster.options().port {
            self.told.say(Severity::Warning, "the new port counts from the server's next start on");
        }
        if let Err(error) = self.http.follow(&cluster, options.http.as_ref()).await {
            self.told.say(Severity::Error, &format!("{}; {}", with_causes(&error), self.http.describe()));
            options.http = self.options.http.take();
        }
        self.cluster = cluster;
        self.options = options;
        self.watched.send_replace((self.cluster.clone(), self.options.disk.clone()));
        self.jobs.replace(&self.options.jobs);
        self.reporter.forget();
        self.hooks.replace(self.options.hooks.as_ref());
        let signalled = life.map_or(Ok(()), |life| life.signal(Signal::HUP));
        match signalled {
            Ok(()) => self.told.say(Severity::Log, "the configuration was reloaded"),
            Err(error) => self.told.say(Severity::Error, &with_causes(&error)),
        }
    }

    fn set_phase(&self, phase: Phase, recovery: Option<crate::server::recovery::RecoveryProgress>) {
        self.status.send_modify(|status| {
            if status.phase != phase {
                (status.phase, status.since) = (phase, Instant::now());
            }
            status.recovery = recovery;
            // At a fence there is nothing that a kubelet should wait for, and end the pod over.
            status.has_started |= matches!(phase, Phase::Ready | Phase::Fenced);
        });
    }
}

/// Whether another start would end the same way, as far as anybody can tell.
fn is_hopeless(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Damaged | ErrorKind::Conflict | ErrorKind::Unsafe | ErrorKind::NotFound)
}
