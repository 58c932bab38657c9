//! A report for people, in the look that they know: one line a finding, and below it what to do.

use crate::health::checks::{
    backups, connection, data_directory, database, disk, dumps, last_drill, placement, probe, server, settings, transaction_ids,
};
use crate::health::report::Report;
use crate::health::{Finding, Status};

const TITLE: &str = "PostgreSQL Health Check";
const RULE: &str = "==================================";

/// The whole text, each line ended. Control characters in names are escaped.
///
/// The answer of a probe stands in its database's line where both are well; else it has a line of its own.
pub fn render(report: &Report) -> String {
    let mut lines = vec![TITLE.to_owned(), RULE.to_owned()];
    let mut remedies: Vec<&str> = Vec::new();
    for finding in &report.findings {
        if host(report, finding).is_some() {
            continue;
        }
        let guests: Vec<String> = report
            .findings
            .iter()
            .filter(|guest| host(report, guest).is_some_and(|host| std::ptr::eq(host, finding)))
            .map(answer)
            .collect();
        let guests = if guests.is_empty() { String::new() } else { format!(" ({})", guests.join(", ")) };
        lines.push(printable(&format!("{} {}: {}{guests}", sign(finding.status), label(&finding.name), finding.summary)));
        // What is to be done is told once: "start the server" need not stand below each line that misses it.
        if let Some(remedy) = finding.remedy.as_deref().filter(|remedy| finding.status != Status::Pass && !remedies.contains(remedy)) {
            remedies.push(remedy);
            lines.push(printable(&format!("    remedy: {remedy}")));
        }
    }
    lines.push(RULE.to_owned());
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The finding in whose line this one is told: a probe's is that of its database.
fn host<'a>(report: &'a Report, finding: &Finding) -> Option<&'a Finding> {
    let database = finding.observed.get("database").and_then(|value| value.as_str())?;
    if !finding.name.starts_with(probe::PREFIX) || finding.status != Status::Pass {
        return None;
    }
    report.finding(&format!("{}{database}", database::PREFIX)).filter(|host| host.status == Status::Pass)
}

fn answer(probe: &Finding) -> String {
    format!("{}: {}", probe.name.trim_start_matches(probe::PREFIX), probe.summary)
}

fn sign(status: Status) -> char {
    match status {
        Status::Pass => '✓',
        Status::Warn => '!',
        Status::Fail => '✗',
        Status::Unknown => '?',
    }
}

/// What a finding is called by people.
pub(crate) fn label(name: &str) -> String {
    match name {
        data_directory::NAME => "Data directory".to_owned(),
        placement::NAME => "Placement".to_owned(),
        server::NAME => "Server".to_owned(),
        connection::NAME => "Connections".to_owned(),
        dumps::NAME => "Backups".to_owned(),
        backups::NAME => "Physical backups".to_owned(),
        last_drill::NAME => "Restore drill".to_owned(),
        disk::NAME => "Disk".to_owned(),
        settings::NAME => "Settings".to_owned(),
        transaction_ids::NAME => "Transaction IDs".to_owned(),
        _ => match name.split_once(':') {
            Some(("database", name)) => format!("Database {name}"),
            Some(("probe", name)) => format!("Probe {name}"),
            Some(("store", place)) => format!("Store {place}"),
            Some(("encryption", number)) => format!("Recovery key of store {number}"),
            Some(("schedule", job)) => format!("Schedule of {job}"),
            _ => name.to_owned(),
        },
    }
}

/// One line: what would break it, move a cursor, or turn text around is escaped.
pub(super) fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    /// The cluster of the page that shows the look.
    pub(in crate::health::render) fn report() -> Report {
        let mut report = Report::new(
            datetime!(2026-02-08 11:33:16 UTC),
            vec![
                Finding::pass("data_directory", "/app/pgdata (15, 70 MB, persistent: ext4 on /dev/nvme0n9)").observing("size_bytes", 73_400_320),
                Finding::pass("server", "running (pid 412, up 3 d 4 h)").observing("uptime_s", 273_600),
                Finding::pass("connection", "accepting (3 of 100)").observing("used", 3).observing("max", 100),
                Finding::pass("database:customerInvoice", "accessible").observing("database", "customerInvoice"),
                Finding::pass("probe:orders", "8 rows").observing("database", "customerInvoice").observing("probe", "orders").observing("value", 8),
                Finding::pass("dumps", "latest backup_20260208_093316.sql.gz (12 KB, 2 h ago)").observing(
                    "databases",
                    json!([{ "database": "customerInvoice", "name": "backup_20260208_093316.sql.gz", "size_bytes": 12_288, "age_s": 7200 }]),
                ),
                Finding::warn("disk", "1.2 GB free of 10 GB", "enlarge the volume")
                    .observing("free_bytes", 1_288_490_188_u64)
                    .observing("places", json!([{ "place": "data", "path": "/app/pgdata", "free_bytes": 1_288_490_188_u64, "total_bytes": 10_737_418_240_u64, "free_inodes": null, "read_only": false }])),
            ],
        );
        report.duration_s = 0.25;
        report
    }

    #[test]
    fn it_has_the_look_that_people_know() {
        assert_eq!(
            render(&report()),
            "PostgreSQL Health Check\n\
             ==================================\n\
             ✓ Data directory: /app/pgdata (15, 70 MB, persistent: ext4 on /dev/nvme0n9)\n\
             ✓ Server: running (pid 412, up 3 d 4 h)\n\
             ✓ Connections: accepting (3 of 100)\n\
             ✓ Database customerInvoice: accessible (orders: 8 rows)\n\
             ✓ Backups: latest backup_20260208_093316.sql.gz (12 KB, 2 h ago)\n\
             ! Disk: 1.2 GB free of 10 GB\n    \
                 remedy: enlarge the volume\n\
             ==================================\n"
        );
    }

    #[test]
    fn a_probe_that_is_not_well_or_has_no_host_has_its_own_line() {
        let probe =
            |status| Finding { status, remedy: Some("mend".into()), ..Finding::pass("probe:orders", "gone").observing("database", "x") };
        let database = |status| Finding { status, ..Finding::pass("database:x", "seen") };
        let text = |findings| render(&Report::new(datetime!(2026-02-08 0:00 UTC), findings));
        assert!(
            text(vec![database(Status::Pass), probe(Status::Fail)])
                .contains("✓ Database x: seen\n✗ Probe orders: gone\n    remedy: mend\n")
        );
        assert!(text(vec![database(Status::Unknown), probe(Status::Pass)]).contains("? Database x: seen\n✓ Probe orders: gone\n"));
        assert!(text(vec![probe(Status::Pass)]).contains("✓ Probe orders: gone\n"));
    }

    #[test]
    fn a_remedy_is_told_once_and_a_name_cannot_forge_a_line() {
        let finding = |name: &str| Finding::unknown(name, "not known", Some("start it".into()));
        let text = render(&Report::new(datetime!(2026-02-08 0:00 UTC), vec![finding("a"), finding("b\n✓ Server: running\u{202e}\x1b[2J")]));
        assert_eq!(text.matches("start it").count(), 1);
        assert!(text.contains("? b\\n✓ Server: running\\u{202e}\\u{1b}[2J: not known\n"), "{text}");
    }
}
