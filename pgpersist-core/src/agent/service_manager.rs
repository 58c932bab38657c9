//! Tells systemd, or whoever else set `NOTIFY_SOCKET`, how far the agent is: the protocol of `sd_notify(3)`.
//!
//! Ready is what the server is. Until then, and while it shuts down, time is asked for again and again, so that no recovery ends
//! for being slow. With `WATCHDOG_USEC` the agent's loop says that it turns.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::agent::status::{AgentStatus, Phase};
use crate::error::{Error, Result};

/// Where messages go.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// How often, in microseconds, a sign of life is wanted; and of which process.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// How often something is said while time is needed.
const PERIOD: Duration = Duration::from_secs(5);
/// How much time is asked for at once.
const MORE_TIME: Duration = Duration::from_secs(60);

/// The connection to the service manager. Never waits: a message that cannot be sent is lost, apart from those of being ready.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether it was told that the service is ready.
    is_ready: bool,
    is_reloading: bool,
    is_stopping: bool,
    /// What it was told in words.
    words: String,
}

impl ServiceManager {
    /// From this process's environment; nothing where nobody wants to be told.
    ///
    /// # Errors
    /// `Invalid` when the socket's address is none that Linux has.
    pub fn from_environment() -> Result<Option<Self>> {
        let Some(name) = std::env::var_os(NOTIFY_SOCKET).filter(|name| !name.is_empty()) else { return Ok(None) };
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_ours = number(WATCHDOG_PID).is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number(WATCHDOG_USEC).filter(|microseconds| *microseconds > 0 && is_ours).map(Duration::from_micros);
        Self::new(&name, watchdog).map(Some)
    }

