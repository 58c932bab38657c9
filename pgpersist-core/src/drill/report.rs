//! What a crash drill found, as a document, as text and as Markdown.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::drill::checks::Check;
use crate::drill::judge::{Comparison, Judgement};
use crate::drill::{KillKind, Plant, Verdict};

/// What a drill of this kind proves.
pub const PROVES: &str = "crash recovery: what the server acknowledged survives the death of its processes (SIGKILL)";
/// What it does not.
pub const PROVES_NOT: &str =
    "power loss: SIGKILL leaves the kernel's memory as it is, so whether the disk keeps what was fsynced is not tested";

/// The shortest, the middle and the longest recovery, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RecoveryTimes {
    /// The shortest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The longest.
    pub max: f64,
}

impl RecoveryTimes {
    /// Of any number of recoveries; all 0 without any.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |index: usize| seconds.get(index).copied().unwrap_or_default();
        Self { min: at(0), median: at(seconds.len() / 2), max: at(seconds.len().saturating_sub(1)) }
    }
}

/// One kill and what came after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its number, from 1.
    pub round: u32,
    /// Whom it hit.
    pub kill: KillKind,
    /// How many processes got the signal.
    pub processes: usize,
    /// When, in seconds after the writers' start.
    pub killed_after_s: f64,
    /// Transactions acknowledged in this round.
    pub acknowledged: u64,
    /// Transactions between the answer to their first change and the answer to COMMIT when their connection broke.
    pub in_flight: u64,
    /// Whether the writers were held before a COMMIT for it, since kills before it had met no transaction.
    pub writers_held: bool,
    /// How long the server took until it answered again; `None` when it did not.
    pub recovery_s: Option<f64>,
    /// How long the whole round took.
    pub duration_s: f64,
    /// The whole ledger, of this and all earlier rounds, held against the database; `None` when it could not be asked.
    pub judgement: Option<Judgement>,
    /// What PostgreSQL's own tools said.
    pub checks: Vec<Check>,
    /// Everything that is wrong after this round.
    pub findings: Vec<String>,
}

/// What a crash drill found. Serialised, it is the document of `pgpersist drill crash --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrashReport {
    /// `crash`.
    pub kind: Cow<'static, str>,
    /// Whether all went well.
    pub verdict: Verdict,
    /// Why not.
    pub reasons: Vec<String>,
    /// What repeats this drill.
    pub seed: u64,
    /// How many rounds were run.
    pub rounds: u32,
    /// Transactions that the server acknowledged, in all.
    pub acknowledged: u64,
    /// Transactions that were in flight at a kill, in all.
    pub in_flight: u64,
    /// Acknowledged transactions that are missing.
    pub lost: u64,
    /// Transactions that are there in part.
    pub torn: u64,
    /// How long recoveries took.
    pub recovery_s: RecoveryTimes,
    /// When it began, in RFC 3339.
    pub started_at: String,
    /// How long it took.
    pub duration_s: f64,
    /// `throw-away`, `copy` or `live`.
    pub target: String,
    /// The data directory that was drilled.
    pub data_directory: PathBuf,
    /// The server's version.
    pub version: String,
    /// How many writers.
    pub writers: u32,
    /// What was asked to be killed.
    pub kill: String,
    /// The fault that was put in on purpose.
    pub planted: Option<Plant>,
    /// What such a drill proves.
    pub proves: Cow<'static, str>,
    /// What it does not prove.
    pub proves_not: Cow<'static, str>,
    /// How many transactions a second were acknowledged without a kill.
    pub undisturbed_per_s: f64,
    /// What is worth knowing but is no failure, such as a setting that the writers overrode.
    pub notes: Vec<String>,
    /// What was killed, round by round.
    pub kills: Vec<Round>,
    /// Count, total, sum and marker, before the last kill and after its recovery.
    pub table: Vec<Comparison>,
    /// The ledger, where it was kept.
    pub ledger: Option<PathBuf>,
    /// The folder of the cluster and its socket, where it was kept.
    pub kept: Option<PathBuf>,
}

