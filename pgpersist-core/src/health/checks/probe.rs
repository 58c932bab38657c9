//! `probe:<name>`: a question of the user's own to a database, whose answer is shown.
//!
//! It is one statement in a read-only transaction with a deadline. It runs with the role's own `search_path`, unlike all our
//! other SQL, since `select count(*) from orders` is what people write.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, pin_mut};
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use crate::error::{Error, Result};
use crate::health::checks::asking::{Asking, code, not_asked};
use crate::health::checks::judgement::told;
use crate::health::{Finding, HealthCheck};
use crate::wording;

/// What the names of its findings begin with.
pub const PREFIX: &str = "probe:";
/// Longer answers are cut in what people read.
const SHOWN_CHARACTERS: usize = 80;

/// A question to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What the answer is called.
    pub name: String,
    /// The database to ask.
    pub database: String,
    /// One statement; the first column of its first row is the answer.
    pub sql: String,
}

/// Asks one probe.
#[derive(Debug, Clone)]
pub struct ProbeCheck {
    name: String,
    probe: Probe,
    asking: Asking,
    deadline: Duration,
}

impl ProbeCheck {
    pub(super) fn new(probe: Probe, asking: Asking, deadline: Duration) -> Self {
        Self { name: format!("{PREFIX}{}", probe.name), probe, asking, deadline }
    }

    async fn ask(&self) -> Result<Answer> {
        let session = self.asking.session(&self.probe.database).await?;
        let wrong = |error| Error::sql(format!("ask the probe `{}`", self.probe.name), error);
        session.execute("begin a probe", "SET search_path TO DEFAULT; BEGIN READ ONLY").await?;
        // Preparing refuses several statements in one text, so nothing but the question runs.
        let statement = session.client().prepare(&self.probe.sql).await.map_err(wrong)?;
        // What `count(*)` calls its column; then the answer is a number of rows.
        let counts_rows = statement.columns().first().is_some_and(|column| column.name() == "count");
        // As text whatever its type, and row by row: an answer of a billion rows is not gathered.
        let answers = session.client().simple_query_raw(&self.probe.sql).await.map_err(wrong)?;
        pin_mut!(answers);
        let mut value = None;
        while let Some(message) = answers.next().await {
            if let SimpleQueryMessage::Row(row) = message.map_err(wrong)? {
                value = row.try_get(0).map_err(wrong)?.map(str::to_owned);
                break;
            }
        }
        Ok(Answer { value, counts_rows })
    }
}

#[derive(Debug)]
struct Answer {
    value: Option<String>,
    counts_rows: bool,
}

#[async_trait]
impl HealthCheck for ProbeCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Finding {
        judge(&self.name, &self.probe, self.ask().await)
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(name: &str, probe: &Probe, answer: Result<Answer>) -> Finding {
    let finding = match answer {
        Ok(Answer { value: Some(value), counts_rows }) => {
            let rows = if !counts_rows {
                ""
            } else if value == "1" {
                " row"
            } else {
                " rows"
            };
            let finding = Finding::pass(name, format!("{}{rows}", wording::shortened(&value, SHOWN_CHARACTERS)));
            match value.parse::<i64>() {
                Ok(number) => finding.observing("value", number),
                Err(_) => match value.parse::<f64>().ok().filter(|number| number.is_finite()) {
                    Some(number) => finding.observing("value", number),
                    None => finding.observing("value", wording::shortened(&value, 1000)),
                },
            }
        }
        Ok(Answer { value: None, .. }) => Finding::pass(name, "no value").observing("value", serde_json::Value::Null),
        Err(error) => match code(&error) {
            Some(code) if code == SqlState::QUERY_CANCELED => Finding::unknown(
                name,
                "no answer in time",
                Some(format!("make the query of `[[health.probe]] name = \"{}\"` faster", probe.name)),
            ),
            // The server is there and cannot answer: the table is gone, or the question is wrong.
            Some(code) if code != SqlState::TOO_MANY_CONNECTIONS && !matches!(code.code().get(..2), Some("08" | "57" | "28")) => {
                Finding::fail(
                    name,
                    told(&error),
                    format!("check that the database `{}` is whole, and the query of the probe `{}`", probe.database, probe.name),
                )
            }
            _ => not_asked(name, &error),
        },
    };
    finding.observing("database", probe.database.as_str()).observing("probe", probe.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    fn judged(answer: Result<Answer>) -> Finding {
        judge("probe:orders", &Probe { name: "orders".into(), database: "customerInvoice".into(), sql: "select 1".into() }, answer)
    }

    fn value(value: &str, counts_rows: bool) -> Finding {
        judged(Ok(Answer { value: Some(value.into()), counts_rows }))
    }

    #[test]
    fn an_answer_is_shown_and_a_count_is_one_of_rows() {
        assert_eq!(
            (value("8", true).summary.as_str(), value("8", false).summary.as_str(), value("1", true).summary.as_str()),
            ("8 rows", "8", "1 row")
        );
        assert_eq!(value("8", true).observed["value"], 8);
        assert_eq!(value("11778.25", false).observed["value"], 11_778.25);
        assert_eq!(value("NaN", false).observed["value"], "NaN");
        assert_eq!(value(&"x".repeat(5000), false).summary.chars().count(), SHOWN_CHARACTERS);
        assert_eq!(judged(Ok(Answer { value: None, counts_rows: true })).summary, "no value");
    }

    #[test]
    fn a_server_that_is_down_leaves_it_unknown() {
        let finding = judged(Err(Error::unavailable("no server runs", "start it")));
        assert_eq!((finding.status, finding.observed["database"].as_str()), (Status::Unknown, Some("customerInvoice")));
    }
}
