//! `database:<name>`: can it be connected to?

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::error::SqlState;

use crate::error::Error;
use crate::health::checks::asking::{Asking, code, not_asked};
use crate::health::checks::judgement::told;
use crate::health::{Finding, HealthCheck};

/// What the names of its findings begin with.
pub const PREFIX: &str = "database:";

/// Opens a session in one database.
#[derive(Debug, Clone)]
pub struct DatabaseCheck {
    name: String,
    database: String,
    asking: Asking,
    deadline: Duration,
}

impl DatabaseCheck {
    pub(super) fn new(database: &str, asking: Asking, deadline: Duration) -> Self {
        Self { name: format!("{PREFIX}{database}"), database: database.to_owned(), asking, deadline }
    }
}

#[async_trait]
impl HealthCheck for DatabaseCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Finding {
        let asked = match self.asking.session(&self.database).await {
            Ok(session) => session.text("ask the database", "SELECT 1").await.map(|_| ()),
            Err(error) => Err(error),
        };
        judge(&self.name, &self.database, asked.err().as_ref()).observing("database", self.database.as_str())
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(name: &str, database: &str, error: Option<&Error>) -> Finding {
    let Some(error) = error else {
        return Finding::pass(name, "accessible");
    };
    match code(error) {
        Some(code) if code == SqlState::INVALID_CATALOG_NAME => Finding::fail(
            name,
            "does not exist",
            format!("create it with `pgpersist init`, or load its newest dump: `pgpersist load latest -d {database}`"),
        ),
        // The server answers and knows the database: it is this database that lets nobody in.
        Some(code) if code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => Finding::fail(
            name,
            format!("not accessible: {}", told(error)),
            "let sessions in again: `alter database … allow_connections true`, and look who forbade it",
        ),
        Some(code) if matches!(code.code().get(..2), Some("58" | "XX")) => Finding::fail(
            name,
            format!("not accessible: {}", told(error)),
            "look at the server's log; keep the directory, and the newest dump, as they are",
        ),
        _ => not_asked(name, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn a_server_that_is_down_leaves_it_unknown() {
        assert_eq!(judge("database:x", "x", None).summary, "accessible");
        assert_eq!(judge("database:x", "x", Some(&Error::unavailable("no server runs", ""))).status, Status::Unknown);
    }
}