    /// With the address as `NOTIFY_SOCKET` has it: a path, or `@` and a name. A sign of life is wanted each `watchdog`.
    ///
    /// # Errors
    /// `Invalid` for another address; [`Error::File`] when there is no socket to be had.
    pub fn new(address: &OsStr, watchdog: Option<Duration>) -> Result<Self> {
        let shown = || address.display();
        let parsed = match address.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(address),
            _ => {
                return Err(Error::invalid(format!("{NOTIFY_SOCKET} is `{}`, which is no address of a local socket", shown()), "unset it"));
            }
        };
        let failed = |error| Error::file("use the socket", address, error);
        let address = parsed.map_err(failed)?;
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self { socket, address, watchdog, state: Mutex::default() })
    }

    /// Tells what the agent's status says, as long as the agent's loop turns: this is a part of it.
    pub(crate) async fn follow(&self, mut status: watch::Receiver<AgentStatus>) -> Infallible {
        let mut alive: Option<Instant> = None;
        let mut asked: Option<Instant> = None;
        loop {
            let now = status.borrow_and_update().clone();
            self.tell(&now, &mut asked);
            if let Some(every) = self.watchdog
                && alive.is_none_or(|at| at.elapsed() >= every / 4)
            {
                alive = Some(Instant::now());
                self.send("WATCHDOG=1");
            }
            // As often as half of what is wanted, and a little more.
            let pause = self.watchdog.map_or(PERIOD, |every| PERIOD.min(every / 3));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Its sender lives as long as the agent.
                _ = status.changed() => {}
            }
        }
    }

    fn tell(&self, status: &AgentStatus, asked: &mut Option<Instant>) {
        let mut state = self.state();
        let mut message = String::new();
        let words = words(status);
        if words != state.words {
            message.push_str(&format!("STATUS={words}\n"));
        }
        let becomes_ready = status.has_started && !state.is_ready && !state.is_stopping;
        if becomes_ready {
            message.push_str("READY=1\n");
        }
        let needs_time = (!status.has_started || state.is_stopping) && asked.is_none_or(|at| at.elapsed() >= PERIOD);
        if needs_time {
            *asked = Some(Instant::now());
            message.push_str(&format!("EXTEND_TIMEOUT_USEC={}\n", MORE_TIME.as_micros()));
        }
        if !message.is_empty() && self.send(message.trim_end()) {
            state.is_ready |= becomes_ready;
            state.words = words;
        }
    }

    /// Says that the configuration is being read anew, where the service is ready.
    pub fn reloading(&self) {
        let mut state = self.state();
        if state.is_ready && !state.is_stopping && !state.is_reloading {
            let now = clock_gettime(ClockId::Monotonic);
            let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
            state.is_reloading = self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        }
    }

    /// Says that this is over, whatever came of it.
    pub fn reloaded(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.is_reloading) && !state.is_stopping {
            self.send("READY=1");
        }
    }

    /// Says that the service ends.
    pub(crate) fn stopping(&self) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.is_stopping, true) {
            self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", MORE_TIME.as_micros()));
        }
    }

    fn send(&self, message: &str) -> bool {
        self.socket.send_to_addr(message.as_bytes(), &self.address).is_ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line for `systemctl status`.
fn words(status: &AgentStatus) -> String {
    match (status.phase, &status.recovery, status.pid) {
        (Phase::Preparing, ..) => "making the data directory ready".to_owned(),
        (Phase::Starting, ..) => "the server is starting".to_owned(),
        (Phase::Recovering, Some(recovery), _) => recovery.describe(),
        (Phase::Recovering, None, _) => "the server recovers".to_owned(),
        (Phase::Ready, _, Some(pid)) => format!("the server, process {pid}, is ready"),
        (Phase::Ready, _, None) => "the server is ready".to_owned(),
        (Phase::Waiting, ..) => format!("the server has ended by itself and is started again; so far {} times", status.restarts),
        (Phase::Stopping, ..) => "the server is being shut down".to_owned(),
        (Phase::Fenced, ..) => "fenced: no server is started until `pgpersist unfence`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that a manager would have, and what comes there.
    fn manager(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, ServiceManager) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let manager = ServiceManager::new(path.as_os_str(), watchdog).unwrap();
        (folder, socket, manager)
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    fn status(phase: Phase) -> AgentStatus {
        AgentStatus { phase, has_started: phase == Phase::Ready, ..AgentStatus::new() }
    }

    #[test]
    fn time_is_asked_for_until_it_is_ready_and_once_it_stops() {
        let (_folder, socket, manager) = manager(None);
        let mut asked = None;
        manager.reloading();
        manager.tell(&status(Phase::Starting), &mut asked);
        manager.tell(&status(Phase::Starting), &mut asked);
        manager.tell(&status(Phase::Ready), &mut asked);
        manager.reloading();
        manager.reloaded();
        manager.reloaded();
        manager.stopping();
        manager.stopping();
        manager.reloading();
        manager.tell(&AgentStatus { has_started: true, ..status(Phase::Stopping) }, &mut None);
        assert_eq!(receive(&socket), "STATUS=the server is starting\nEXTEND_TIMEOUT_USEC=60000000");
        assert_eq!(receive(&socket), "STATUS=the server is ready\nREADY=1");
        assert!(receive(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(receive(&socket), "READY=1");
        assert_eq!(receive(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000");
        assert_eq!(receive(&socket), "STATUS=the server is being shut down\nEXTEND_TIMEOUT_USEC=60000000");
    }

    #[tokio::test]
    async fn signs_of_life_come_as_often_as_they_are_wanted() {
        let (_folder, socket, manager) = manager(Some(Duration::from_millis(60)));
        let (_sender, receiver) = watch::channel(status(Phase::Ready));
        let counting = tokio::task::spawn_blocking(move || (0..12).filter(|_| receive(&socket) == "WATCHDOG=1").count());
        tokio::select! {
            count = counting => assert!(count.unwrap() >= 10),
            never = manager.follow(receiver) => match never {},
        }
    }

    #[test]
    fn nobody_there_is_no_reason_to_wait_and_an_address_that_is_none_is_told() {
        let (folder, socket, manager) = manager(None);
        drop((folder, socket));
        manager.tell(&status(Phase::Ready), &mut None);
        assert!(!manager.state().is_ready);
        for wrong in ["vsock:2:1234", "@", "relative"] {
            assert_eq!(ServiceManager::new(OsStr::new(wrong), None).unwrap_err().kind(), crate::error::ErrorKind::Invalid);
        }
        assert!(ServiceManager::new(OsStr::new("@pgpersist-test"), None).is_ok());
    }
}
