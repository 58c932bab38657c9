//! A report in Prometheus' text format, version 0.0.4: what `/metrics` answers, or what node_exporter's textfile collector reads.
//!
//! Source: *Exposition formats* and *Metric and label naming*, Prometheus. Numbers have base units: bytes and seconds. What
//! was not observed has no line, so an alert on a number wants `absent()` or the status beside it.

use std::fmt::Write;

use serde_json::Value;

use crate::health::checks::{
    backups, connection, data_directory, disk, dumps, last_drill, schedule, server, settings, store, transaction_ids,
};
use crate::health::report::Report;
use crate::health::{Finding, Status};

/// The content type of an HTTP answer that holds it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where a number of a finding becomes a metric.
struct Metric {
    name: &'static str,
    help: &'static str,
    finding: &'static str,
    /// The list in `observed` that has the number in each entry; else the number stands there by itself.
    list: Option<&'static str>,
    field: &'static str,
    /// Fields of the entry that tell it from the others.
    labels: &'static [&'static str],
}

const fn number(name: &'static str, help: &'static str, finding: &'static str, field: &'static str) -> Metric {
    Metric { name, help, finding, list: None, field, labels: &[] }
}

const fn of_place(name: &'static str, help: &'static str, field: &'static str) -> Metric {
    Metric { name, help, finding: disk::NAME, list: Some("places"), field, labels: &["place", "path"] }
}

const fn of_dump(name: &'static str, help: &'static str, field: &'static str) -> Metric {
    Metric { name, help, finding: dumps::NAME, list: Some("databases"), field, labels: &["database"] }
}

const fn of_drill(name: &'static str, help: &'static str, field: &'static str) -> Metric {
    Metric { name, help, finding: last_drill::NAME, list: Some("databases"), field, labels: &["database"] }
}

const METRICS: &[Metric] = &[
    number("pgpersist_data_directory_size_bytes", "Size of all files of the cluster.", data_directory::NAME, "size_bytes"),
    of_place("pgpersist_disk_free_bytes", "Bytes that may still be written.", "free_bytes"),
    of_place("pgpersist_disk_size_bytes", "Bytes of the file system, without what is reserved for root.", "total_bytes"),
    of_place("pgpersist_disk_free_inodes", "Files that may still be created.", "free_inodes"),
    of_place("pgpersist_disk_read_only", "Whether the file system is mounted read-only.", "read_only"),
    of_place("pgpersist_disk_full_seconds", "Time until it is full, at the growth of the last days or hours.", "full_in_s"),
    number("pgpersist_ballast_bytes", "Room that is given back when the volume is full.", disk::NAME, "ballast_bytes"),
    number("pgpersist_server_uptime_seconds", "Time since the server was started.", server::NAME, "uptime_s"),
    number("pgpersist_connections", "Sessions of clients.", connection::NAME, "used"),
    number("pgpersist_connections_max", "Sessions that the server allows (max_connections).", connection::NAME, "max"),
    number("pgpersist_connections_usable", "Sessions that the server allows to ordinary roles.", connection::NAME, "usable"),
    number("pgpersist_checksum_failures", "Pages that were read with a wrong checksum.", settings::NAME, "checksum_failures"),
    of_dump("pgpersist_dump_age_seconds", "Age of the newest good dump.", "age_s"),
    of_dump("pgpersist_dump_size_bytes", "Size of the newest good dump.", "size_bytes"),
    number("pgpersist_dumps", "Dumps in the primary store.", dumps::NAME, "count"),
    number("pgpersist_backup_age_seconds", "Age of the newest good physical backup.", backups::NAME, "age_s"),
    number("pgpersist_backup_size_bytes", "Size of all files in the newest good physical backup.", backups::NAME, "size_bytes"),
    number("pgpersist_backup_stored_bytes", "What the newest good physical backup takes in the store.", backups::NAME, "stored_bytes"),
    number(
        "pgpersist_backup_oldest_full_read_age_seconds",
        "Time since the file was read that was left unread for longest.",
        backups::NAME,
        "oldest_full_read_age_s",
    ),
    number("pgpersist_backups", "Physical backups in the primary store.", backups::NAME, "count"),
    of_drill("pgpersist_last_restore_drill_age_seconds", "Time since a restore was last proven.", "age_s"),
    of_drill("pgpersist_restore_duration_seconds", "How long loading the dump took then.", "restore_s"),
    of_drill("pgpersist_restored_dump_age_seconds", "How old the dump was then.", "dump_age_s"),
    number(
        "pgpersist_transaction_id_age",
        "Age of the oldest unfrozen transaction; the server stops near 2^31.",
        transaction_ids::NAME,
        "oldest_age",
    ),
    number(
        "pgpersist_multixact_id_age",
        "Age of the oldest multixact; the server stops near 2^31.",
        transaction_ids::NAME,
        "oldest_multixact_age",
    ),
];

