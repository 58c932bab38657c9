//! `settings`: is everything on that durability hangs on, by whatever means it may have been turned off?
//!
//! Sources: *Non-Durable Settings*, *Developer Options* and `pg_db_role_setting`, PostgreSQL 17. `fsync` and
//! `full_page_writes` belong to the server; `synchronous_commit` may be turned off for a role or a database as well, which
//! every session of theirs then has.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::health::checks::asking::{Asking, not_asked};
use crate::health::checks::judgement::Judgement;
use crate::health::{Finding, HealthCheck};
use crate::pg::boolean;
use crate::server::cluster::Cluster;

/// The name of its finding.
pub const NAME: &str = "settings";

const SETTINGS: &str = "SELECT name, setting, source, sourcefile FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY \
    ('{fsync,full_page_writes,synchronous_commit,data_checksums,zero_damaged_pages,ignore_checksum_failure,autovacuum,track_counts}'::pg_catalog.text[]) ORDER BY name";
const OVERRIDES: &str = "SELECT COALESCE(d.datname, '')::pg_catalog.text, COALESCE(r.rolname, '')::pg_catalog.text, c.line \
    FROM pg_catalog.pg_db_role_setting s \
    LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase \
    LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole, \
    LATERAL pg_catalog.unnest(s.setconfig) AS c(line) \
    WHERE c.line OPERATOR(pg_catalog.~~) 'synchronous\\_commit=%' ORDER BY 1, 2";
const FAILURES: &str = "SELECT COALESCE(datname, 'shared catalogs')::pg_catalog.text, checksum_failures FROM pg_catalog.pg_stat_database \
    WHERE checksum_failures OPERATOR(pg_catalog.>) 0 ORDER BY 1";

/// Reads the settings that are in force.
#[derive(Debug, Clone)]
pub struct SettingsCheck {
    asking: Asking,
    deadline: Duration,
}

impl SettingsCheck {
    /// A check of the server of this cluster.
    pub fn new(cluster: Cluster, deadline: Duration) -> Self {
        Self { asking: Asking::new(cluster, deadline, 1), deadline }
    }

    async fn look(&self) -> Result<Seen> {
        let session = self.asking.any_session().await?;
        let rows = |action: &'static str, query: &'static str| {
            let client = session.client();
            async move { client.query(query, &[]).await.map_err(|e| Error::sql(action, e)) }
        };
        let settings = rows("read the settings", SETTINGS).await?;
        let overrides = rows("read the settings of roles and databases", OVERRIDES).await?;
        let failures = rows("read the checksum failures", FAILURES).await?;
        Ok(Seen {
            settings: settings
                .iter()
                .map(|row| Setting { name: row.get(0), value: row.get(1), source: row.get(2), file: row.get(3) })
                .collect(),
            overrides: overrides.iter().map(|row| Override { database: row.get(0), role: row.get(1), line: row.get(2) }).collect(),
            failures: failures.iter().map(|row| (row.get(0), row.get(1))).collect(),
        })
    }
}

#[derive(Debug, Default, Clone)]
struct Seen {
    settings: Vec<Setting>,
    overrides: Vec<Override>,
    /// Databases with pages whose checksum was wrong, and how many.
    failures: Vec<(String, i64)>,
}

#[derive(Debug, Clone)]
struct Setting {
    name: String,
    value: String,
    /// As `pg_settings` tells it, such as `command line`.
    source: String,
    file: Option<String>,
}

impl Setting {
    fn told(&self) -> String {
        let source = match (self.source.as_str(), &self.file) {
            ("default", _) => "PostgreSQL's default".to_owned(),
            ("configuration file", Some(file)) => file.clone(),
            (source, _) => format!("by {source}"),
        };
        format!("{} is {} ({source})", self.name, self.value)
    }
}

/// A line such as `synchronous_commit=off` of a role, a database, or a role in a database; empty stands for all.
#[derive(Debug, Clone)]
struct Override {
    database: String,
    role: String,
    line: String,
}

