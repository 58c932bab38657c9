//! What a restore drill found, as a document and as text.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::drill::checks::Check;
use crate::drill::report::{RecoveryTimes, columns};
use crate::drill::subjects::Subject;
use crate::drill::{CheckStatus, Verdict};
use crate::error::Error;
use crate::pg::version::ServerVersion;
use crate::wording;

/// What a drill of this kind proves.
pub const PROVES: &str = "a restore: each dump was loaded into an empty cluster on this machine and compared with what was recorded";
/// What it does not.
pub const PROVES_NOT: &str =
    "how fast the cluster's own volume is: the drill's cluster lay in the temporary folder and did not wait for its disk";

/// What a restore drill found. Serialised, it is the document of `pgpersist drill restore --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// `restore`.
    pub kind: Cow<'static, str>,
    /// What tells it from another drill of the same second.
    pub id: String,
    /// Whether everything came back.
    pub verdict: Verdict,
    /// Why not, each with its database.
    pub reasons: Vec<String>,
    /// Always nothing: such a drill draws no lots.
    pub seed: Option<u64>,
    /// How many databases were to be restored.
    pub rounds: u32,
    /// The rows that the side files of the dumps promise, in all.
    pub acknowledged: u64,
    /// Always 0.
    pub in_flight: u64,
    /// The promised rows that did not come back, in all.
    pub lost: u64,
    /// Always 0: a dump comes back whole or not at all.
    pub torn: u64,
    /// How long loading took, over the databases that were loaded.
    pub recovery_s: RecoveryTimes,
    /// When it began, in RFC 3339.
    pub started_at: String,
    /// How long it took.
    pub duration_s: f64,
    /// `throw-away`.
    pub target: Cow<'static, str>,
    /// The cluster's name in the store.
    pub cluster: String,
    /// The store.
    pub store: String,
    /// The version of the server that the dumps were loaded into; nothing when none was.
    pub version: Option<String>,
    /// How long making the empty cluster took.
    pub cluster_s: f64,
    /// How long it took from nothing to the last database: the measured time to recover.
    pub restore_s: f64,
    /// How old the oldest of the dumps was when the drill began: the measured loss of a recovery then.
    pub dump_age_s: Option<f64>,
    /// The size of the dumps in the store.
    pub bytes: u64,
    /// The rows that came back.
    pub rows: u64,
    /// What such a drill proves.
    pub proves: Cow<'static, str>,
    /// What it does not prove.
    pub proves_not: Cow<'static, str>,
    /// What is worth knowing but is no failure.
    pub notes: Vec<String>,
    /// Each database.
    pub databases: Vec<DatabaseReport>,
    /// The folder of the cluster, where it was kept.
    pub kept: Option<PathBuf>,
    /// The commands that start the kept cluster, look into it, and remove it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_commands: Vec<String>,
}

/// What came of one database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseReport {
    /// The database.
    pub database: String,
    /// Whether it came back.
    pub verdict: Verdict,
    /// Why not.
    pub reasons: Vec<String>,
    /// The next step after a failure, where one is known.
    pub remedy: Option<String>,
    /// The dump; nothing where there was no good one.
    pub name: Option<String>,
    /// When the dump was made, in RFC 3339.
    pub taken_at: Option<String>,
    /// How old it was when the drill began.
    pub age_s: Option<f64>,
    /// Its size in the store.
    pub size_bytes: Option<u64>,
    /// The system identifier of the cluster that it was made of, where its side file tells; text, as it has 64 bits.
    pub system_identifier: Option<String>,
    /// The version of the server that it was made of, where its side file tells.
    pub server_version: Option<ServerVersion>,
    /// The rows that its side file promises; nothing without one.
    pub rows_expected: Option<u64>,
    /// The rows that came back.
    pub rows_found: u64,
    /// How many tables they are in.
    pub table_count: u64,
    /// The tables whose rows are not as promised, some of them where there are many.
    pub differences: Vec<TableRows>,
    /// How long loading took; nothing where it did not come to its end.
    pub load_s: Option<f64>,
    /// How long the checks took.
    pub check_s: Option<f64>,
    /// What was looked at afterwards: `rows`, `amcheck`, and `check:NAME` for each of the user's own.
    pub checks: Vec<Check>,
}

/// One table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRows {
    /// Its name, with the schema.
    pub table: String,
    /// What the side file says.
    pub expected: u64,
    /// What came back.
    pub found: u64,
}

