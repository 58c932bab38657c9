//! The databases, and the dumps that there are of them.

use time::OffsetDateTime;

use crate::health::Status;
use crate::report::chart::Chart;
use crate::report::overview::{DumpFacts, Overview};
use crate::report::page::{Block, Cell, Section, Table};
use crate::report::sections::parts::{DATABASES_TOLD, caption, gap, section};
use crate::report::words::{count, distance, grouped};
use crate::wording::size;

/// How many dumps are told one by one.
const DUMPS_TOLD: usize = 500;

pub(super) fn databases(overview: &Overview) -> Option<Section> {
    let now = overview.time;
    let at = |at: Option<OffsetDateTime>, none: &'static str| match at {
        Some(at) => Cell::Moment(at, distance(at, now)),
        None => Cell::Nothing(none),
    };
    let mut blocks: Vec<Block> = gap(overview, "databases", "Sizes").into_iter().collect();
    let mut sorted: Vec<_> = overview.databases.iter().collect();
    sorted.sort_by_key(|database| std::cmp::Reverse(database.size_bytes));
    let rows: Vec<Vec<Cell>> = sorted
        .iter()
        .take(DATABASES_TOLD)
        .map(|database| {
            vec![
                Cell::code(&database.name),
                match (database.size_bytes, database.present) {
                    (Some(bytes), _) => Cell::Number(size(bytes)),
                    (None, Some(false)) => Cell::text("not on this server"),
                    (None, _) => Cell::Nothing("not known"),
                },
                Cell::Number(grouped(database.dumps as u64)),
                at(database.last_dump_at, "none"),
                at(database.proven_at, "never"),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let head = vec!["Database", "Size", "Dumps", "Last good dump", "Restore proven"];
        blocks.push(Block::Table(Table {
            caption: caption("Databases, the largest first", rows.len(), overview.databases.len()),
            head,
            rows,
        }));
    }
    section("databases", "Databases", blocks)
}

pub(super) fn backups(overview: &Overview) -> Option<Section> {
    let mut blocks: Vec<Block> = gap(overview, "dumps", "Dumps").into_iter().collect();
    match overview.stores.first() {
        None => blocks.push(Block::Text("No store is configured, so there are no backups.".to_owned())),
        Some(_) if overview.dumps.is_empty() && overview.gap("dumps").is_none() => {
            blocks.push(Block::Text("There is no dump yet; `pgpersist dump` makes one.".to_owned()));
        }
        Some(_) => {}
    }
    if !overview.dumps.is_empty() {
        blocks.push(Block::Chart(Chart::of(&overview.dumps)));
        blocks.push(Block::Table(per_database(overview)));
        let rows: Vec<Vec<Cell>> = overview.dumps.iter().take(DUMPS_TOLD).map(|dump| dump_row(dump, overview.time)).collect();
        let caption = caption("All dumps, the newest first", rows.len(), overview.dumps.len());
        let table = Table { caption, head: vec!["Dump", "Database", "Made", "Size", "Rows", "State"], rows };
        blocks.push(Block::Folded { summary: format!("All {}", count(overview.dumps.len() as u64, "dump")), table });
    }
    if let Some(store) = overview.stores.first() {
        let mut facts = vec![("Store", Cell::code(store))];
        let kept = &overview.retention.meaning;
        facts.push(("Kept", if kept.is_empty() { Cell::text("everything, for ever") } else { Cell::Lines(kept.clone()) }));
        if let Some(next) = &overview.retention.next {
            let text = match &next.dropped[..] {
                [] => "nothing".to_owned(),
                [first, ..] => format!("{} ({}), the oldest is {first}", count(next.dropped.len() as u64, "file"), size(next.freed_bytes)),
            };
            facts.push(("Pruning now would drop", Cell::text(text)));
        }
        blocks.push(Block::Facts(facts));
    }
    section("backups", "Backups", blocks)
}

/// How many dumps each database has, and of when.
fn per_database(overview: &Overview) -> Table {
    let mut names: Vec<Option<&str>> = overview.dumps.iter().map(|dump| dump.database.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let all = names.len();
    let row = |name: &Option<&str>| {
        let of_it: Vec<&DumpFacts> = overview.dumps.iter().filter(|dump| dump.database.as_deref() == *name).collect();
        let good = || of_it.iter().filter(|dump| dump.state != "damaged");
        let damaged = of_it.len() - good().count();
        let bytes: u64 = of_it.iter().map(|dump| dump.size_bytes).sum();
        let moment = |dump: Option<&&&DumpFacts>| match dump {
            Some(dump) => Cell::Moment(dump.taken_at, distance(dump.taken_at, overview.time)),
            None => Cell::Nothing("none"),
        };
        let newest = good().max_by_key(|dump| dump.taken_at);
        vec![
            name.map_or(Cell::Nothing("not told"), Cell::code),
            Cell::Number(grouped(of_it.len() as u64)),
            moment(newest.as_ref()),
            moment(good().min_by_key(|dump| dump.taken_at).as_ref()),
            newest.map_or(Cell::Nothing("none"), |dump| Cell::Number(size(dump.size_bytes))),
            Cell::Number(size(bytes)),
            match damaged {
                0 => Cell::Status(Status::Pass, "all\u{a0}good".to_owned()),
                number => Cell::Status(Status::Fail, format!("{number}\u{a0}damaged")),
            },
        ]
    };
    let rows: Vec<Vec<Cell>> = names.iter().take(DATABASES_TOLD).map(row).collect();
    Table {
        caption: caption("Dumps of each database", rows.len(), all),
        head: vec!["Database", "Dumps", "Newest", "Oldest", "Size of the newest", "Size of all", "State"],
        rows,
    }
}

fn dump_row(dump: &DumpFacts, now: OffsetDateTime) -> Vec<Cell> {
    vec![
        Cell::code(&dump.name),
        dump.database.as_ref().map_or(Cell::Nothing("not told"), Cell::code),
        Cell::Moment(dump.taken_at, distance(dump.taken_at, now)),
        Cell::Number(size(dump.size_bytes)),
        dump.rows.map_or(Cell::Nothing("not recorded"), |rows| Cell::Number(grouped(rows))),
        match (dump.state, &dump.reason) {
            ("complete", _) => Cell::Status(Status::Pass, "complete".to_owned()),
            ("damaged", reason) => Cell::Status(Status::Fail, format!("damaged: {}", reason.as_deref().unwrap_or_default())),
            (_, _) => Cell::Status(Status::Unknown, "no side file".to_owned()),
        },
    ]
}
