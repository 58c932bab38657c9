//! What `pgpersist run` does at its times.

use time::OffsetDateTime;

use crate::health::Status;
use crate::report::overview::{Overview, ScheduleFacts};
use crate::report::page::{Block, Cell, Section, Table};
use crate::report::sections::parts::{gap, section};
use crate::report::words::{distance, seconds};
use crate::schedule;
use crate::schedule::record::Outcome;

pub(super) fn schedules(overview: &Overview) -> Option<Section> {
    let mut blocks: Vec<Block> = gap(overview, "schedules", "Schedules").into_iter().collect();
    let rows: Vec<Vec<Cell>> = overview.schedules.iter().map(|schedule| schedule_row(schedule, overview.time)).collect();
    if rows.is_empty() {
        blocks.push(Block::Text("Nothing is scheduled in `pgpersist run`.".to_owned()));
    } else {
        let head = vec!["Job", "Schedule", "Last run", "How it ended", "Next run"];
        blocks.push(Block::Table(Table { caption: "What `pgpersist run` does at its times".to_owned(), head, rows }));
    }
    section("schedules", "Schedules", blocks)
}

fn schedule_row(schedule: &ScheduleFacts, now: OffsetDateTime) -> Vec<Cell> {
    let took = schedule.last_duration_s.map_or_else(String::new, |took| format!(", took {}", seconds(took)));
    let summary = schedule.last_summary.as_deref().unwrap_or_default();
    vec![
        Cell::text(match schedule.job.as_str() {
            schedule::DUMP => "Dumps",
            schedule::BACKUP => "Physical backups",
            schedule::PRUNE => "Retention",
            schedule::RESTORE_DRILL => "Restore drill",
            other => other,
        }),
        schedule.schedule.as_ref().map_or_else(|| Cell::text("after what it follows"), Cell::code),
        schedule.last_at.map_or(Cell::Nothing("not yet"), |at| Cell::Moment(at, distance(at, now))),
        match schedule.last_outcome {
            Some(Outcome::Success) => Cell::Status(Status::Pass, format!("done{took}")),
            Some(Outcome::Failure) => {
                let times = if schedule.failures > 1 { format!(" {} times in a row", schedule.failures) } else { String::new() };
                Cell::Status(Status::Fail, format!("failed{times}: {summary}"))
            }
            Some(Outcome::Cancelled) => Cell::Status(Status::Unknown, "stopped with its agent".to_owned()),
            Some(Outcome::Interrupted) => Cell::Status(Status::Warn, format!("cut off: {summary}")),
            None => Cell::Nothing("not yet"),
        },
        match (schedule.running, schedule.next_at) {
            (true, _) => Cell::text("under way"),
            (false, Some(at)) if at <= now => Cell::text("due now"),
            (false, Some(at)) => Cell::Moment(at, distance(at, now)),
            (false, None) if schedule.schedule.is_none() => Cell::text("after the next one"),
            (false, None) => Cell::Nothing("nobody has taken it up"),
        },
    ]
}