impl DatabaseReport {
    /// Of a database of which nothing has been tried yet.
    pub(crate) fn of(subject: &Subject, now: OffsetDateTime) -> Self {
        let dump = subject.dump.as_ref();
        let side_file = dump.and_then(|dump| dump.side_file.as_ref());
        let rfc3339 = |time: OffsetDateTime| time.format(&time::format_description::well_known::Rfc3339).ok();
        Self {
            database: subject.database.clone(),
            verdict: if subject.obstacle.is_some() { Verdict::Fail } else { Verdict::Pass },
            reasons: subject.obstacle.iter().cloned().collect(),
            remedy: subject
                .obstacle
                .is_some()
                .then(|| "make a new dump with `pgpersist dump`, and see why this one is not good".to_owned()),
            name: dump.map(|dump| dump.name.to_string()),
            taken_at: dump.and_then(|dump| rfc3339(dump.taken_at)),
            age_s: dump.map(|dump| Duration::try_from(now - dump.taken_at).unwrap_or_default().as_secs_f64()),
            size_bytes: dump.map(|dump| dump.size_bytes),
            system_identifier: side_file.map(|side_file| side_file.system_identifier.to_string()),
            server_version: side_file.map(|side_file| side_file.server_version),
            rows_expected: side_file.map(|side_file| side_file.tables.values().sum()),
            rows_found: 0,
            table_count: 0,
            differences: Vec::new(),
            load_s: None,
            check_s: None,
            checks: Vec::new(),
        }
    }

