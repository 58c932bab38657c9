//! What must be true of a restored database beyond its rows: the user's own questions, in SQL or in Rust.
//!
//! They are asked as a role that reads everything and changes nothing. The database's own functions may be called by them,
//! so it is no superuser.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::types::Type;

use crate::error::{Error, Result};
use crate::server::session::Session;

/// How long a question may take that says nothing else: it may read every row.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is as it must be.
    Holds,
    /// It is not; the text tells what was found instead.
    Broken(String),
}

/// Something that must be true of a restored database.
///
/// # Contract for implementors
/// - **It only looks.** Its session may read everything and change nothing.
/// - **It ends** within its deadline; then it is dropped at its next `await`, and the drill fails.
/// - **An error is a failure of the drill**, as [`Answer::Broken`] is: what could not be asked is not proven.
/// - **Its name** never changes, and is unique among those of one drill.
#[async_trait]
pub trait Invariant: fmt::Debug + Send + Sync + 'static {
    /// What it is called in the report.
    fn name(&self) -> &str;

    /// The database that it is about.
    fn database(&self) -> &str;

    /// Asks. The session's `search_path` is empty, so names must be qualified.
    async fn ask(&self, session: &Session) -> Result<Answer>;

    /// How long it may take.
    fn deadline(&self) -> Duration {
        DEFAULT_DEADLINE
    }
}

/// A query that returns one row with one boolean column, which must be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlInvariant {
    /// What it is called.
    pub name: String,
    /// The database to ask.
    pub database: String,
    /// One statement. It runs with the `search_path` that the database gives to its sessions.
    pub sql: String,
}

#[async_trait]
impl Invariant for SqlInvariant {
    fn name(&self) -> &str {
        &self.name
    }

    fn database(&self) -> &str {
        &self.database
    }

    async fn ask(&self, session: &Session) -> Result<Answer> {
        let wrong = |error| Error::sql(format!("ask the check `{}`", self.name), error);
        let begin = format!("SET search_path TO DEFAULT; SET statement_timeout = {}; BEGIN READ ONLY", self.deadline().as_millis());
        session.execute("begin a check", &begin).await?;
        // Preparing refuses several statements in one text, and runs nothing yet.
        let statement = session.client().prepare(&self.sql).await.map_err(wrong)?;
        let returns = match statement.columns() {
            [column] if *column.type_() == Type::BOOL => None,
            [column] => Some(format!("it returns `{}`, and a check returns a boolean", column.type_().name())),
            columns => Some(format!("it returns {} columns, and a check returns one boolean", columns.len())),
        };
        if let Some(returns) = returns {
            return Ok(Answer::Broken(returns));
        }
        // Row by row: an answer of a billion rows is not gathered.
        let rows = session.client().query_raw(&statement, std::iter::empty::<i32>()).await.map_err(wrong)?;
        pin_mut!(rows);
        let Some(row) = rows.try_next().await.map_err(wrong)? else {
            return Ok(Answer::Broken("it returned no row, and a check returns one".to_owned()));
        };
        if rows.try_next().await.map_err(wrong)?.is_some() {
            return Ok(Answer::Broken("it returned more than one row, and a check returns one".to_owned()));
        }
        Ok(match row.try_get::<_, Option<bool>>(0).map_err(wrong)? {
            Some(true) => Answer::Holds,
            Some(false) => Answer::Broken("it returned false".to_owned()),
            None => Answer::Broken("it returned null".to_owned()),
        })
    }
}

/// What a closure returns that asks.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>;

/// An invariant from a closure: `from_fn("sum", "shop", |session| Box::pin(async move { … }))`.
pub fn from_fn<F>(name: impl Into<String>, database: impl Into<String>, ask: F) -> Arc<dyn Invariant>
where
    F: for<'a> Fn(&'a Session) -> Asking<'a> + Send + Sync + 'static,
{
    Arc::new(FromFn { name: name.into(), database: database.into(), ask })
}

struct FromFn<F> {
    name: String,
    database: String,
    ask: F,
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FromFn").field("name", &self.name).field("database", &self.database).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F> Invariant for FromFn<F>
where
    F: for<'a> Fn(&'a Session) -> Asking<'a> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn database(&self) -> &str {
        &self.database
    }

    async fn ask(&self, session: &Session) -> Result<Answer> {
        (self.ask)(session).await
    }
}
