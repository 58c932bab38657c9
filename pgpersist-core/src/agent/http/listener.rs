//! Listens for an agent, from before its data directory is ready to its end, and through reloads.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::http::connection::{self, Current};
use crate::agent::http::connections::Connections;
use crate::agent::http::counts::Counts;
use crate::agent::http::limits::HttpLimits;
use crate::agent::http::options::HttpOptions;
use crate::agent::http::pages::Pages;
use crate::agent::http::site::Site;
use crate::agent::listening::Listening;
use crate::agent::log::Told;
use crate::agent::reporter::Reporter;
use crate::agent::status::AgentStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::pg::log_line::Severity;
use crate::server::cluster::Cluster;

/// How long it waits when no connection can be accepted, as when there is no descriptor left.
const BREATH: Duration = Duration::from_millis(100);
/// How often that is told.
const TOLD: Duration = Duration::from_secs(60);

/// An agent's HTTP, which may be off. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub(crate) struct Http {
    status: watch::Sender<AgentStatus>,
    told: Told,
    counts: Arc<Counts>,
    reporter: Arc<Reporter>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    options: HttpOptions,
    /// The one that it has, where the options leave the port open.
    address: SocketAddr,
    current: Current,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http {
    /// Off.
    pub(crate) fn new(status: watch::Sender<AgentStatus>, told: Told, reporter: Arc<Reporter>) -> Self {
        Self { status, told, counts: Arc::default(), reporter, running: None }
    }

    /// The pages as these options say, for who answers them on a listener of his own.
    pub(crate) fn pages(&self, cluster: &Cluster, options: &HttpOptions) -> Pages {
        Pages::new(Site::new(cluster.clone(), options, self.status.subscribe(), self.counts.clone(), self.reporter.clone()))
    }

    /// Goes on as these options say.
    ///
    /// # Errors
    /// `Unavailable` when the address is taken or not this machine's, `Denied` when the port is. What there was before stays.
    pub(crate) async fn follow(&mut self, cluster: &Cluster, options: Option<&HttpOptions>) -> Result<()> {
        let Some(options) = options else {
            if self.running.take().is_some() {
                self.told.say(Severity::Log, "HTTP is no longer answered");
                self.status.send_modify(|status| status.http = None);
            }
            return Ok(());
        };
        if let Some(running) = &mut self.running
            && (running.options.listen, running.options.limits) == (options.listen, options.limits)
        {
            let site = Site::new(cluster.clone(), options, self.status.subscribe(), self.counts.clone(), self.reporter.clone());
            *running.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
            running.options = options.clone();
            return Ok(());
        }
        let listener = match bind(options.listen).await {
            // Our own listener may be what stands in the way, as when it is to listen on more addresses of the same port.
            Err(error) if error.kind() == ErrorKind::Unavailable && self.listens_on_port_of(options) => self.bind_instead(options).await?,
            bound => bound?,
        };
        self.begin(cluster, options, listener)
    }

    /// Where it is answered, for people.
    pub(crate) fn describe(&self) -> String {
        match &self.running {
            Some(running) => format!("HTTP stays on http://{}", running.address),
            None => "HTTP is not answered".to_owned(),
        }
    }

    fn listens_on_port_of(&self, options: &HttpOptions) -> bool {
        self.running.as_ref().is_some_and(|running| running.address.port() == options.listen.port())
    }

    /// Closes what there is, binds, and takes the old place again when that does not help.
    async fn bind_instead(&mut self, options: &HttpOptions) -> Result<TcpListener> {
        let Some(mut old) = self.running.take() else { return bind(options.listen).await };
        old.task.abort();
        let _ = (&mut old.task).await;
        match bind(options.listen).await {
            Ok(listener) => Ok(listener),
            Err(error) => {
                match bind(old.address).await {
                    Ok(listener) => {
                        old.task =
                            tokio::spawn(accept(listener, old.current.clone(), old.options.limits, self.counts.clone(), self.told.clone()));
                        self.running = Some(old);
                    }
                    Err(lost) => {
                        self.told.say(Severity::Error, &lost.to_string());
                        self.status.send_modify(|status| status.http = None);
                    }
                }
                Err(error)
            }
        }
    }

    fn begin(&mut self, cluster: &Cluster, options: &HttpOptions, listener: TcpListener) -> Result<()> {
        let address = listener.local_addr().map_err(|error| refusal(options.listen, &error))?;
        let site = Site::new(cluster.clone(), options, self.status.subscribe(), self.counts.clone(), self.reporter.clone());
        self.told.say(Severity::Log, &format!("HTTP is answered on http://{address}"));
        if !site.rule.shows_details() {
            self.told.say(
                Severity::Warning,
                "without `[health] token_file`, /health and /metrics are closed, and / is bare, on an address that is not the loopback",
            );
        }
        let current: Current = Arc::new(RwLock::new(Arc::new(site)));
        let task = tokio::spawn(accept(listener, current.clone(), options.limits, self.counts.clone(), self.told.clone()));
        self.running = Some(Running { options: options.clone(), address, current, task });
        self.status.send_modify(|status| status.http = Some(address));
        Ok(())
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| refusal(address, &error))
}

fn refusal(address: SocketAddr, error: &io::Error) -> Error {
    let what = format!("could not listen on {address} for HTTP: {error}");
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::unavailable(
            what,
            format!("end what listens there (`ss -ltnp sport = :{port}` names it), or set another `[health] listen`"),
        ),
        io::ErrorKind::AddrNotAvailable => Error::unavailable(
            what,
            "set `[health] listen` to an address that this machine has, such as 127.0.0.1, or to 0.0.0.0 for all of them",
        ),
        io::ErrorKind::PermissionDenied => Error::denied(what, "choose a port from 1024 on for `[health] listen`"),
        _ => Error::unavailable(what, "set another `[health] listen`"),
    }
}

/// Accepts for ever.
async fn accept(listener: TcpListener, current: Current, limits: HttpLimits, counts: Arc<Counts>, told: Told) {
    let listener = Listening::new(listener);
    let mut connections = Connections::new(limits.connections);
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.one_ends() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                for _ in 0..connections.make_room().await {
                    counts.displace();
                }
                let (current, counts) = (current.clone(), counts.clone());
                connections.open(|activity| connection::serve(stream, activity, current, limits, counts));
            }
            // It went away before it was accepted.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= TOLD) {
                    complained = Some(Instant::now());
                    told.say(Severity::Warning, &format!("HTTP: no connection can be accepted: {error}"));
                }
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}
