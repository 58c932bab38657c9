//! Reads Prometheus' text format as strictly as `promtool check metrics` does, and refuses what its conventions forbid.
//!
//! Sources: *Exposition formats*, *Metric and label naming*, and the lints of `promlint`, Prometheus.

use std::collections::{BTreeMap, BTreeSet};

/// Words that are units, but not base units: seconds, bytes, ratios are.
const NO_UNITS: &[&str] = &[
    "s",
    "ms",
    "us",
    "ns",
    "sec",
    "msec",
    "milliseconds",
    "microseconds",
    "minutes",
    "hours",
    "days",
    "kb",
    "mb",
    "gb",
    "kib",
    "mib",
    "gib",
    "kilobytes",
    "megabytes",
    "gigabytes",
    "bits",
    "percent",
    "percents",
];

/// One number of a page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// A page that was read.
#[derive(Debug)]
pub(crate) struct Page(pub(crate) Vec<Sample>);

impl Page {
    /// The one sample of this name that has all of these labels.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value));
        let mut found = self.0.iter().filter(|sample| sample.name == name).filter(fits);
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} {labels:?} is not one sample");
        Some(first.value)
    }

    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} among {:#?}", self.0))
    }
}

/// Reads a page.
#[track_caller]
pub(crate) fn parse(text: &str) -> Page {
    assert!(text.ends_with('\n') && !text.contains('\r'), "lines end with a line feed, the last one too");
    let (mut samples, mut seen) = (Vec::<Sample>::new(), BTreeSet::new());
    // The metric that was begun last, and its type once that is told.
    let mut current: Option<(String, Option<&str>)> = None;
    for line in text.split_terminator('\n') {
        match line.strip_prefix("# ") {
            Some(comment) => {
                let words: Vec<&str> = comment.splitn(3, ' ').collect();
                let [word, name, rest] = words[..] else { panic!("`{line}` is no comment that is allowed here") };
                match word {
                    "HELP" => {
                        assert!(!rest.trim().is_empty(), "`{line}` helps nobody");
                        assert!(seen.insert(name.to_owned()), "{name} is begun twice");
                        check_name(name);
                        current = Some((name.to_owned(), None));
                    }
                    "TYPE" => {
                        let begun = current.as_mut().filter(|(begun, kind)| begun == name && kind.is_none());
                        let (_, kind) = begun.unwrap_or_else(|| panic!("`{line}` stands below no HELP of its own"));
                        assert!(matches!(rest, "gauge" | "counter"), "`{line}`: an unknown type");
                        assert_eq!(rest == "counter", name.ends_with("_total"), "`{line}`: counters, and only they, end in _total");
                        *kind = Some(rest);
                    }
                    other => panic!("an unknown comment `{other}`"),
                }
            }
            None => {
                let sample = sample(line);
                let of = current.as_ref().filter(|(_, kind)| kind.is_some()).map(|(name, _)| name.as_str());
                assert_eq!(of, Some(sample.name.as_str()), "`{line}` stands below another metric, or above its TYPE");
                let is_new = !samples.iter().any(|other| (&other.name, &other.labels) == (&sample.name, &sample.labels));
                assert!(is_new, "`{line}` is told twice");
                let counts = sample.name.ends_with("_total");
                assert!(!counts || sample.value >= 0.0 && sample.value.fract() == 0.0, "`{line}` counts nothing");
                samples.push(sample);
            }
        }
    }
    for name in &seen {
        assert!(samples.iter().any(|sample| sample.name == *name), "{name} has no sample");
    }
    Page(samples)
}

#[track_caller]
fn check_name(name: &str) {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    assert!(is_word(name) && name.starts_with("pgpersist_") && !name.contains("__"), "{name} is no name of ours");
    let words: Vec<&str> = name.split('_').collect();
    let unit = words.iter().find(|word| NO_UNITS.contains(word));
    assert!(unit.is_none(), "{name}: `{}` is no base unit", unit.unwrap());
    assert!(!words.iter().any(|word| matches!(*word, "gauge" | "counter" | "metric")), "{name} names its type");
    assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name} ends as a histogram does");
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("`{line}` has no value"));
    let value: f64 = value.parse().unwrap_or_else(|e| panic!("`{line}`: {e}"));
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').unwrap_or_else(|| panic!("`{line}`: the labels do not end")))),
        None => (series, BTreeMap::new()),
    };
    Sample { name: name.to_owned(), labels, value }
}

#[track_caller]
fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("`{text}` is no label"));
        assert!(
            !name.is_empty() && !name.starts_with("__") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        let (mut value, mut characters) = (String::new(), rest.char_indices());
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, sign @ ('\\' | '"'))) => sign,
                    other => panic!("`{rest}`: an unknown escape {other:?}"),
                }),
                Some((at, '"')) => break at,
                Some((_, sign)) => value.push(sign),
                None => panic!("`{rest}` does not end"),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} is told twice");
        text = &rest[end + 1..];
        text = match text.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            None if text.is_empty() => text,
            _ => panic!("`{text}` between labels"),
        };
    }
    labels
}

#[test]
fn the_reader_itself_refuses_what_is_wrong() {
    let page = parse("# HELP pgpersist_a_total Help.\n# TYPE pgpersist_a_total counter\npgpersist_a_total{x=\"a\\\"b\"} 3\n");
    assert_eq!(page.value("pgpersist_a_total", &[("x", "a\"b")]), 3.0);
    let gauge = "# HELP pgpersist_a Help.\n# TYPE pgpersist_a gauge\n";
    for wrong in [
        "pgpersist_a 1\n".to_owned(),
        gauge.to_owned(),
        format!("{gauge}pgpersist_a 1"),
        format!("{gauge}pgpersist_a 1\npgpersist_a 1\n"),
        format!("{gauge}pgpersist_a{{x=\"1\",x=\"2\"}} 1\n"),
        format!("{gauge}pgpersist_a{{x=\"1\"}} one\n"),
        format!("{gauge}pgpersist_a 1\n{gauge}pgpersist_a{{x=\"1\"}} 1\n"),
        format!("{gauge}pgpersist_b 1\n"),
        "# TYPE pgpersist_a gauge\npgpersist_a 1\n".to_owned(),
        "# HELP pgpersist_a Help.\npgpersist_a 1\n".to_owned(),
        "# HELP pgpersist_a_total Help.\n# TYPE pgpersist_a_total gauge\npgpersist_a_total 1\n".to_owned(),
        "# HELP pgpersist_a Help.\n# TYPE pgpersist_a counter\npgpersist_a 1\n".to_owned(),
        "# HELP pgpersist_a_ms Help.\n# TYPE pgpersist_a_ms gauge\npgpersist_a_ms 1\n".to_owned(),
        "# HELP pgpersist_used_percent Help.\n# TYPE pgpersist_used_percent gauge\npgpersist_used_percent 1\n".to_owned(),
    ] {
        assert!(std::panic::catch_unwind(|| parse(&wrong)).is_err(), "this was taken:\n{wrong}");
    }
}
