//! A few sessions with the server, which may be killed at any time: a session that broke is thrown away, and the next request
//! makes a new one with whatever server runs then.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgpersist_core::Cluster;
use pgpersist_core::pg::log_line::Severity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, Config, NoTls};

use crate::failure::Failure;
use crate::log;

/// So many sessions at a time; a commit waits for the disk, not for us, and so a few are enough.
const SESSIONS: usize = 8;
/// How long a request waits for one of them.
const WAIT: Duration = Duration::from_secs(2);
/// How long the server has to let us in.
const CONNECT: Duration = Duration::from_secs(2);
/// How often it is told why none can be had.
const TOLD: Duration = Duration::from_secs(10);
/// What each session begins with. A role or a database may wait less for its commits, and this service promises that what it
/// answers with 2xx is on the disk. Statements are given up before the request is, and so nothing stays behind it.
const SETTINGS: &str = "-c synchronous_commit=on -c statement_timeout=5s -c lock_timeout=3s \
                        -c idle_in_transaction_session_timeout=10s -c TimeZone=UTC";

/// The sessions.
#[derive(Debug)]
pub(crate) struct Pool {
    cluster: Cluster,
    database: String,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Client>>,
    /// When it was told last that no session can be had.
    told: Mutex<Option<Instant>>,
}

/// One of them, for one request. It goes back when it is dropped; a transaction that is not committed is rolled back first.
pub(crate) struct Session {
    client: Option<Client>,
    pool: Arc<Pool>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    /// Sessions with this database; none is made yet.
    pub(crate) fn new(cluster: Cluster, database: &str) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(SESSIONS));
        Arc::new(Self { cluster, database: database.to_owned(), free, idle: Mutex::default(), told: Mutex::default() })
    }

    /// One that lives, as far as is known: it may break with the next statement.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Session, Failure> {
        let place = tokio::time::timeout(WAIT, self.free.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(Failure::Unavailable("all sessions with the database are busy".to_owned())) };
        let client = match self.living() {
            Some(client) => client,
            None => match tokio::time::timeout(CONNECT, self.connect()).await {
                Ok(connected) => connected?,
                Err(_) => return Err(Failure::Unavailable("the database does not answer".to_owned())),
            },
        };
        Ok(Session { client: Some(client), pool: self.clone(), _place: place })
    }

    fn living(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|client| !client.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> Result<Client, Failure> {
        // The server that runs in our directory now, by its process: never another one that has got the port meanwhile.
        let server = self.cluster.connection(&self.database).await.map_err(|error| self.missing(&error))?;
        let mut config: Config = server.conninfo().parse().map_err(|error| Failure::bug("the server's address", error))?;
        config.application_name("customer-invoice").options(SETTINGS).connect_timeout(CONNECT);
        if let Some(password) = &server.password {
            config.password(password.expose());
        }
        // No TLS: it is a socket of this machine.
        let (client, connection) = config.connect(NoTls).await.map_err(|error| self.missing(&error))?;
        // It ends with the client, or with the server; then the client's next statement says so.
        tokio::spawn(connection);
        Ok(client)
    }

    /// No session can be had. Why is for the log, now and then: a server that is away for long is asked for by every request.
    fn missing(&self, error: &dyn Error) -> Failure {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TOLD) {
            *told = Some(Instant::now());
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            log::say(Severity::Warning, &format!("no session with the database: {error}{cause}"));
        }
        Failure::Unavailable("the database takes no sessions at the moment".to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|client| !client.is_closed()) {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("it is taken in drop alone")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("it is taken in drop alone")
    }
}