/// What is told of each scheduled job, which has a finding of its own.
const OF_JOBS: &[(&str, &str, &str)] = &[
    ("pgpersist_job_failures", "Runs in a row that have failed.", "failures"),
    ("pgpersist_job_running", "Whether a run is under way.", "running"),
    ("pgpersist_job_last_success_age_seconds", "Time since the last run began that succeeded.", "last_success_age_s"),
    ("pgpersist_job_duration_seconds", "How long the last run took.", "last_duration_s"),
];

/// What is told of each store that has a finding of its own.
const OF_STORES: &[(&str, &str, &str)] = &[
    ("pgpersist_store_writable", "Whether the store takes writes.", "writable"),
    ("pgpersist_store_dumps", "Dumps in the store.", "dumps"),
    ("pgpersist_store_newest_dump_age_seconds", "Age of the newest dump in the store.", "newest_age_s"),
    ("pgpersist_store_behind_dumps", "Newer dumps that the primary store has.", "behind"),
    ("pgpersist_store_behind_seconds", "By how much the newest dump is older than that of the primary store.", "behind_s"),
];

/// The whole text.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    gauge(&mut text, "pgpersist_health_status", "Result of each check: 0 pass, 1 warn, 2 fail, 3 unknown.");
    for finding in &report.findings {
        line(&mut text, "pgpersist_health_status", &[("name", &finding.name)], code(finding.status));
    }
    gauge(&mut text, "pgpersist_health_overall_status", "The worst result: 0 pass, 1 warn, 2 fail, 3 unknown.");
    line(&mut text, "pgpersist_health_overall_status", &[], code(report.status));
    gauge(&mut text, "pgpersist_health_time_seconds", "When the checks were made, in seconds since 1970.");
    line(&mut text, "pgpersist_health_time_seconds", &[], report.time.unix_timestamp() as f64);
    gauge(&mut text, "pgpersist_health_duration_seconds", "How long the checks took.");
    line(&mut text, "pgpersist_health_duration_seconds", &[], report.duration_s);
    probes(&mut text, report);
    of_each(&mut text, report, OF_JOBS, schedule::PREFIX, "job");
    of_each(&mut text, report, OF_STORES, store::PREFIX, "store");
    for metric in METRICS {
        series(&mut text, metric, report);
    }
    text
}

fn probes(text: &mut String, report: &Report) {
    let answers: Vec<(&Finding, f64)> = report
        .findings
        .iter()
        .filter(|finding| finding.observed.contains_key("probe"))
        .filter_map(|finding| {
            Some((finding, finding.observed.get("value").or_else(|| finding.observed.get("estimate")).and_then(measured)?))
        })
        .collect();
    if !answers.is_empty() {
        gauge(text, "pgpersist_probe_value", "The answer of a probe, where it is a number.");
    }
    for (finding, value) in answers {
        let label = |key: &str| finding.observed.get(key).and_then(Value::as_str).unwrap_or_default();
        line(text, "pgpersist_probe_value", &[("name", label("probe")), ("database", label("database"))], value);
    }
}

