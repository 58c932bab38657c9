//! What drills proved, with the comparison, and what they did not.

use time::OffsetDateTime;

use crate::health::Status;
use crate::report::drills::DrillFacts;
use crate::report::overview::Overview;
use crate::report::page::{Block, Cell, Section, Table};
use crate::report::sections::parts::{DATABASES_TOLD, gap, section};
use crate::report::words::{count, distance, grouped, seconds};

fn verdict(drill: &DrillFacts) -> Cell {
    match drill.passed() {
        true => Cell::Status(Status::Pass, "passed".to_owned()),
        false => Cell::Status(Status::Fail, "failed".to_owned()),
    }
}

pub(super) fn drills(overview: &Overview) -> Option<Section> {
    let mut blocks: Vec<Block> = gap(overview, "drills", "Drills").into_iter().collect();
    let none = |kind: &str| format!("No {kind} drill yet; `pgpersist drill {kind}` makes one.");
    match overview.last_drill("restore") {
        Some(drill) => blocks.extend(restore_drill(drill, overview.time)),
        None => blocks.push(Block::Text(none("restore"))),
    }
    match overview.last_drill("crash") {
        Some(drill) => blocks.extend(crash_drill(drill, overview.time)),
        None => blocks.push(Block::Text(none("crash"))),
    }
    if overview.drills.len() > 1 {
        let row = |drill: &DrillFacts| {
            vec![
                Cell::Moment(drill.started_at, distance(drill.started_at, overview.time)),
                Cell::text(&drill.kind),
                verdict(drill),
                Cell::Number(grouped(drill.acknowledged)),
                Cell::Number(grouped(drill.lost)),
                Cell::Number(seconds(drill.restore_s.unwrap_or(drill.recovery_s.median))),
            ]
        };
        let table = Table {
            caption: "The last drills, the newest first".to_owned(),
            head: vec!["Begun", "Kind", "Verdict", "Acknowledged", "Lost", "Time to recover"],
            rows: overview.drills.iter().map(row).collect(),
        };
        blocks.push(Block::Folded { summary: format!("The last {}", count(overview.drills.len() as u64, "drill")), table });
    }
    section("drills", "Drills", blocks)
}

fn restore_drill(drill: &DrillFacts, now: OffsetDateTime) -> Vec<Block> {
    let mut facts = vec![
        ("Begun", Cell::Moment(drill.started_at, distance(drill.started_at, now))),
        ("Verdict", verdict(drill)),
        (
            "Time to recover",
            Cell::text(format!("{}, from nothing to the last database", seconds(drill.restore_s.unwrap_or(drill.duration_s)))),
        ),
    ];
    facts.extend(drill.dump_age_s.map(|age| ("Age of the data then", Cell::text(format!("at most {}", seconds(age))))));
    let checks = looked_at(drill);
    if !checks.is_empty() {
        facts.push(("Looked at", Cell::Lines(checks)));
    }
    evidence(drill, "Last restore drill", facts, "Promised by the dumps and found after the restore", ["", "Promised", "Found", "Match"])
}

/// How many databases passed each look.
fn looked_at(drill: &DrillFacts) -> Vec<String> {
    let all = || drill.databases.iter().flat_map(|restored| &restored.checks);
    let mut names: Vec<&str> = all().map(|check| check.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let told = |name: &&str| {
        let of_it = || all().filter(|check| check.name == *name);
        let passed = of_it().filter(|check| check.status == "pass").count();
        format!("{name}: passed in {passed} of {}", count(of_it().count() as u64, "database"))
    };
    names.iter().take(20).map(told).collect()
}

fn crash_drill(drill: &DrillFacts, now: OffsetDateTime) -> Vec<Block> {
    let mut facts = vec![
        ("Begun", Cell::Moment(drill.started_at, distance(drill.started_at, now))),
        ("Verdict", verdict(drill)),
        (
            "Commits",
            Cell::text(format!(
                "{} acknowledged before {}, {} lost, {} torn",
                grouped(drill.acknowledged),
                count(drill.rounds, "kill"),
                grouped(drill.lost),
                grouped(drill.torn)
            )),
        ),
        (
            "Time to recover",
            Cell::text(format!(
                "{} to {}, median {}",
                seconds(drill.recovery_s.min),
                seconds(drill.recovery_s.max),
                seconds(drill.recovery_s.median)
            )),
        ),
    ];
    if !drill.target.is_empty() {
        facts.push(("Cluster", Cell::text(&drill.target)));
    }
    evidence(drill, "Last crash drill", facts, "Before the last kill and after the recovery", ["", "Before", "After", "Match"])
}

fn evidence(
    drill: &DrillFacts,
    title: &'static str,
    facts: Vec<(&'static str, Cell)>,
    caption: &str,
    head: [&'static str; 4],
) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(title), Block::Facts(facts)];
    blocks.extend(drill.reasons.iter().take(10).map(|reason| Block::Notice {
        status: Status::Fail,
        about: "Why it failed".to_owned(),
        what: reason.clone(),
        remedy: None,
    }));
    let rows: Vec<Vec<Cell>> = drill
        .comparison()
        .into_iter()
        .take(DATABASES_TOLD)
        .map(|row| {
            let matches = match row.matches {
                true => Cell::Status(Status::Pass, "yes".to_owned()),
                false => Cell::Status(Status::Fail, "no".to_owned()),
            };
            vec![Cell::text(row.what), number(&row.before), number(&row.after), matches]
        })
        .collect();
    if !rows.is_empty() {
        blocks.push(Block::Table(Table { caption: caption.to_owned(), head: head.to_vec(), rows }));
    }
    if !drill.proves.is_empty() {
        blocks.push(Block::Text(format!("It proves {}. It does not prove {}.", drill.proves, drill.proves_not)));
    }
    blocks
}

/// What was compared, which is most often a count.
fn number(text: &str) -> Cell {
    Cell::Number(text.parse().map_or_else(|_| text.to_owned(), grouped))
}
