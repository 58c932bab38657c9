//! `transaction_ids`: how far is the oldest row from the wraparound, at which the server stops to take writes?
//!
//! Source: *Preventing Transaction ID Wraparound Failures*, PostgreSQL 17. Identifiers are compared in a circle of 2^32, so an
//! age may reach 2^31. Autovacuum freezes at `autovacuum_freeze_max_age` (200 million), at `vacuum_failsafe_age` (1,600 million)
//! it drops everything else; 3 million before the end the server refuses new identifiers. Half of the circle therefore means
//! that vacuum has not worked for long, and four fifths that the failsafe has begun and does not get through either.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::health::checks::asking::{Asking, not_asked};
use crate::health::checks::judgement::Judgement;
use crate::health::{Finding, HealthCheck, Status};
use crate::server::cluster::Cluster;

/// The name of its finding.
pub const NAME: &str = "transaction_ids";

/// The age at which identifiers run out.
pub const WRAPAROUND_AGE: i64 = 1 << 31;
/// From so many percent of it, it is a warning.
pub const WARN_PERCENT: i64 = 50;
/// From so many percent of it, it is a failure.
pub const FAIL_PERCENT: i64 = 80;

const QUERY: &str = "SELECT datname::pg_catalog.text, pg_catalog.age(datfrozenxid)::pg_catalog.int8, pg_catalog.mxid_age(datminmxid)::pg_catalog.int8, \
    pg_catalog.current_setting('autovacuum_freeze_max_age')::pg_catalog.int8, \
    pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::pg_catalog.int8 FROM pg_catalog.pg_database ORDER BY datname";

/// Reads the age of each database.
#[derive(Debug, Clone)]
pub struct TransactionIdsCheck {
    asking: Asking,
    deadline: Duration,
}

impl TransactionIdsCheck {
    /// A check of the server of this cluster.
    pub fn new(cluster: Cluster, deadline: Duration) -> Self {
        Self { asking: Asking::new(cluster, deadline, 1), deadline }
    }

    async fn look(&self) -> Result<Seen> {
        let session = self.asking.any_session().await?;
        let rows = session.client().query(QUERY, &[]).await.map_err(|e| Error::sql("read the ages of the databases", e))?;
        Ok(Seen {
            ages: rows.iter().map(|row| Age { database: row.get(0), transactions: row.get(1), multixacts: row.get(2) }).collect(),
            freeze_max_age: rows.first().map_or(0, |row| row.get(3)),
            multixact_freeze_max_age: rows.first().map_or(0, |row| row.get(4)),
        })
    }
}

#[derive(Debug)]
struct Seen {
    ages: Vec<Age>,
    freeze_max_age: i64,
    multixact_freeze_max_age: i64,
}

#[derive(Debug)]
struct Age {
    database: String,
    transactions: i64,
    multixacts: i64,
}

#[async_trait]
impl HealthCheck for TransactionIdsCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        match self.look().await {
            Ok(seen) => judge(&seen),
            Err(error) => not_asked(NAME, &error),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(seen: &Seen) -> Finding {
    // A frozen database without multixacts can have an age of 2^31 - 1, which means none.
    let oldest = |age: fn(&Age) -> i64| {
        seen.ages.iter().filter(|a| age(a) < i64::from(i32::MAX)).max_by_key(|a| age(a)).map(|a| (a.database.as_str(), age(a)))
    };
    let (transactions, multixacts) = (oldest(|age| age.transactions), oldest(|age| age.multixacts));
    let mut judgement = Judgement::default();
    for (what, oldest) in [("transaction IDs", transactions), ("multixact IDs", multixacts)] {
        let Some((database, age)) = oldest else { continue };
        let status = match age.saturating_mul(100) / WRAPAROUND_AGE {
            FAIL_PERCENT.. => Status::Fail,
            WARN_PERCENT.. => Status::Warn,
            _ => continue,
        };
        judgement.add(
            status,
            format!("{} % of the {what} are used up, by database {database}", percent(age)),
            "run `vacuum freeze` in it as a superuser; first end what holds it back: long transactions (pg_stat_activity), prepared ones (pg_prepared_xacts), unused replication slots (pg_replication_slots)",
        );
    }
    let finding = judgement.finding(NAME, || match transactions {
        Some((database, age)) => format!("{} % used (oldest: database {database})", percent(age)),
        None => "none used".to_owned(),
    });
    finding
        .observing("oldest_age", transactions.map_or(0, |(_, age)| age))
        .observing("oldest_multixact_age", multixacts.map_or(0, |(_, age)| age))
        .observing("freeze_max_age", seen.freeze_max_age)
        .observing("multixact_freeze_max_age", seen.multixact_freeze_max_age)
        .observing("wraparound_age", WRAPAROUND_AGE)
}

fn percent(age: i64) -> String {
    let percent = age as f64 * 100.0 / WRAPAROUND_AGE as f64;
    if percent < 0.1 { "less than 0.1".to_owned() } else { format!("{percent:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(transactions: i64, multixacts: i64) -> Finding {
        let age = |database: &str, transactions, multixacts| Age { database: database.into(), transactions, multixacts };
        judge(&Seen {
            ages: vec![age("a", 5, 5), age("shop", transactions, multixacts)],
            freeze_max_age: 200_000_000,
            multixact_freeze_max_age: 400_000_000,
        })
    }

    #[test]
    fn the_oldest_database_decides() {
        for (transactions, multixacts, expected) in [
            (200_000_000, 0, Status::Pass),
            (WRAPAROUND_AGE / 2, 0, Status::Warn),
            (10, WRAPAROUND_AGE / 2, Status::Warn),
            (1_720_000_000, 0, Status::Fail),
            (i64::from(i32::MAX) - 1, 0, Status::Fail),
            // What is frozen for ever.
            (i64::from(i32::MAX), i64::from(i32::MAX), Status::Pass),
        ] {
            let finding = judged(transactions, multixacts);
            assert_eq!(finding.status, expected, "{finding:?}");
            assert!(finding.status == Status::Pass || (finding.summary.contains("shop") && finding.remedy.is_some()), "{finding:?}");
        }
        assert_eq!(judged(200_000_000, 0).summary, "9.3 % used (oldest: database shop)");
    }
}
