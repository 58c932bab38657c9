//! One SQL session with any server, for layers above that must not need a driver.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use tokio::sync::Mutex;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::ErrorPosition;

use crate::arguments::duration;
use crate::operation::{Answer, Operation, nothing};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::secret::Secret;
use pgpersist_core::server::connection::{ConnectionOptions, Host};
use pgpersist_core::server::session::Session;

/// An open session. One operation at a time: the next waits for the one before.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeSession {
    session: Arc<Mutex<Option<Session>>>,
}

#[pymethods]
impl NativeSession {
    /// Opens one. A host that begins with a slash is the folder of a socket.
    #[staticmethod]
    #[pyo3(signature = (host, port, user, database, password, timeout))]
    fn connect(host: &str, port: u16, user: String, database: String, password: Option<String>, timeout: f64) -> PyResult<Operation> {
        let (host, password) = (Host::parse(host), password.map(Secret::new));
        let options = ConnectionOptions { host, port, user, database, password, os_user: None };
        let timeout: Duration = duration(timeout, "timeout")?;
        Ok(Operation::new("connecting", async move {
            let session = Session::connect(&options, timeout).await?;
            // The library's own sessions resolve no name by chance; this one is the caller's.
            session.execute("set up the session", "RESET search_path").await?;
            let session = Arc::new(Mutex::new(Some(session)));
            let answer: Answer = Box::new(move |py| Ok(Py::new(py, Self { session })?.into_any()));
            Ok(answer)
        }))
    }

    /// Executes statements, in one transaction unless they say otherwise; `action` completes "could not …".
    fn execute(&self, action: String, sql: String) -> Operation {
        let session = self.session.clone();
        Operation::new("executing SQL", async move {
            ask(&session, action, &sql).await?;
            Ok(nothing())
        })
    }

    /// The rows of a query, each value as PostgreSQL's text or `None`.
    fn query(&self, action: String, sql: String) -> Operation {
        let session = self.session.clone();
        Operation::new("asking the server", async move {
            let messages = ask(&session, action, &sql).await?;
            let answer: Answer = Box::new(move |py| Ok(rows(messages).into_pyobject(py)?.into_any().unbind()));
            Ok(answer)
        })
    }

    /// Closes it; what is asked afterwards fails.
    fn close(&self) -> Operation {
        let session = self.session.clone();
        Operation::new("closing a session", async move {
            session.lock().await.take();
            Ok(nothing())
        })
    }
}

async fn ask(session: &Mutex<Option<Session>>, action: String, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
    let session = session.lock().await;
    let session = session.as_ref().ok_or_else(|| Error::conflict("this session was closed", "open another one"))?;
    session.simple_query(sql).await.map_err(|error| {
        let line = error.as_db_error().and_then(|server| match server.position() {
            Some(ErrorPosition::Original(position)) => Some(line_of(sql, *position)),
            _ => None,
        });
        Error::sql(line.map_or(action.clone(), |line| format!("{action}, line {line}")), error)
    })
}

/// The line of a character, both counted from one.
fn line_of(sql: &str, position: u32) -> usize {
    let before = usize::try_from(position.saturating_sub(1)).unwrap_or(usize::MAX);
    1 + sql.chars().take(before).filter(|character| *character == '\n').count()
}

fn rows(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<Option<String>>> {
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    });
    rows.collect()
}
