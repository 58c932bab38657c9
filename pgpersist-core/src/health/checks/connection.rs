//! `connection`: does the server let us in, is it the server of this directory, and is there room for more sessions?

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::error::SqlState;

use crate::error::{Error, ErrorKind, Result};
use crate::health::checks::asking::{APPLICATION_NAME, Asking, code, not_asked};
use crate::health::checks::judgement::told;
use crate::health::{Finding, HealthCheck};
use crate::pg::quote;
use crate::server::cluster::Cluster;

/// The name of its finding.
pub const NAME: &str = "connection";

/// From so many percent of the sessions that ordinary roles may have, it is a warning.
pub const WARN_PERCENT: u64 = 80;
/// From so many percent, it is a failure.
pub const FAIL_PERCENT: u64 = 95;

/// Opens a session and counts the others.
#[derive(Debug, Clone)]
pub struct ConnectionCheck {
    asking: Asking,
    deadline: Duration,
}

impl ConnectionCheck {
    /// A check of the server of this cluster.
    pub fn new(cluster: Cluster, deadline: Duration) -> Self {
        Self { asking: Asking::new(cluster, deadline, 1), deadline }
    }

    async fn look(&self) -> Result<Seen> {
        let session = self.asking.any_session().await?;
        // Roles without pg_monitor see no backend types, but they see which rows belong to a database.
        let query = format!(
            "SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity \
               WHERE (backend_type OPERATOR(pg_catalog.=) 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL)) \
               AND application_name OPERATOR(pg_catalog.<>) {}), \
             pg_catalog.current_setting('max_connections')::pg_catalog.int8, \
             COALESCE(pg_catalog.current_setting('superuser_reserved_connections', true), '0')::pg_catalog.int8, \
             COALESCE(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int8, \
             pg_catalog.pg_is_in_recovery()",
            quote::literal(APPLICATION_NAME)
        );
        let row = session.client().query_one(&query, &[]).await.map_err(|e| Error::sql("count the sessions", e))?;
        let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
        // A role may be forbidden to ask for the identifier; then nothing contradicts.
        let identifier = session.system_identifier().await.ok();
        let files = self.asking.cluster().directory().state().await.and_then(|s| s.into_cluster(self.asking.cluster().path())).ok();
        let is_another = identifier.zip(files).is_some_and(|(server, files)| server != files.control.system_identifier);
        Ok(Seen { used: number(0), max: number(1), reserved: number(2) + number(3), in_recovery: row.get(4), is_another })
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    used: u64,
    max: u64,
    reserved: u64,
    in_recovery: bool,
    is_another: bool,
}

#[async_trait]
impl HealthCheck for ConnectionCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> Finding {
        match self.look().await {
            Ok(seen) => judge(seen),
            Err(error) => judge_refusal(&error, self.asking.cluster().presence().await.is_ok_and(|presence| presence.running().is_some())),
        }
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn judge(seen: Seen) -> Finding {
    let Seen { used, max, .. } = seen;
    // What is kept for superusers is no room for anybody else.
    let usable = max.saturating_sub(seen.reserved).max(1);
    let count = format!("{used} of {max}");
    let percent = used * 100 / usable;
    let remedy = "close what is idle (`select * from pg_stat_activity where state = 'idle'`), put a pooler before the server, or raise max_connections";
    let finding = if seen.is_another {
        Finding::fail(
            NAME,
            "the server that answers is not the one of this data directory",
            "check PGHOST and PGPORT, and the port in the configuration",
        )
    } else if percent >= FAIL_PERCENT {
        Finding::fail(NAME, format!("accepting, but hardly any is left ({count}, {} kept for superusers)", seen.reserved), remedy)
    } else if percent >= WARN_PERCENT {
        Finding::warn(NAME, format!("accepting, but few are left ({count})"), remedy)
    } else if seen.in_recovery {
        Finding::pass(NAME, format!("accepting, read-only: in recovery ({count})"))
    } else {
        Finding::pass(NAME, format!("accepting ({count})"))
    };
    finding.observing("used", used).observing("max", max).observing("usable", usable).observing("in_recovery", seen.in_recovery)
}

/// Without a process there is nothing to ask; a process that does not let us in is at fault.
fn judge_refusal(error: &Error, runs: bool) -> Finding {
    let log = "look at the server's log (`pgpersist status` says where it is)";
    let all_taken = code(error) == Some(SqlState::TOO_MANY_CONNECTIONS);
    match error.kind() {
        _ if all_taken => Finding::fail(
            NAME,
            format!("no session is left: {}", told(error)),
            "close what is idle, put a pooler before the server, or raise max_connections",
        ),
        ErrorKind::Unavailable if runs => Finding::fail(NAME, format!("not accepting: {}", told(error)), log),
        ErrorKind::Damaged => Finding::fail(NAME, told(error), log),
        _ => not_asked(NAME, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    fn seen(used: u64) -> Seen {
        Seen { used, max: 100, reserved: 3, in_recovery: false, is_another: false }
    }

    #[test]
    fn what_is_kept_for_superusers_is_no_room() {
        for (used, expected) in [(3, Status::Pass), (77, Status::Pass), (78, Status::Warn), (93, Status::Fail), (100, Status::Fail)] {
            let finding = judge(seen(used));
            assert_eq!(finding.status, expected, "{finding:?}");
            assert!(finding.summary.contains(&format!("{used} of 100")), "{finding:?}");
        }
        assert_eq!(judge(seen(3)).summary, "accepting (3 of 100)");
        // All sessions reserved divides by nothing.
        assert_eq!(judge(Seen { reserved: 100, ..seen(1) }).status, Status::Fail);
    }

    #[test]
    fn another_server_fails() {
        assert_eq!(judge(Seen { is_another: true, ..seen(1) }).status, Status::Fail);
    }

    #[test]
    fn nothing_to_ask_is_unknown_and_silence_a_failure() {
        let silence = Error::Deadline { what: "the server did not answer".into(), after: Duration::from_secs(4), remedy: None };
        assert_eq!(judge_refusal(&silence, true).status, Status::Fail);
        assert_eq!(judge_refusal(&Error::unavailable("no server runs", "start it"), false).status, Status::Unknown);
    }
}
