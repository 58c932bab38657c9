//! Whether the rows that a dump's side file promises came back: by what stood in the dump, and by counting them where they
//! are now.

use std::collections::BTreeMap;

use crate::drill::CheckStatus;
use crate::drill::checks::Check;
use crate::drill::restore_report::{DatabaseReport, TableRows};
use crate::error::{Error, Result};
use crate::pg::quote;
use crate::server::session::Session;

/// The name of the check.
pub(crate) const NAME: &str = "rows";
/// How many tables that differ are named.
const NAMED: usize = 20;

/// Counts each table's rows and compares. `loaded` are the rows that stood in the dump; without a side file they are all
/// that is known.
///
/// # Errors
/// [`Error::Sql`].
pub(crate) async fn compare(
    session: &Session,
    promised: Option<&BTreeMap<String, u64>>,
    loaded: &BTreeMap<String, u64>,
    report: &mut DatabaseReport,
) -> Result<()> {
    let expected = promised.unwrap_or(loaded);
    let mut differences = Vec::new();
    for (table, &expected) in expected {
        let counted = count(session, table).await?;
        let loaded = loaded.get(table).copied().unwrap_or_default();
        // A table of an extension also has rows that are in no dump.
        let came = counted.unwrap_or_default().min(loaded);
        report.rows_found += came;
        report.table_count += u64::from(counted.is_some());
        let found = if came < expected { came } else { loaded };
        if found != expected {
            differences.push(TableRows { table: table.clone(), expected, found });
        }
    }
    let unknown = loaded.keys().filter(|table| !expected.contains_key(*table)).count();
    // The worst ones first: a report names some.
    differences.sort_by_key(|table| std::cmp::Reverse(table.expected.abs_diff(table.found)));
    let check = judge(&differences, unknown, report, promised.is_some());
    report.take(check);
    report.differences = differences;
    Ok(())
}

/// Leaves only so many tables in a report that its reader is not drowned.
pub(crate) fn shorten(report: &mut DatabaseReport) {
    report.differences.truncate(NAMED);
}

fn judge(differences: &[TableRows], unknown: usize, report: &DatabaseReport, is_promised: bool) -> Check {
    let check = |status, summary: String| Check::new(NAME, status, summary);
    if let Some(TableRows { table, expected, found }) = differences.first() {
        let others = if differences.len() > 1 { format!(", and {} tables more differ", differences.len() - 1) } else { String::new() };
        return check(CheckStatus::Fail, format!("{table} has {found} rows, and its side file says {expected}{others}"));
    }
    if unknown > 0 {
        return check(CheckStatus::Fail, format!("the dump holds {unknown} tables that its side file does not know"));
    }
    if is_promised {
        check(CheckStatus::Pass, format!("{} rows in {} tables", report.rows_found, report.table_count))
    } else {
        check(CheckStatus::Unknown, "the dump has no side file to compare with".to_owned())
    }
}

/// The rows of a table whose name may come from a file that anybody wrote; `None` where there is no such table.
async fn count(session: &Session, table: &str) -> Result<Option<u64>> {
    let action = || format!("count the rows of {table}");
    // The server reads the name and gives it back, qualified and quoted. Rows that were dumped under a partitioned table lie
    // in its partitions; those of any other table are its own.
    let look = format!(
        "SELECT CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c \
         WHERE c.oid = pg_catalog.to_regclass({}) AND c.relkind IN ('r', 'p', 'm')",
        quote::literal(table)
    );
    let name = match session.text(&action(), &look).await {
        Ok(Some(name)) => name,
        Ok(None) => return Ok(None),
        // Not even a name.
        Err(Error::Sql { source, .. }) if source.as_db_error().is_some_and(|said| said.code().code().starts_with("42")) => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = session.text(&action(), &format!("SELECT pg_catalog.count(*) FROM {name}")).await?.unwrap_or_default();
    number.parse().map(Some).map_err(|_| Error::Bug(format!("the server counts `{number}` rows")))
}
