//! A report for Nagios and its heirs (Icinga, Checkmk): one line with performance data, and an exit code.
//!
//! Source: *Monitoring Plugins Development Guidelines*: `'label'=value[UOM];[warn];[crit];[min];[max]`.

use serde_json::Value;

use crate::error::Error;
use crate::health::checks::{connection, data_directory, disk, dumps, transaction_ids};
use crate::health::render::text::printable;
use crate::health::report::Report;
use crate::health::{Finding, Status};

/// 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
pub fn exit_code(report: &Report) -> u8 {
    match report.status {
        Status::Pass => 0,
        Status::Warn => 1,
        Status::Fail => 2,
        Status::Unknown => 3,
    }
}

/// The line of a run that came to nothing, ended; its exit code is 3.
pub fn render_error(error: &Error) -> String {
    format!("PGPERSIST UNKNOWN - {}\n", printable(&error.to_string()).replace('|', "/"))
}

/// The line, ended.
pub fn render(report: &Report) -> String {
    let word = match report.status {
        Status::Pass => "OK",
        Status::Warn => "WARNING",
        Status::Fail => "CRITICAL",
        Status::Unknown => "UNKNOWN",
    };
    // The first thing read is the worst one. What could not be found out beside a failure is mostly its consequence.
    let of = |status: Status| report.findings.iter().filter(move |finding| finding.status == status);
    let told = |finding: &Finding| format!("{} {}: {}", finding.name, finding.status.as_str(), finding.summary);
    let mut parts: Vec<String> = of(Status::Fail).map(told).collect();
    let unknown: Vec<&Finding> = of(Status::Unknown).collect();
    match (parts.is_empty(), unknown.is_empty()) {
        (_, true) => {}
        (true, false) => parts.extend(unknown.into_iter().map(told)),
        (false, false) => {
            let names: Vec<&str> = unknown.iter().map(|finding| finding.name.as_str()).collect();
            parts.push(format!("unknown: {}", names.join(", ")));
        }
    }
    parts.extend(of(Status::Warn).map(told));
    let told = if parts.is_empty() { format!("{} checks pass", report.findings.len()) } else { parts.join("; ") };
    // What follows a bar is performance data.
    let told = printable(&told).replace('|', "/");
    let data = performance(report);
    let bar = if data.is_empty() { String::new() } else { format!(" | {}", data.join(" ")) };
    format!("PGPERSIST {word} - {told}{bar}\n")
}

fn performance(report: &Report) -> Vec<String> {
    let number = |finding: &str, field: &str| report.finding(finding)?.observed.get(field)?.as_f64();
    let mut data = vec![format!("'checks'={};;;0", report.findings.len()), format!("'time'={}s;;;0", report.duration_s)];
    if let Some(free) = number(disk::NAME, "free_bytes") {
        let total = number(disk::NAME, "total_bytes").map(|total| total.to_string()).unwrap_or_default();
        data.push(format!("'disk_free'={free}B;;;0;{total}"));
    }
    if let Some(size) = number(data_directory::NAME, "size_bytes") {
        data.push(format!("'data_size'={size}B;;;0"));
    }
    if let (Some(used), Some(max)) = (number(connection::NAME, "used"), number(connection::NAME, "max")) {
        data.push(format!("'connections'={used};;;0;{max}"));
    }
    if let Some(age) = number(transaction_ids::NAME, "oldest_age") {
        data.push(format!("'transaction_id_age'={age};;;0"));
    }
    let dumps = report.finding(dumps::NAME).map(|finding| &finding.observed);
    let limit = dumps.and_then(|observed| observed.get("max_age_s")?.as_u64()).map(|limit| limit.to_string()).unwrap_or_default();
    for dump in dumps.and_then(|observed| observed.get("databases")?.as_array()).into_iter().flatten() {
        let text = |field: &str| dump.get(field).and_then(Value::as_str).unwrap_or_default();
        let value = |field: &str| dump.get(field).and_then(Value::as_u64).unwrap_or(0);
        let label = label(&format!("dump_age_{}", text("database")));
        data.push(format!("{label}={}s;;{limit};0", value("age_s")));
    }
    data
}

/// Labels hold neither `=` nor anything that ends a line; a quote is doubled.
fn label(text: &str) -> String {
    format!("'{}'", printable(text).replace(['=', '|'], "_").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::render::text::tests::report;
    use time::macros::datetime;

    #[test]
    fn one_line_says_what_is_wrong_and_what_was_measured() {
        let line = render(&report());
        assert!(
            line.starts_with(
                "PGPERSIST WARNING - disk warn: 1.2 GB free of 10 GB | 'checks'=7;;;0 'time'=0.25s;;;0 'disk_free'=1288490188B;;;0;"
            ),
            "{line}"
        );
        assert!(line.contains("'dump_age_customerInvoice'=7200s;;;0"), "{line}");
        assert_eq!((line.lines().count(), exit_code(&report())), (1, 1));
    }

    #[test]
    fn what_follows_from_a_failure_is_told_by_name_alone() {
        let unknown = |name: &str| Finding::unknown(name, "no server runs", None);
        let findings = vec![unknown("connection"), Finding::fail("server", "not running", "start it"), unknown("settings")];
        let line = |findings| render(&Report::new(datetime!(2026-02-08 0:00 UTC), findings));
        assert!(line(findings).starts_with("PGPERSIST CRITICAL - server fail: not running; unknown: connection, settings |"));
        assert!(line(vec![unknown("settings")]).starts_with("PGPERSIST UNKNOWN - settings unknown: no server runs |"));
    }

    #[test]
    fn each_status_has_its_code_and_nothing_breaks_the_line() {
        for (status, word, code) in
            [(Status::Pass, "OK", 0), (Status::Warn, "WARNING", 1), (Status::Fail, "CRITICAL", 2), (Status::Unknown, "UNKNOWN", 3)]
        {
            let report = Report::new(datetime!(2026-02-08 0:00 UTC), vec![Finding { status, ..Finding::pass("x", "a | b\nc") }]);
            let line = render(&report);
            assert!(
                line.starts_with(&format!("PGPERSIST {word} - ")) && line.lines().count() == 1 && line.matches('|').count() == 1,
                "{line}"
            );
            assert_eq!(exit_code(&report), code);
        }
        assert_eq!(label("dump_age_it's=a|b"), "'dump_age_it''s_a_b'");
    }
}