    /// It did not come back, for this reason.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.fail_with(told(error));
        self.remedy = self.remedy.take().or_else(|| error.remedy());
    }

    fn fail_with(&mut self, reason: String) {
        self.verdict = Verdict::Fail;
        self.reasons.push(reason);
    }

    /// Takes what one look found.
    pub(crate) fn take(&mut self, check: Check) {
        if check.status == CheckStatus::Fail {
            self.fail_with(format!("{}: {}", check.name, check.summary));
        }
        self.checks.push(check);
    }

    /// The promised rows that did not come back.
    pub(crate) fn lost(&self) -> u64 {
        match self.load_s {
            // What does not come back is lost until somebody shows it.
            None => self.rows_expected.unwrap_or_default(),
            Some(_) => self.differences.iter().map(|table| table.expected.saturating_sub(table.found)).sum(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let seconds = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
        let rows = match self.rows_expected {
            Some(expected) => format!("{} of {expected}", self.rows_found),
            None => self.rows_found.to_string(),
        };
        vec![
            self.database.clone(),
            self.name.clone().unwrap_or_else(|| "none".to_owned()),
            self.age_s.map_or_else(|| "-".to_owned(), age),
            rows,
            seconds(self.load_s),
            self.verdicts(),
        ]
    }

    /// What was not well by name, the rest by number.
    fn verdicts(&self) -> String {
        let of = |status: CheckStatus| self.checks.iter().filter(move |check| check.status == status);
        let mut parts = Vec::new();
        for status in [CheckStatus::Fail, CheckStatus::Unknown] {
            let names: Vec<&str> = of(status).map(|check| check.name.as_str()).collect();
            if !names.is_empty() {
                parts.push(format!("{} {}", names.join(", "), status.as_str()));
            }
        }
        match of(CheckStatus::Pass).count() {
            0 => {}
            number => parts.push(format!("{number} pass")),
        }
        if parts.is_empty() { "none".to_owned() } else { parts.join("; ") }
    }
}

const HEAD: [&str; 6] = ["database", "dump", "age", "rows", "load", "checks"];

impl RestoreReport {
    /// For people, on a terminal.
    pub fn to_text(&self) -> String {
        let databases = if self.rounds == 1 { "1 database".to_owned() } else { format!("{} databases", self.rounds) };
        let mut text = match self.verdict {
            Verdict::Pass => format!("pass: {databases} restored from {} and checked\n", self.store),
            Verdict::Fail => format!("FAIL: a restore of {databases} from {} is not proven\n", self.store),
        };
        let data = self.dump_age_s.map_or_else(String::new, |seconds| format!(", to data of {} ago", age(seconds)));
        text.push_str(&format!(
            "  {} rows promised, {} lost; {} rows in {}\n",
            self.acknowledged,
            self.lost,
            self.rows,
            wording::size(self.bytes)
        ));
        if let Some(version) = &self.version {
            text.push_str(&format!("  restored in {:.2} s{data}; PostgreSQL {version}\n", self.restore_s));
        }
        text.push('\n');
        let rows: Vec<Vec<String>> = self.databases.iter().map(DatabaseReport::cells).collect();
        text.push_str(&columns(&HEAD, &rows));
        for (label, lines) in [("failed", &self.reasons), ("note", &self.notes)] {
            for line in lines {
                text.push_str(&format!("\n{label}: {line}"));
            }
        }
        let mut remedies: Vec<&String> = self.databases.iter().filter_map(|database| database.remedy.as_ref()).collect();
        remedies.dedup();
        for remedy in remedies {
            text.push_str(&format!("\nremedy: {remedy}"));
        }
        text.push_str(&format!("\nproves {PROVES}\ndoes not prove {PROVES_NOT}\n"));
        if let Some(kept) = &self.kept {
            text.push_str(&format!("kept: {}; its server is stopped. Start it, look into it, stop it, remove it:\n", kept.display()));
            self.kept_commands.iter().for_each(|command| text.push_str(&format!("  {command}\n")));
        }
        text
    }
}

fn age(seconds: f64) -> String {
    wording::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// An error with its causes, on one line.
pub(crate) fn told(error: &Error) -> String {
    let parts: Vec<String> = std::iter::once(error.to_string()).chain(error.causes()).collect();
    parts.join(": ").replace('\n', " / ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::logical::drill_records::RestoreRecord;
    use time::macros::datetime;

    /// A drill of one database without any dump.
    pub(crate) fn report() -> RestoreReport {
        let subject = Subject { database: "shop".into(), dump: None, places: Vec::new(), obstacle: Some("there is no dump of it".into()) };
        let database = DatabaseReport::of(&subject, datetime!(2026-02-08 09:33:16 UTC));
        RestoreReport {
            kind: "restore".into(),
            id: "0000002a".into(),
            verdict: Verdict::Fail,
            reasons: vec!["shop: there is no dump of it".into()],
            seed: None,
            rounds: 1,
            acknowledged: 0,
            in_flight: 0,
            lost: 0,
            torn: 0,
            recovery_s: RecoveryTimes::default(),
            started_at: "2026-02-08T09:33:16Z".into(),
            duration_s: 0.1,
            target: "throw-away".into(),
            cluster: "main".into(),
            store: "/backups".into(),
            version: None,
            cluster_s: 0.0,
            restore_s: 0.0,
            dump_age_s: None,
            bytes: 0,
            rows: 0,
            proves: PROVES.into(),
            proves_not: PROVES_NOT.into(),
            notes: Vec::new(),
            databases: vec![database],
            kept: None,
            kept_commands: Vec::new(),
        }
    }

    #[test]
    fn a_report_that_was_kept_is_read_again() {
        let kept = serde_json::to_value(report()).unwrap();
        assert_eq!(serde_json::from_value::<RestoreReport>(kept).unwrap(), report());
    }

    #[test]
    fn health_reads_what_a_drill_writes() {
        let mut report = report();
        let record = |report: &RestoreReport| RestoreRecord::parse(&serde_json::to_vec(report).unwrap()).unwrap();
        assert!(!record(&report).databases[0].passed());
        assert_eq!(record(&report).databases[0].reasons, ["there is no dump of it"]);
        let restored = &mut report.databases[0];
        (restored.verdict, restored.name, restored.age_s, restored.load_s) = (Verdict::Pass, Some("a".into()), Some(1.5), Some(2.0));
        restored.system_identifier = Some("7".into());
        let read = &record(&report).databases[0];
        assert!(read.passed() && read.name.as_deref() == Some("a") && read.system_identifier.as_deref() == Some("7"));
        assert_eq!((read.age_s, read.load_s, record(&report).started_at), (Some(1.5), Some(2.0), datetime!(2026-02-08 09:33:16 UTC)));
    }

    #[test]
    fn the_text_tells_what_failed_and_what_to_do() {
        let text = report().to_text();
        assert!(text.starts_with("FAIL: a restore of 1 database from /backups is not proven\n"), "{text}");
        assert!(text.contains("\nfailed: shop: there is no dump of it\nremedy: make a new dump"), "{text}");
    }
}
