//! `probe:<table>`: how many rows a table has, wherever it lies, for `pgpersist health --table orders`.
//!
//! The table is found in the catalog, never by `search_path`: the first schema counts, `public` before the others. Where
//! counting takes too long, the planner's estimate is told as such.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::health::checks::asking::{Asked, Asking, code, not_asked};
use crate::health::checks::judgement::told;
use crate::health::checks::probe::PREFIX;
use crate::health::{Finding, HealthCheck};
use crate::pg::quote;

/// Counts the rows of one table.
#[derive(Debug, Clone)]
pub struct TableCheck {
    name: String,
    table: String,
    databases: Vec<String>,
    asking: Asking,
    deadline: Duration,
}

impl TableCheck {
    /// `table` is a name or `schema.name`, as it stands in the catalog; it is looked for in `databases`, in their order, or in
    /// all where that is empty.
    pub(super) fn new(table: &str, databases: Vec<String>, asking: Asking, deadline: Duration) -> Self {
        Self { name: format!("{PREFIX}{table}"), table: table.to_owned(), databases, asking, deadline }
    }

    async fn ask(&self) -> Result<Option<Seen>> {
        let databases =
            if self.databases.is_empty() { self.asking.any_session().await?.databases().await? } else { self.databases.clone() };
        for database in databases {
            let session = match self.asking.session(&database).await {
                // That it is missing is the finding of the database itself.
                Err(error) if code(&error) == Some(SqlState::INVALID_CATALOG_NAME) => continue,
                result => result?,
            };
            if let Some((schema, table, estimate)) = find(&session, &self.table).await? {
                let rows = count(&session, &schema, &table, estimate).await?;
                return Ok(Some(Seen { database, schema, table, rows }));
            }
        }
        Ok(None)
    }
}

#[derive(Debug)]
struct Seen {
    database: String,
    schema: String,
    table: String,
    rows: Rows,
}

#[derive(Debug, PartialEq)]
enum Rows {
    Counted(i64),
    Estimated(i64),
    TooMany,
}

async fn find(session: &Asked, name: &str) -> Result<Option<(String, String, i64)>> {
    // A name with a dot may be one all the same: both readings are tried, the whole name first.
    let (schema, table) = name.split_once('.').map_or(("", ""), |(schema, table)| (schema, table));
    let query = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.reltuples::pg_catalog.int8 \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,m}'::pg_catalog.\"char\"[]) \
           AND (c.relname OPERATOR(pg_catalog.=) $1::pg_catalog.text \
             OR (n.nspname OPERATOR(pg_catalog.=) $2::pg_catalog.text AND c.relname OPERATOR(pg_catalog.=) $3::pg_catalog.text)) \
           AND n.nspname OPERATOR(pg_catalog.!~~) 'pg\\_%' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
         ORDER BY c.relname OPERATOR(pg_catalog.<>) $1::pg_catalog.text, n.nspname OPERATOR(pg_catalog.<>) 'public', n.nspname LIMIT 1";
    let rows = session.client().query(query, &[&name, &schema, &table]).await.map_err(|e| Error::sql("look for a table", e))?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1), row.get(2))))
}

async fn count(session: &Asked, schema: &str, table: &str, estimate: i64) -> Result<Rows> {
    let query = format!("SELECT pg_catalog.count(*) FROM {}.{}", quote::identifier(schema), quote::identifier(table));
    match session.client().query_one(&query, &[]).await {
        Ok(row) => Ok(Rows::Counted(row.get(0))),
        Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
            // -1 means never analysed.
            Ok(if estimate >= 0 { Rows::Estimated(estimate) } else { Rows::TooMany })
        }
        Err(error) => Err(Error::sql(format!("count the rows of {schema}.{table}"), error)),
    }
}

#[async_trait]
impl HealthCheck for TableCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self) -> Finding {
        judge(&self.name, &self.table, &self.databases, self.ask().await)
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(name: &str, table: &str, databases: &[String], seen: Result<Option<Seen>>) -> Finding {
    let finding = match seen {
        Ok(Some(seen)) => {
            let finding = match seen.rows {
                Rows::Counted(1) => Finding::pass(name, "1 row").observing("value", 1),
                Rows::Counted(rows) => Finding::pass(name, format!("{rows} rows")).observing("value", rows),
                Rows::Estimated(rows) => Finding::pass(name, format!("about {rows} rows")).observing("estimate", rows),
                Rows::TooMany => Finding::unknown(
                    name,
                    "too many rows to be counted in time",
                    Some(format!("run `analyze` on {}, so that there is an estimate", seen.table)),
                ),
            };
            finding.observing("database", seen.database).observing("schema", seen.schema)
        }
        Ok(None) => {
            let place = if databases.is_empty() { "any database".to_owned() } else { databases.join(", ") };
            Finding::fail(
                name,
                format!("there is no table {table} in {place}"),
                "check its name: upper and lower case count, as in `--table customerInvoice`",
            )
        }
        Err(error) => match code(&error) {
            Some(code) if matches!(code.code().get(..2), Some("58" | "XX")) => {
                Finding::fail(name, told(&error), "look at the server's log; keep the directory, and the newest dump, as they are")
            }
            _ => not_asked(name, &error),
        },
    };
    finding.observing("probe", table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn rows_are_told_and_an_estimate_is_called_one() {
        let judged =
            |rows| judge("probe:o", "o", &[], Ok(Some(Seen { database: "d".into(), schema: "public".into(), table: "o".into(), rows })));
        assert_eq!((judged(Rows::Counted(8)).summary.as_str(), judged(Rows::Estimated(9)).summary.as_str()), ("8 rows", "about 9 rows"));
        assert_eq!((judged(Rows::TooMany).status, judge("probe:o", "o", &[], Ok(None)).status), (Status::Unknown, Status::Fail));
    }
}