/// Metrics of things that have a finding each, whose names begin alike.
fn of_each(text: &mut String, report: &Report, metrics: &[(&str, &str, &str)], prefix: &str, label: &str) {
    for (name, help, field) in metrics {
        let told = |finding: &Finding| Some((finding.name.strip_prefix(prefix)?.to_owned(), measured(finding.observed.get(*field)?)?));
        let values: Vec<(String, f64)> = report.findings.iter().filter_map(told).collect();
        if !values.is_empty() {
            gauge(text, name, help);
        }
        for (which, value) in values {
            line(text, name, &[(label, &which)], value);
        }
    }
}

fn series(text: &mut String, metric: &Metric, report: &Report) {
    let Some(observed) = report.finding(metric.finding).map(|finding| &finding.observed) else { return };
    let mut values: Vec<(Vec<(&str, &str)>, f64)> = Vec::new();
    match metric.list {
        None => values.extend(observed.get(metric.field).and_then(measured).map(|value| (Vec::new(), value))),
        Some(list) => {
            for entry in observed.get(list).and_then(Value::as_array).into_iter().flatten() {
                let Some(value) = entry.get(metric.field).and_then(measured) else { continue };
                let labels =
                    metric.labels.iter().map(|label| (*label, entry.get(label).and_then(Value::as_str).unwrap_or_default())).collect();
                // A series appears once, or the whole page is refused.
                if !values.iter().any(|(seen, _)| *seen == labels) {
                    values.push((labels, value));
                }
            }
        }
    }
    if !values.is_empty() {
        gauge(text, metric.name, metric.help);
    }
    for (labels, value) in values {
        line(text, metric.name, &labels, value);
    }
}

fn measured(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|flag| if flag { 1.0 } else { 0.0 }))
}

fn code(status: Status) -> f64 {
    match status {
        Status::Pass => 0.0,
        Status::Warn => 1.0,
        Status::Fail => 2.0,
        Status::Unknown => 3.0,
    }
}

/// Begins a metric that goes up and down.
pub(crate) fn gauge(text: &mut String, name: &str, help: &str) {
    head(text, name, "gauge", help);
}

