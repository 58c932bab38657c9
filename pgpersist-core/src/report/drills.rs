//! What the kept reports of drills tell, as far as a page needs it. They may come from another version, so little is required.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// How many drills of each kind are told.
pub const TOLD: usize = 10;

/// One drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillFacts {
    /// `crash` or `restore`.
    pub kind: String,
    /// `pass` or `fail`.
    pub verdict: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// How long it took, in seconds.
    #[serde(default)]
    pub duration_s: f64,
    /// Why it failed.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// What was drilled: `throw-away`, `copy` or `live`.
    #[serde(default)]
    pub target: String,
    /// How many kills, or databases.
    #[serde(default)]
    pub rounds: u64,
    /// How many transactions were acknowledged, or rows promised.
    #[serde(default)]
    pub acknowledged: u64,
    /// How many of them were lost.
    #[serde(default)]
    pub lost: u64,
    /// How many were there in part.
    #[serde(default)]
    pub torn: u64,
    /// How long recoveries, or loads, took.
    #[serde(default)]
    pub recovery_s: Recovery,
    /// How long it took from nothing to the last database, in seconds.
    #[serde(default)]
    pub restore_s: Option<f64>,
    /// How old the oldest dump was then, in seconds.
    #[serde(default)]
    pub dump_age_s: Option<f64>,
    /// The server's version.
    #[serde(default)]
    pub version: Option<String>,
    /// What it proves.
    #[serde(default)]
    pub proves: String,
    /// What it does not prove.
    #[serde(default)]
    pub proves_not: String,
    /// What was compared.
    #[serde(default)]
    pub table: Vec<Compared>,
    /// The databases that were restored.
    #[serde(default)]
    pub databases: Vec<Restored>,
}

/// The shortest, the middle and the longest recovery, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// The shortest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The longest.
    pub max: f64,
}

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// What is compared.
    pub what: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
    /// Whether they are equal.
    pub matches: bool,
}

/// One database that was restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// The database.
    pub database: String,
    /// `pass` or `fail`.
    pub verdict: String,
    /// The dump.
    #[serde(default)]
    pub name: Option<String>,
    /// The rows that its side file promises.
    #[serde(default)]
    pub rows_expected: Option<u64>,
    /// The rows that came back.
    #[serde(default)]
    pub rows_found: u64,
    /// How long loading took, in seconds.
    #[serde(default)]
    pub load_s: Option<f64>,
    /// Why it did not come back.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// What was looked at afterwards.
    #[serde(default)]
    pub checks: Vec<Checked>,
}

/// One look at a restored database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Which.
    pub name: String,
    /// `pass`, `fail` or `unknown`.
    pub status: String,
}

/// The newest drills of each kind among these documents, which come newest first, and how many were none.
pub fn read(documents: &[Value]) -> (Vec<DrillFacts>, usize) {
    let read: Vec<DrillFacts> = documents.iter().filter_map(|document| DrillFacts::deserialize(document).ok()).collect();
    let strange = documents.len() - read.len();
    let (mut told, mut seen) = (Vec::new(), [0_usize; 2]);
    for drill in read {
        let count = &mut seen[usize::from(drill.kind == "restore")];
        *count += 1;
        if *count <= TOLD {
            told.push(drill);
        }
    }
    (told, strange)
}

impl DrillFacts {
    /// Whether it found nothing wrong.
    pub fn passed(&self) -> bool {
        self.verdict == "pass"
    }

    /// The comparison: what was recorded of a crash drill; of a restore drill the rows of each database.
    pub fn comparison(&self) -> Vec<Compared> {
        if self.kind != "restore" {
            return self.table.clone();
        }
        let row = |restored: &Restored| Compared {
            what: format!("rows of {}", restored.database),
            before: restored.rows_expected.map_or_else(|| "not recorded".to_owned(), |rows| rows.to_string()),
            after: restored.rows_found.to_string(),
            matches: restored.rows_expected.is_none_or(|rows| rows == restored.rows_found) && restored.verdict == "pass",
        };
        self.databases.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn little_is_needed_and_what_is_no_drill_is_counted() {
        let drill = |day: u32, kind: &str| json!({ "kind": kind, "verdict": "pass", "started_at": format!("2026-02-{day:02}T00:00:00Z") });
        let mut documents: Vec<Value> = (1..=15).rev().map(|day| drill(day, "restore")).collect();
        documents.insert(3, drill(7, "crash"));
        documents.extend([json!(7), json!({ "kind": "restore" }), Value::Null]);
        let (drills, strange) = read(&documents);
        assert_eq!((drills.len(), strange), (TOLD + 1, 3));
        assert_eq!(drills.iter().filter(|drill| drill.kind == "crash").count(), 1);
        assert!(drills[0].passed() && drills[0].comparison().is_empty());
    }

    #[test]
    fn a_restore_compares_the_rows_of_each_database() {
        let document = json!({ "kind": "restore", "verdict": "fail", "started_at": "2026-02-08T09:33:16Z", "databases": [
            { "database": "a", "verdict": "pass", "rows_expected": 8, "rows_found": 8 },
            { "database": "b", "verdict": "fail", "rows_expected": 8, "rows_found": 7 },
            { "database": "c", "verdict": "pass", "rows_expected": null, "rows_found": 7 },
        ]});
        let (drills, _) = read(&[document]);
        let matches: Vec<bool> = drills[0].comparison().iter().map(|row| row.matches).collect();
        assert_eq!(matches, [true, false, true]);
        assert_eq!(drills[0].comparison()[2].before, "not recorded");
    }
}
