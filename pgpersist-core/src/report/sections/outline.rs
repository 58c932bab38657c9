//! The whole page: how it stands in a few words, what is wrong and what to do first, evidence last.

use time::OffsetDateTime;

use crate::health::render::text::label;
use crate::health::report::Report;
use crate::health::{Finding, Status};
use crate::report::live::Live;
use crate::report::overview::Overview;
use crate::report::page::{Block, Cell, Page, Section, Table, Tile};
use crate::report::sections::backups::{backups, databases};
use crate::report::sections::drills::drills;
use crate::report::sections::parts::{gap, section};
use crate::report::sections::schedules::schedules;
use crate::report::sections::storage::{settings, storage};
use crate::report::words::{about, count, distance, moment, seconds, whole, word};
use crate::wording::size;

/// The page of an overview; on a live page with what the agent knows.
pub(in crate::report) fn page(overview: &Overview, live: Option<&Live>) -> Page {
    let sections = [
        attention(overview),
        recommendations(overview),
        databases(overview),
        backups(overview),
        drills(overview),
        schedules(overview),
        storage(overview),
        settings(overview),
        checks(&overview.health),
    ];
    let cluster = &overview.cluster;
    let version = cluster.version.as_ref().map(|version| format!("PostgreSQL {version}"));
    let host = overview.host.as_ref().map(|host| format!("on {host}"));
    Page {
        title: format!("PostgreSQL cluster {}", cluster.name),
        status: overview.status,
        headline: headline(&overview.health),
        byline: version
            .into_iter()
            .chain(host)
            .chain([format!("as of {}", moment(overview.time)), format!("pgpersist {}", overview.program_version)])
            .collect(),
        live: live.cloned(),
        tiles: tiles(overview),
        sections: sections.into_iter().flatten().collect(),
    }
}

/// The page of an agent that could make no overview in time.
pub(in crate::report) fn page_without_overview(cluster: &str, reason: &str, now: OffsetDateTime, live: &Live) -> Page {
    let notice = Block::Notice {
        status: Status::Unknown,
        about: "Overview".to_owned(),
        what: reason.to_owned(),
        remedy: Some("look at the volumes (`findmnt`, `dmesg`), and at the load of this machine".to_owned()),
    };
    Page {
        title: format!("PostgreSQL cluster {cluster}"),
        status: Status::Unknown,
        headline: "How it stands is not known".to_owned(),
        byline: vec![format!("as of {}", moment(now)), format!("pgpersist {}", env!("CARGO_PKG_VERSION"))],
        live: Some(live.clone()),
        tiles: Vec::new(),
        sections: vec![Section { id: "attention", title: "What needs attention", blocks: vec![notice] }],
    }
}

fn headline(report: &Report) -> String {
    let number = |status, what: &str| match report.count(status) {
        0 => None,
        number => Some(count(number as u64, what)),
    };
    let unknown = match report.count(Status::Unknown) {
        0 => None,
        number => Some(format!("{number} not known")),
    };
    let wrong: Vec<String> = [number(Status::Fail, "problem"), unknown, number(Status::Warn, "warning")].into_iter().flatten().collect();
    match &wrong[..] {
        [] if report.status == Status::Pass => "All is well".to_owned(),
        [] => "How it stands is not known".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn attention(overview: &Overview) -> Option<Section> {
    let mut findings: Vec<&Finding> = overview.health.findings.iter().filter(|finding| finding.status != Status::Pass).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.status));
    let mut told: Vec<&str> = Vec::new();
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        // What one thing keeps from being known is told once, as while the server is down.
        let same = |group: &&mut Vec<&Finding>| (group[0].status, &group[0].summary) == (finding.status, &finding.summary);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    let mut blocks = Vec::new();
    for group in groups {
        // "Start the server" need not stand below each finding that misses it.
        let remedy = group.iter().find_map(|finding| finding.remedy.as_deref()).filter(|remedy| !told.contains(remedy));
        told.extend(remedy);
        blocks.push(Block::Notice {
            status: group[0].status,
            about: group.iter().map(|finding| label(&finding.name)).collect::<Vec<_>>().join(", "),
            what: group[0].summary.clone(),
            remedy: remedy.map(str::to_owned),
        });
    }
    blocks.extend(gap(overview, "cluster", "Cluster"));
    section("attention", "What needs attention", blocks)
}

fn recommendations(overview: &Overview) -> Option<Section> {
    let better = overview.recommendations.iter().filter(|advice| advice.status == Status::Pass);
    let steps: Vec<String> = better.map(|advice| format!("{}: {}", advice.about, advice.advice)).collect();
    section("recommendations", "What would make it safer", if steps.is_empty() { vec![] } else { vec![Block::Steps(steps)] })
}

