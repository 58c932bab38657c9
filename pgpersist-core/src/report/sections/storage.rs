//! Where everything lies, whether that survives, when it is full, and the settings on which durability hangs.

use crate::health::Status;
use crate::report::overview::Overview;
use crate::report::page::{Block, Cell, Section, Table};
use crate::report::sections::parts::{gap, section};
use crate::report::storage::PlaceFacts;
use crate::report::words::{about, count, whole};
use crate::wording::size;

/// From how much in use on a disk looks full; when that is a finding is for the checks to say.
const NEARLY_FULL: f64 = 0.85;

/// In how many seconds a disk is full that somebody should look at it soon.
const SOON_FULL_S: f64 = 14.0 * 86_400.0;

pub(super) fn storage(overview: &Overview) -> Option<Section> {
    let mut blocks: Vec<Block> = gap(overview, "storage", "Storage").into_iter().collect();
    let cluster = &overview.cluster;
    let mut facts = vec![("Data directory", Cell::code(&cluster.data_directory))];
    facts.extend(cluster.system_identifier.as_ref().map(|identifier| ("System identifier", Cell::code(identifier))));
    facts.push(match overview.survival {
        Some(survival) if survival.boots > 1 => (
            "Proof",
            Cell::text(format!(
                "files here were seen in {} of the machine, since {}",
                count(survival.boots, "boot"),
                survival.since.date()
            )),
        ),
        Some(_) => {
            ("Proof", Cell::text("the volume has been seen in one boot of the machine so far, so the mount table alone speaks for it"))
        }
        None => ("Proof", Cell::text("none yet but the mount table")),
    });
    blocks.push(Block::Facts(facts));
    let rows: Vec<Vec<Cell>> = overview.storage.iter().map(place_row).collect();
    if !rows.is_empty() {
        let head = vec!["Place", "Path", "Survives?", "Evidence", "In use", "Forecast"];
        blocks.push(Block::Table(Table { caption: "Where everything lies, and whether that survives the machine".to_owned(), head, rows }));
    }
    section("storage", "Storage", blocks)
}

fn place_row(place: &PlaceFacts) -> Vec<Cell> {
    let mut evidence = place.evidence.clone();
    if place.same_device_as_data && place.place == "store" {
        evidence.push("on the data's own device: what takes the one takes the other".to_owned());
    }
    vec![
        Cell::text(match place.place.as_str() {
            "data" => "Data",
            "wal" => "WAL",
            "tablespace" => "Tablespace",
            "store" => "Store",
            "log" => "Log",
            "own files" => "Our own files",
            other => other,
        }),
        Cell::code(&place.path),
        match place.verdict.as_str() {
            "persistent" => Cell::Status(Status::Pass, "persistent".to_owned()),
            "ephemeral" => Cell::Status(Status::Fail, "ephemeral".to_owned()),
            _ => Cell::Status(Status::Unknown, "not known".to_owned()),
        },
        Cell::Lines(evidence),
        match (place.used_fraction(), place.free_bytes, place.total_bytes) {
            (Some(used), Some(free), Some(total)) => {
                let status = if used >= NEARLY_FULL { Status::Warn } else { Status::Pass };
                Cell::Share(used, status, format!("{:.0} %, {} free of {}", used * 100.0, size(free), size(total)))
            }
            _ => Cell::Nothing("not known"),
        },
        forecast(place),
    ]
}

fn forecast(place: &PlaceFacts) -> Cell {
    let a_day = |bytes: f64| {
        if bytes.abs() < 1.0 {
            "no growth".to_owned()
        } else if bytes > 0.0 {
            format!("{} more a day", size(bytes as u64))
        } else {
            format!("{} less a day", size(-bytes as u64))
        }
    };
    match (place.full_in_s, place.growth_bytes_per_day.filter(|bytes| bytes.is_finite())) {
        (Some(left), growth) => {
            let status = if left < SOON_FULL_S { Status::Warn } else { Status::Pass };
            let growth = growth.map_or_else(String::new, |bytes| format!(" ({})", a_day(bytes)));
            Cell::Status(status, format!("full in about {}{growth}", about(whole(left))))
        }
        (None, Some(bytes)) => Cell::text(a_day(bytes)),
        (None, None) => Cell::Nothing("not known yet"),
    }
}

pub(super) fn settings(overview: &Overview) -> Option<Section> {
    let row = |(name, value): (&String, &serde_json::Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        vec![Cell::code(name), Cell::code(value), Cell::text(purpose(name))]
    };
    let rows: Vec<Vec<Cell>> = overview.settings.iter().map(row).collect();
    if rows.is_empty() {
        return section("settings", "Settings", vec![Block::Text("The server could not be asked for its settings.".to_owned())]);
    }
    let caption = "The settings of the server on which durability hangs".to_owned();
    section("settings", "Settings", vec![Block::Table(Table { caption, head: vec!["Setting", "Value", "What it is for"], rows })])
}

fn purpose(setting: &str) -> &'static str {
    match setting {
        "fsync" => "what is written reaches the disk; off, a power loss can destroy everything",
        "full_page_writes" => "a page that was written in part is made whole again after a crash",
        "synchronous_commit" => "a commit is acknowledged once it is on the disk",
        "data_checksums" => "damage on the volume is noticed when a page is read",
        "zero_damaged_pages" => "on, damaged pages are read as empty ones",
        "ignore_checksum_failure" => "on, wrong checksums are passed over",
        "autovacuum" => "tables are cleaned up by themselves, and transaction IDs do not run out",
        "track_counts" => "autovacuum sees what there is to do",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sections::fixture::overview;
    use crate::report::sections::outline::page;

    #[test]
    fn a_forecast_is_told_where_there_is_one() {
        let mut overview = overview();
        let tile = |overview: &Overview| page(overview, None).tiles.remove(2);
        assert_eq!((tile(&overview).value.as_str(), tile(&overview).note.as_str()), ("3.0 GB free", "of 10 GB, full in about 41 days"));
        let told = |place: &PlaceFacts| match forecast(place) {
            Cell::Status(status, text) => format!("{} {text}", status.as_str()),
            Cell::Text(text) => text,
            other => format!("{other:?}"),
        };
        assert_eq!(told(&overview.storage[0]), "pass full in about 41 days (1.0 MB more a day)");
        overview.storage[0].full_in_s = Some(86_400.0);
        assert!(told(&overview.storage[0]).starts_with("warn full in about 24 hours"));
        overview.storage[0].full_in_s = None;
        overview.storage[0].growth_bytes_per_day = Some(-2048.0);
        assert_eq!(told(&overview.storage[0]), "2.0 KB less a day");
        overview.storage[0].growth_bytes_per_day = Some(f64::NAN);
        assert_eq!(told(&overview.storage[0]), "Nothing(\"not known yet\")");
        assert_eq!(tile(&overview).note, "of 10 GB");
    }
}
