//! Sessions for checks: read-only, each statement and lock wait with a deadline, few at a time.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::health::Finding;
use crate::health::checks::judgement::told;
use crate::server::cluster::Cluster;
use crate::server::session::Session;

/// What our sessions are called in `pg_stat_activity`.
pub(super) const APPLICATION_NAME: &str = "pgpersist health";

/// How checks ask a server.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    cluster: Cluster,
    within: Duration,
    sessions: Arc<Semaphore>,
}

/// A session, and the right to have one.
#[derive(Debug)]
pub(super) struct Asked {
    session: Session,
    _permit: OwnedSemaphorePermit,
}

impl Deref for Asked {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Asking {
    /// `deadline` is that of the check: sessions get four fifths of it, so that a check has time to say what happened.
    pub(super) fn new(cluster: Cluster, deadline: Duration, sessions: usize) -> Self {
        Self { cluster, within: deadline * 4 / 5, sessions: Arc::new(Semaphore::new(sessions)) }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A session in a database.
    pub(super) async fn session(&self, database: &str) -> Result<Asked> {
        let began = Instant::now();
        let connection = self.cluster.connection(database).await?;
        let permit = tokio::time::timeout(self.within, Arc::clone(&self.sessions).acquire_owned());
        let permit = match permit.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Error::Bug("the sessions of a check were closed".to_owned())),
            Err(_) => {
                return Err(Error::Deadline {
                    what: "other checks left no session to ask with".to_owned(),
                    after: self.within,
                    remedy: None,
                });
            }
        };
        let left = || self.within.saturating_sub(began.elapsed()).max(Duration::from_millis(100));
        let session = Session::connect(&connection, left()).await?;
        let milliseconds = left().as_millis();
        let setup = format!(
            "SET application_name = '{APPLICATION_NAME}'; SET default_transaction_read_only = on; \
             SET statement_timeout = {milliseconds}; SET lock_timeout = {milliseconds}"
        );
        session.execute("set up the session of a check", &setup).await?;
        Ok(Asked { session, _permit: permit })
    }

    /// A session in a database that is nearly always there.
    pub(super) async fn any_session(&self) -> Result<Asked> {
        match self.session("postgres").await {
            Err(error) if code(&error) == Some(SqlState::INVALID_CATALOG_NAME) => self.session("template1").await,
            result => result,
        }
    }
}

/// The server's own code for what happened.
pub(super) fn code(error: &Error) -> Option<SqlState> {
    match error {
        Error::Sql { source, .. } => source.code().cloned(),
        _ => None,
    }
}

/// The finding of a check that needed an answer and got none.
pub(super) fn not_asked(name: &str, error: &Error) -> Finding {
    Finding::unknown(name, format!("not known: {}", told(error)), error.remedy()).observing("error", error.kind().as_str())
}