/// Begins a metric that only goes up; its name ends in `_total`.
pub(crate) fn counter(text: &mut String, name: &str, help: &str) {
    head(text, name, "counter", help);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Adds a sample to the metric that was begun last.
pub(crate) fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let _ = writeln!(text, "{name}{labels} {value}");
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::health::render::text::tests::report;
    use proptest::prelude::*;
    use time::macros::datetime;

    type Labels = BTreeMap<String, String>;

    /// Reads the format as its specification tells, and refuses whatever that does not allow.
    fn parse(text: &str) -> Vec<(String, Labels, f64)> {
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is ended");
        let (mut samples, mut typed, mut current): (Vec<(String, Labels, f64)>, BTreeSet<String>, String) = Default::default();
        for line in text.split_terminator('\n') {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                match kind {
                    "HELP" => assert!(!rest.is_empty() && typed.insert(name.to_owned()), "one HELP for {name}"),
                    "TYPE" => assert!(rest == "gauge" && typed.contains(name)),
                    other => panic!("unknown comment {other}"),
                }
                current = name.to_owned();
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| (name, labels.strip_suffix('}').unwrap()));
            assert!(
                name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            );
            assert_eq!(name, current, "the lines of a metric stand together below its TYPE");
            let labels = parse_labels(labels);
            assert!(!samples.iter().any(|(n, l, _)| n == name && *l == labels), "{line} is told twice");
            samples.push((name.to_owned(), labels, value.parse().unwrap()));
        }
        samples
    }

    fn parse_labels(mut text: &str) -> Labels {
        let mut labels = Labels::new();
        while !text.is_empty() {
            let (name, rest) = text.split_once("=\"").unwrap();
            assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            let (mut value, mut characters) = (String::new(), rest.char_indices());
            let end = loop {
                match characters.next().unwrap() {
                    (_, '\\') => value.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        other => panic!("unknown escape {other}"),
                    }),
                    (at, '"') => break at,
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(name.to_owned(), value).is_none());
            text = &rest[end + 1..];
            text = text.strip_prefix(',').unwrap_or(text);
        }
        labels
    }

    #[test]
    fn what_was_observed_can_be_read_back() {
        let samples = parse(&render(&report()));
        let value = |name: &str, label: Option<(&str, &str)>| {
            let found = samples.iter().find(|(n, labels, _)| n == name && label.is_none_or(|(k, v)| labels.get(k).is_some_and(|l| l == v)));
            found.unwrap_or_else(|| panic!("{name} is missing")).2
        };
        assert_eq!(value("pgpersist_health_status", Some(("name", "disk"))), 1.0);
        assert_eq!(value("pgpersist_health_status", Some(("name", "server"))), 0.0);
        assert_eq!(value("pgpersist_health_overall_status", None), 1.0);
        assert_eq!(value("pgpersist_disk_free_bytes", Some(("place", "data"))), 1_288_490_188.0);
        assert_eq!(value("pgpersist_dump_age_seconds", Some(("database", "customerInvoice"))), 7200.0);
        assert_eq!(value("pgpersist_probe_value", Some(("name", "orders"))), 8.0);
        assert_eq!(value("pgpersist_health_time_seconds", None), 1_770_550_396.0);
    }

    #[test]
    fn each_job_is_told_apart() {
        let job = |name: &str, failures: u32| Finding::pass(name, "x").observing("failures", failures).observing("running", failures > 0);
        let findings =
            vec![job("schedule:dump", 0), job("schedule:restore_drill", 3), Finding::pass("server", "x").observing("failures", 9)];
        let samples = parse(&render(&Report::new(datetime!(2026-02-08 0:00 UTC), findings)));
        let told = |metric: &str| -> Vec<(String, f64)> {
            samples.iter().filter(|(name, ..)| name == metric).map(|(_, labels, value)| (labels["job"].clone(), *value)).collect()
        };
        assert_eq!(told("pgpersist_job_failures"), [("dump".to_owned(), 0.0), ("restore_drill".to_owned(), 3.0)]);
        assert_eq!(told("pgpersist_job_running"), [("dump".to_owned(), 0.0), ("restore_drill".to_owned(), 1.0)]);
        assert_eq!(told("pgpersist_job_duration_seconds"), []);
    }

    #[test]
    fn each_store_tells_how_far_it_is_behind() {
        let copy = Finding::pass("store:2", "x").observing("behind", 3).observing("behind_s", 7200).observing("writable", true);
        let samples = parse(&render(&Report::new(datetime!(2026-02-08 0:00 UTC), vec![Finding::pass("store:1", "x"), copy])));
        let told =
            |metric: &str| samples.iter().find(|(name, ..)| name == metric).map(|(_, labels, value)| (labels["store"].clone(), *value));
        assert_eq!(told("pgpersist_store_behind_dumps"), Some(("2".to_owned(), 3.0)));
        assert_eq!(told("pgpersist_store_behind_seconds"), Some(("2".to_owned(), 7200.0)));
        assert_eq!((told("pgpersist_store_writable"), told("pgpersist_store_dumps")), (Some(("2".to_owned(), 1.0)), None));
    }

    #[test]
    fn names_of_metrics_follow_the_conventions() {
        let all = METRICS.iter().map(|metric| (metric.name, metric.help, metric.field)).chain(OF_JOBS.iter().chain(OF_STORES).copied());
        for (name, help, field) in all {
            assert!(name.starts_with("pgpersist_") && help.ends_with('.') && !help.contains(['\n', '\\']));
            // A field's unit is the metric's.
            assert!(!field.ends_with("_s") || name.ends_with("_seconds"), "{name}");
            assert!(!field.ends_with("_bytes") || name.ends_with("_bytes"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_reads_back(name in "\\PC{0,20}|[a\"\\\\\n,}{=]{0,10}") {
            let finding = Finding::pass(name.clone(), "x").observing("probe", name.clone()).observing("value", 1);
            let samples = parse(&render(&Report::new(datetime!(2026-02-08 0:00 UTC), vec![finding])));
            prop_assert_eq!(&samples[0].1["name"], &name);
            let probe = samples.iter().find(|(metric, ..)| metric == "pgpersist_probe_value").unwrap();
            prop_assert_eq!(&probe.1["name"], &name);
        }
    }
}
