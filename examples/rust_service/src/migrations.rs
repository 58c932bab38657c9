//! The schema: a numbered list of files, each applied once, in a transaction that also records it. A kill in the midst leaves
//! the schema as it was before that file, and the next start goes on there.

use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::Error;
use pgpersist_core::agent::status::{AgentStatus, Phase};
use pgpersist_core::pg::log_line::Severity;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::log;
use crate::pool::Pool;

/// One file. What was applied once is never changed: a change is the next file.
struct Migration {
    number: i32,
    name: &'static str,
    sql: &'static str,
}

/// All of them, in their order.
const ALL: &[Migration] = &[
    Migration { number: 1, name: "customers and orders", sql: include_str!("../migrations/0001_customers_and_orders.sql") },
    Migration { number: 2, name: "invoices", sql: include_str!("../migrations/0002_invoices.sql") },
];

/// Another service that starts at the same moment waits here. Any number, but always the same one.
const LOCK: i64 = 0x6375_7374_6f6d_6572;
/// How long after a server that broke it is tried again.
const BREATH: Duration = Duration::from_millis(200);

/// Brings the schema up as soon as the server is ready, tells it, and then waits for ever. Comes back with what no other try mends.
pub(crate) async fn bring_up(pool: &Arc<Pool>, mut status: watch::Receiver<AgentStatus>, migrated: watch::Sender<bool>) -> Error {
    loop {
        // An agent that has ended is somebody else's news.
        if status.wait_for(|status| status.phase == Phase::Ready).await.is_err() {
            return std::future::pending().await;
        }
        match apply(pool).await {
            Ok(()) => {
                migrated.send_replace(true);
                return std::future::pending().await;
            }
            Err(Failure::Unavailable(why)) => {
                log::say(Severity::Warning, &format!("the schema waits for the server: {why}"));
                tokio::time::sleep(BREATH).await;
            }
            Err(Failure::Refused(_, why) | Failure::Bug(why)) => {
                return Error::invalid(
                    format!("the schema could not be brought up: {why}"),
                    "look at the file of that number in migrations/; nothing of it was applied",
                );
            }
        }
    }
}

/// Applies what is missing.
async fn apply(pool: &Arc<Pool>) -> Result<(), Failure> {
    let mut session = pool.session().await?;
    let ours = ALL.last().map_or(0, |migration| migration.number);
    for migration in ALL {
        let transaction = session.transaction().await?;
        // A change of a large table takes its time, and so does another service that makes it.
        let begin = format!(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({LOCK}); \
             CREATE TABLE IF NOT EXISTS public.schema_migrations \
             (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        );
        transaction.batch_execute(&begin).await?;
        let last: i32 = transaction.query_one("SELECT coalesce(max(number), 0) FROM public.schema_migrations", &[]).await?.get(0);
        if last > ours {
            return Err(Failure::Bug(format!("it is at number {last}, of a newer service, and this one knows {ours}")));
        }
        if last >= migration.number {
            continue;
        }
        let wrong = |error: tokio_postgres::Error| match error.into() {
            Failure::Bug(why) => Failure::Bug(format!("number {}, {}: {why}", migration.number, migration.name)),
            other => other,
        };
        transaction.batch_execute(migration.sql).await.map_err(wrong)?;
        let record = "INSERT INTO public.schema_migrations (number, name) VALUES ($1, $2)";
        transaction.execute(record, &[&migration.number, &migration.name]).await?;
        transaction.commit().await?;
        log::say(Severity::Log, &format!("the schema is at number {}, {}", migration.number, migration.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_by_one() {
        assert!(ALL.iter().map(|migration| migration.number).eq(1..=2));
    }
}