#[async_trait]
impl HealthCheck for SettingsCheck {
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

/// The server tells its own settings as `off`, but those of roles and databases as somebody wrote them.
fn is_off(value: &str) -> bool {
    boolean::parse(value) == Some(false)
}

fn judge(seen: &Seen) -> Finding {
    let mut judgement = Judgement::default();
    if !seen.failures.is_empty() {
        let told: Vec<String> = seen.failures.iter().map(|(database, count)| format!("{database}: {count}")).collect();
        judgement.fail(
            format!("pages with wrong checksums were read ({})", told.join(", ")),
            "the volume damaged data: dump what can be read, look in `dmesg`, and load the newest good dump into a new cluster on another volume",
        );
    }
    for setting in &seen.settings {
        let off = is_off(&setting.value);
        match setting.name.as_str() {
            "fsync" | "full_page_writes" if off => judgement.fail(
                format!("{}: a power loss can destroy the whole cluster", setting.told()),
                "restart the server with `pgpersist stop` and `pgpersist start`, which turn it on whatever the files say; take a dump first",
            ),
            // Set for our own role or this database, it is told below, with all others.
            "synchronous_commit" if off && !matches!(setting.source.as_str(), "user" | "database" | "database user") => judgement.fail(
                format!("{}: the last acknowledged commits are lost in a crash", setting.told()),
                "set synchronous_commit = on (or local), and reload",
            ),
            "zero_damaged_pages" | "ignore_checksum_failure" if !off => {
                judgement.fail(format!("{}: damage is hidden, and then made permanent", setting.told()), "turn it off, and reload");
            }
            "data_checksums" if off => judgement.warn(
                "data checksums are off: damage on the volume is not noticed",
                "stop the server and run `pg_checksums --enable -D DIR`, which reads every page once",
            ),
            "autovacuum" | "track_counts" if off => {
                judgement.warn(format!("{}: tables are never vacuumed", setting.told()), "turn it on, and reload");
            }
            _ => {}
        }
    }
    for line in &seen.overrides {
        if line.line.split_once('=').is_some_and(|(_, value)| is_off(value)) {
            let (whose, reset) = match (line.role.as_str(), line.database.as_str()) {
                ("", database) => (format!("database {database}"), format!("alter database \"{database}\" reset synchronous_commit")),
                (role, "") => (format!("role {role}"), format!("alter role \"{role}\" reset synchronous_commit")),
                (role, database) => (
                    format!("role {role} in {database}"),
                    format!("alter role \"{role}\" in database \"{database}\" reset synchronous_commit"),
                ),
            };
            judgement.warn(
                format!("synchronous_commit is off for {whose}: its last acknowledged commits are lost in a crash"),
                format!("unless that is wanted: `{reset}`"),
            );
        }
    }
    let finding =
        judgement.finding(NAME, || "fsync, full_page_writes and synchronous_commit are on; checksums are on, none has failed".to_owned());
    let values: Map<String, Value> = seen.settings.iter().map(|setting| (setting.name.clone(), setting.value.clone().into())).collect();
    finding.observing("values", values).observing("checksum_failures", seen.failures.iter().map(|(_, count)| count).sum::<i64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    fn seen(changed: &[(&str, &str, &str)]) -> Seen {
        let usual = [
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("data_checksums", "on"),
            ("zero_damaged_pages", "off"),
            ("ignore_checksum_failure", "off"),
            ("autovacuum", "on"),
            ("track_counts", "on"),
        ];
        let settings = usual.iter().map(|(name, value)| {
            let (value, source) =
                changed.iter().find(|(other, ..)| other == name).map_or((*value, "default"), |(_, value, source)| (value, source));
            Setting { name: (*name).into(), value: value.into(), source: source.into(), file: None }
        });
        Seen { settings: settings.collect(), ..Seen::default() }
    }

    #[test]
    fn all_on_is_well() {
        assert_eq!(judge(&seen(&[])).status, Status::Pass);
        // `local` and the remote levels are durable here.
        assert_eq!(judge(&seen(&[("synchronous_commit", "local", "configuration file")])).status, Status::Pass);
    }

    #[test]
    fn each_danger_is_told_with_where_it_comes_from() {
        for (name, value, expected) in [
            ("fsync", "off", Status::Fail),
            ("full_page_writes", "off", Status::Fail),
            ("synchronous_commit", "off", Status::Fail),
            ("zero_damaged_pages", "on", Status::Fail),
            ("ignore_checksum_failure", "on", Status::Fail),
            ("autovacuum", "off", Status::Warn),
        ] {
            let finding = judge(&seen(&[(name, value, "command line")]));
            assert_eq!(finding.status, expected, "{finding:?}");
            assert!(finding.summary.contains(&format!("{name} is {value} (by command line)")) && finding.remedy.is_some(), "{finding:?}");
        }
        assert_eq!(judge(&seen(&[("data_checksums", "off", "override")])).status, Status::Warn);
    }

    #[test]
    fn a_role_that_gives_durability_up_is_a_warning() {
        let line = |database: &str, role: &str, line: &str| Override { database: database.into(), role: role.into(), line: line.into() };
        let lines = vec![
            line("", "importer", "synchronous_commit=off"),
            line("logs", "", "synchronous_commit=off"),
            line("", "hasty", "synchronous_commit=OFF"),
            line("", "careless", "synchronous_commit=False"),
            line("", "good", "synchronous_commit=on"),
            line("", "fine", "synchronous_commit=local"),
        ];
        let finding = judge(&Seen { overrides: lines, ..seen(&[("synchronous_commit", "off", "user")]) });
        assert_eq!(finding.status, Status::Warn);
        for told in ["role importer", "database logs", "role hasty", "role careless"] {
            assert!(finding.summary.contains(told), "{finding:?}");
        }
        assert!(!finding.summary.contains("good") && !finding.summary.contains("fine"), "{finding:?}");
    }

    #[test]
    fn a_page_that_failed_its_checksum_is_a_failure() {
        let finding = judge(&Seen { failures: vec![("shop".into(), 3)], ..seen(&[]) });
        assert_eq!((finding.status, &finding.observed["checksum_failures"]), (Status::Fail, &3.into()));
        assert!(finding.summary.contains("shop: 3"));
    }
}
