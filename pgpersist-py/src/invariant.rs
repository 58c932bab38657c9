//! A Python callable as an [`Invariant`] of a restored database: it asks through a function that it is given.

use std::sync::Arc;

use async_trait::async_trait;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::SimpleQueryMessage;

use crate::exceptions;
use pgpersist_core::drill::invariants::{Answer, Invariant};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::server::session::Session;

/// Rows as PostgreSQL's own texts.
type Rows = Vec<Vec<Option<String>>>;

#[derive(Debug)]
struct Question {
    sql: String,
    reply: oneshot::Sender<Result<Rows>>,
}

/// What a Python invariant asks with: `query("SELECT …")` returns the rows, each value as text or `None`.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct Query {
    questions: mpsc::Sender<Question>,
}

#[pymethods]
impl Query {
    fn __call__(&self, py: Python<'_>, sql: String) -> PyResult<Rows> {
        let (reply, answer) = oneshot::channel();
        let questions = self.questions.clone();
        let ended = || PyRuntimeError::new_err("the check has ended, and its session with it");
        let answered = py.detach(move || {
            questions.blocking_send(Question { sql, reply }).ok()?;
            answer.blocking_recv().ok()
        });
        answered.ok_or_else(ended)?.map_err(|error| exceptions::made(py, &error))
    }
}

/// A callable with the name that its report bears.
#[derive(Debug)]
pub(crate) struct PythonInvariant {
    name: String,
    database: String,
    ask: Arc<Py<PyAny>>,
}

impl PythonInvariant {
    pub(crate) fn new(name: String, database: String, ask: Py<PyAny>) -> Self {
        Self { name, database, ask: Arc::new(ask) }
    }
}

#[async_trait]
impl Invariant for PythonInvariant {
    fn name(&self) -> &str {
        &self.name
    }

    fn database(&self) -> &str {
        &self.database
    }

    async fn ask(&self, session: &Session) -> Result<Answer> {
        session.execute("begin a check", "SET search_path TO DEFAULT; BEGIN READ ONLY").await?;
        let (questions, mut asked) = mpsc::channel::<Question>(1);
        let ask = self.ask.clone();
        let mut asking = tokio::task::spawn_blocking(move || Python::try_attach(|py| call(py, &ask, questions)));
        loop {
            tokio::select! {
                answer = &mut asking => return answered(&self.name, answer.ok().flatten()),
                Some(Question { sql, reply }) = asked.recv() => {
                    let _ = reply.send(rows(session, &sql).await);
                }
            }
        }
    }
}

fn call(py: Python<'_>, ask: &Py<PyAny>, questions: mpsc::Sender<Question>) -> std::result::Result<Answer, String> {
    let told = |error: PyErr| error.to_string();
    let query = Py::new(py, Query { questions }).map_err(told)?;
    let answer = ask.call1(py, (query,)).map_err(told)?;
    let answer = answer.bind(py);
    if let Ok(truth) = answer.cast::<PyBool>() {
        return Ok(if truth.is_true() { Answer::Holds } else { Answer::Broken("it returned False".to_owned()) });
    }
    if let Ok(found) = answer.extract::<String>() {
        return Ok(Answer::Broken(found));
    }
    let kind = answer.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    Err(format!("it returned a {kind}, and a check returns True, False, or a str that says what was found instead"))
}

/// What was not answered is not proven, so an exception is a failure as well.
fn answered(name: &str, answer: Option<std::result::Result<Answer, String>>) -> Result<Answer> {
    match answer {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(thrown)) => Ok(Answer::Broken(thrown)),
        None => Err(Error::unavailable(format!("the check `{name}` was not asked: the interpreter is ending"), "repeat the drill")),
    }
}

async fn rows(session: &Session, sql: &str) -> Result<Rows> {
    let messages = session.client().simple_query(sql).await.map_err(|error| Error::sql("ask what a check wants to know", error))?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}