fn tiles(overview: &Overview) -> Vec<Tile> {
    let now = overview.time;
    let status_of = |name: &str| overview.health.finding(name).map_or(Status::Unknown, |finding| finding.status);
    let last = overview.dumps.iter().filter(|dump| dump.state != "damaged").max_by_key(|dump| dump.taken_at);
    let dump = match (last, overview.gap("dumps")) {
        (_, Some(_)) => ("not known".to_owned(), "the store could not be read".to_owned()),
        (Some(dump), None) => {
            (distance(dump.taken_at, now), format!("{}, {}", dump.database.as_deref().unwrap_or("?"), size(dump.size_bytes)))
        }
        (None, None) => ("none".to_owned(), "there is no dump yet".to_owned()),
    };
    let proven = overview.drills.iter().find(|drill| drill.kind == "restore" && drill.passed());
    let drill = match (proven, overview.gap("drills")) {
        (Some(drill), _) => {
            let took = drill.restore_s.map_or_else(String::new, |took| format!("back within {}", seconds(took)));
            (distance(drill.started_at, now), took)
        }
        (None, Some(_)) => ("not known".to_owned(), "past drills could not be read".to_owned()),
        (None, None) => ("never".to_owned(), "`pgpersist drill restore` proves one".to_owned()),
    };
    let data = overview.storage.iter().find(|place| place.place == "data");
    let disk = match data.and_then(|place| place.free_bytes.zip(place.total_bytes)) {
        Some((free, total)) => {
            let forecast = data.and_then(|place| place.full_in_s).map(|left| format!(", full in about {}", about(whole(left))));
            (format!("{} free", size(free)), format!("of {}{}", size(total), forecast.unwrap_or_default()))
        }
        None => ("not known".to_owned(), String::new()),
    };
    let sizes: Vec<u64> = overview.databases.iter().filter_map(|database| database.size_bytes).collect();
    let databases = match overview.gap("databases") {
        Some(_) => ("not known".to_owned(), "the server could not be asked".to_owned(), Status::Unknown),
        None => (size(sizes.iter().sum()), format!("in {}", count(sizes.len() as u64, "database")), Status::Pass),
    };
    vec![
        Tile { label: "Last dump", value: dump.0, note: dump.1, status: status_of("dumps") },
        Tile { label: "Last proven restore", value: drill.0, note: drill.1, status: status_of("last_drill") },
        Tile { label: "Room for the data", value: disk.0, note: disk.1, status: status_of("disk") },
        Tile { label: "Data", value: databases.0, note: databases.1, status: databases.2 },
    ]
}

fn checks(report: &Report) -> Option<Section> {
    let row = |finding: &Finding| {
        vec![
            Cell::text(label(&finding.name)),
            Cell::Status(finding.status, word(finding.status).to_owned()),
            Cell::text(finding.summary.clone()),
        ]
    };
    let rows = report.findings.iter().map(row).collect();
    let caption = format!("All checks, made within {}", seconds(report.duration_s));
    section("checks", "All checks", vec![Block::Table(Table { caption, head: vec!["Check", "Status", "What was seen"], rows })])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sections::fixture::{NOW, hostile, overview};

    fn titles(page: &Page) -> Vec<&str> {
        page.sections.iter().map(|section: &Section| section.id).collect()
    }

    #[test]
    fn what_is_well_needs_no_attention() {
        let well = page(&overview(), None);
        assert_eq!((well.headline.as_str(), well.status), ("All is well", Status::Pass));
        assert_eq!(titles(&well), ["recommendations", "databases", "backups", "drills", "schedules", "storage", "settings", "checks"]);
        let wrong = page(&hostile(), None);
        assert_eq!((wrong.headline.as_str(), titles(&wrong)[0]), ("1 problem and 1 warning", "attention"));
    }

    #[test]
    fn what_one_thing_hides_is_told_once_and_so_is_its_remedy() {
        let mut overview = overview();
        let down = |name: &str| Finding::unknown(name, "no server runs", Some("start it".to_owned()));
        let findings =
            vec![down("connection"), Finding::fail("server", "down", "start it"), down("settings"), Finding::pass("disk", "room")];
        overview.health = Report::new(NOW, findings);
        let blocks = attention(&overview).unwrap().blocks;
        let told: Vec<_> = blocks
            .iter()
            .map(|block| match block {
                Block::Notice { about, remedy, .. } => (about.as_str(), remedy.as_deref()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [("Server", Some("start it")), ("Connections, Settings", None)]);
    }

    #[test]
    fn each_number_of_findings_has_its_words() {
        let headline = |statuses: &[Status]| {
            let findings = statuses.iter().map(|status| Finding { status: *status, ..Finding::pass("x", "") }).collect();
            headline(&Report::new(NOW, findings))
        };
        use Status::{Fail, Pass, Unknown, Warn};
        assert_eq!(headline(&[]), "How it stands is not known");
        assert_eq!(headline(&[Pass, Warn]), "1 warning");
        assert_eq!(headline(&[Fail, Fail, Unknown, Warn, Pass]), "2 problems, 1 not known and 1 warning");
    }
}