impl CrashReport {
    /// For people, on a terminal.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        text.push_str(&format!(
            "  {} acknowledged, {} in flight at a kill, {} lost, {} torn\n",
            self.acknowledged, self.in_flight, self.lost, self.torn
        ));
        text.push_str(&format!("  recovery {}\n", self.recovery()));
        text.push_str(&format!("  seed {}, {} writers, PostgreSQL {}, {} cluster\n\n", self.seed, self.writers, self.version, self.target));
        let rows: Vec<Vec<String>> = self.kills.iter().map(Round::cells).collect();
        text.push_str(&columns(&ROUND_HEAD, &rows));
        if !self.table.is_empty() {
            text.push('\n');
            text.push_str(&columns(&TABLE_HEAD, &self.comparison()));
        }
        for (label, lines) in [("failed", &self.reasons), ("note", &self.notes)] {
            for line in lines {
                text.push_str(&format!("\n{label}: {line}"));
            }
        }
        text.push_str(&format!("\nproves {PROVES}\ndoes not prove {PROVES_NOT}\n"));
        for (label, path) in [("ledger", &self.ledger), ("kept", &self.kept)] {
            if let Some(path) = path {
                text.push_str(&format!("{label}: {}\n", path.display()));
            }
        }
        text
    }

    /// For a file that people pass on.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# Crash drill: {}\n\n{}\n\n", self.verdict.as_str(), self.headline());
        let facts: Vec<Vec<String>> = [
            ("Verdict", self.verdict.as_str().to_owned()),
            ("Acknowledged", self.acknowledged.to_string()),
            ("In flight at a kill", self.in_flight.to_string()),
            ("Lost", self.lost.to_string()),
            ("Torn", self.torn.to_string()),
            ("Recovery", self.recovery()),
            ("Seed", self.seed.to_string()),
            ("Rounds", self.rounds.to_string()),
            ("Writers", self.writers.to_string()),
            ("Killed", self.kill.clone()),
            ("Cluster", format!("{}, PostgreSQL {}", self.target, self.version)),
            ("Load", format!("{:.0} transactions a second, undisturbed", self.undisturbed_per_s)),
            ("Begun", format!("{}, took {:.1} s", self.started_at, self.duration_s)),
        ]
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
        text.push_str(&markdown_table(&["", ""], &facts));
        text.push_str(&format!("\n**Proves** {PROVES}.\n\n**Does not prove** {PROVES_NOT}.\n"));
        if !self.table.is_empty() {
            text.push_str("\n## Before and after\n\n");
            text.push_str(&markdown_table(&TABLE_HEAD, &self.comparison()));
        }
        text.push_str("\n## Rounds\n\n");
        text.push_str(&markdown_table(&ROUND_HEAD, &self.kills.iter().map(Round::cells).collect::<Vec<_>>()));
        for (title, lines) in [("Failures", &self.reasons), ("Notes", &self.notes)] {
            if !lines.is_empty() {
                text.push_str(&format!("\n## {title}\n\n"));
                lines.iter().for_each(|line| text.push_str(&format!("- {}\n", line.replace('\n', " "))));
            }
        }
        text
    }

    fn headline(&self) -> String {
        let rounds = if self.rounds == 1 { "1 kill".to_owned() } else { format!("{} kills", self.rounds) };
        match (self.verdict, self.planted) {
            (Verdict::Pass, None) => format!("pass: after {rounds} nothing acknowledged was lost"),
            (Verdict::Pass, Some(plant)) => format!("pass, although `{}` was planted: the drill did not see it", plant.as_str()),
            (Verdict::Fail, None) => format!("FAIL after {rounds}"),
            (Verdict::Fail, Some(plant)) => format!("FAIL after {rounds}, as it must: `{}` was planted", plant.as_str()),
        }
    }

    fn recovery(&self) -> String {
        let RecoveryTimes { min, median, max } = self.recovery_s;
        format!("{min:.2} s to {max:.2} s, median {median:.2} s")
    }

    fn comparison(&self) -> Vec<Vec<String>> {
        let row = |row: &Comparison| {
            vec![row.what.to_string(), row.before.clone(), row.after.clone(), if row.matches { "yes" } else { "NO" }.to_owned()]
        };
        self.table.iter().map(row).collect()
    }
}

const TABLE_HEAD: [&str; 4] = ["", "before", "after", "match"];
const ROUND_HEAD: [&str; 9] = ["round", "kill", "after", "acknowledged", "in flight", "lost", "torn", "recovery", "checksums, amcheck"];

impl Round {
    fn cells(&self) -> Vec<String> {
        let judged = |number: fn(&Judgement) -> u64| self.judgement.as_ref().map_or_else(|| "?".to_owned(), |j| number(j).to_string());
        let checks: Vec<&str> = self.checks.iter().map(|check| check.status.as_str()).collect();
        vec![
            self.round.to_string(),
            self.kill.as_str().to_owned(),
            format!("{:.2} s", self.killed_after_s),
            self.acknowledged.to_string(),
            self.in_flight.to_string(),
            judged(|j| j.lost),
            judged(|j| j.torn),
            self.recovery_s.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds:.2} s")),
            if checks.is_empty() { "unknown".to_owned() } else { checks.join(", ") },
        ]
    }
}

pub(super) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
    text
}

fn markdown_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|cell| (*cell).to_owned()).collect());
    text.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        text.push_str(&line(row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_times_are_sorted_and_bear_none() {
        assert_eq!(RecoveryTimes::of(vec![3.0, 1.0, 2.0]), RecoveryTimes { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(RecoveryTimes::of(vec![]), RecoveryTimes::default());
    }

    #[test]
    fn columns_align() {
        let rows = vec![vec!["long cell".to_owned(), "x".to_owned()]];
        assert_eq!(columns(&["a", "b"], &rows), "  a          b\n  long cell  x\n");
    }

    #[test]
    fn a_cell_cannot_break_a_markdown_table() {
        let rows = vec![vec!["a|b\nc".to_owned()]];
        assert_eq!(markdown_table(&["h"], &rows), "| h |\n| --- |\n| a\\|b c |\n");
    }
}
