//! The end of a run: the exit code of each kind of error, and the error as people and programs read it.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind as UsageErrorKind};
use serde_json::{Value, json};

use crate::context::Context;
use crate::output::{self, safe_lines};
use crate::terminal;
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::health::render::nagios;

/// The exit code of a command that came to its end. Errors have their own, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// Done; becomes [`WARNINGS`](Self::WARNINGS) when there were some.
    pub(crate) const DONE: Self = Self(0);
    /// Done, with warnings.
    pub(crate) const WARNINGS: Self = Self(3);
}

/// What Nagios makes of a monitor that cannot tell.
const UNKNOWN_TO_NAGIOS: u8 = 3;

/// The contract's table: what the caller can do decides the code.
pub(crate) fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid => 2,
        ErrorKind::NotFound => 4,
        ErrorKind::Conflict | ErrorKind::Unsafe => 5,
        ErrorKind::Unavailable => 6,
        ErrorKind::Damaged => 7,
        ErrorKind::Cancelled => 130,
        _ => 1,
    }
}

/// Reports an error, if there is one, and returns the exit code.
pub(crate) fn finish(result: Result<Exit>, context: &Context) -> u8 {
    let warnings = context.progress.finish();
    match result {
        Ok(Exit::DONE) if !warnings.is_empty() => Exit::WARNINGS.0,
        Ok(exit) => exit.0,
        Err(error) => report(&error, context.common.wants_json(), &warnings),
    }
}

/// Writes an error to stderr and returns its exit code.
pub(crate) fn report(error: &Error, json: bool, warnings: &[String]) -> u8 {
    let plan: &[String] = if let Error::ConsentNeeded { plan, .. } = error { plan } else { &[] };
    let report = Report { error: error.to_string(), kind: error.kind(), causes: error.causes(), remedy: error.remedy(), plan, warnings };
    report.write(json);
    code(error.kind())
}

/// Tells Nagios of a run that came to nothing: it reads stdout, and 3 is its UNKNOWN.
pub(crate) fn unknown_to_nagios(error: &Error) -> u8 {
    // With nobody to read it, the code alone says the same.
    let _ = output::line(&nagios::render_error(error));
    UNKNOWN_TO_NAGIOS
}

/// What did not parse: help and version are answers, all else is a usage error.
pub(crate) fn unparsed(error: &clap::Error, arguments: &[OsString]) -> u8 {
    if matches!(error.kind(), UsageErrorKind::DisplayHelp | UsageErrorKind::DisplayVersion) {
        // A closed pipe is no failure of ours: `pgpersist --help | head`.
        let _ = error.print();
        return Exit::DONE.0;
    }
    if error.kind() == UsageErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !asks_for_json(arguments) {
        let _ = error.print();
        return code(ErrorKind::Invalid);
    }
    let rendered = error.render().to_string();
    let text = match error.kind() {
        UsageErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => {
            let paragraph = rendered.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = paragraph.split_whitespace().collect();
            words.join(" ").trim_start_matches("error: ").to_owned()
        }
    };
    let remedy = Some(usage_remedy(error, arguments));
    if asks_for_nagios(arguments) {
        return unknown_to_nagios(&Error::Invalid { what: text, remedy });
    }
    Report { error: text, kind: ErrorKind::Invalid, causes: Vec::new(), remedy, plan: &[], warnings: &[] }.write(asks_for_json(arguments));
    code(ErrorKind::Invalid)
}

/// The nearest known word, and where to read on.
fn usage_remedy(error: &clap::Error, arguments: &[OsString]) -> String {
    let suggested = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(|kind| match error.get(kind) {
            Some(ContextValue::String(word)) => Some(word.clone()),
            Some(ContextValue::Strings(words)) => words.first().cloned(),
            _ => None,
        })
        .map(|word| format!("did you mean `{word}`? "))
        .unwrap_or_default();
    let command = arguments.get(1).and_then(|word| word.to_str()).filter(|word| crate::commands::Command::exists(word));
    let help = command.map_or_else(|| "pgpersist --help".to_owned(), |command| format!("pgpersist {command} --help"));
    format!("{suggested}see `{help}`")
}

/// Whether an argument list that did not parse asked for JSON.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let ours = ours(arguments);
    ours.contains(&"--json") || asks_for_format(&ours, "json")
}

/// Whether one that did not parse asked for the one command that speaks to Nagios, to do so.
fn asks_for_nagios(arguments: &[OsString]) -> bool {
    let ours = ours(arguments);
    ours.contains(&"health") && asks_for_format(&ours, "nagios")
}

/// What follows `--` belongs to another program.
fn ours(arguments: &[OsString]) -> Vec<&str> {
    arguments.iter().map(|word| word.to_str().unwrap_or_default()).take_while(|word| *word != "--").collect()
}

fn asks_for_format(words: &[&str], format: &str) -> bool {
    words.iter().any(|word| word.strip_prefix("--format=") == Some(format)) || words.windows(2).any(|pair| pair == ["--format", format])
}

struct Report<'a> {
    error: String,
    kind: ErrorKind,
    causes: Vec<String>,
    remedy: Option<String>,
    plan: &'a [String],
    warnings: &'a [String],
}

impl Report<'_> {
    fn write(&self, json: bool) {
        let text = if json { self.document() } else { self.text() };
        // Nobody is left to tell when stderr is closed.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn document(&self) -> String {
        let mut document = json!({
            "error": self.error,
            "kind": self.kind.as_str(),
            "causes": self.causes,
            "remedy": self.remedy,
        });
        for (name, lines) in [("plan", self.plan), ("warnings", self.warnings)] {
            if let (Value::Object(fields), false) = (&mut document, lines.is_empty()) {
                fields.insert(name.to_owned(), lines.into());
            }
        }
        format!("{document:#}\n")
    }

    /// Lines that follow are indented, so that no name with a line break in it can pass for a line of ours.
    fn text(&self) -> String {
        let mut text = format!("{} {}\n", terminal::loud("error:"), safe_lines(&self.error, "  "));
        for cause in &self.causes {
            text.push_str(&format!("  caused by: {}\n", safe_lines(cause, "    ")));
        }
        if !self.plan.is_empty() {
            text.push_str("  plan:\n");
            for (number, step) in self.plan.iter().enumerate() {
                text.push_str(&format!("    {}. {}\n", number + 1, safe_lines(step, "       ")));
            }
        }
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("  remedy: {}\n", safe_lines(remedy, "    ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_code_of_the_contract() {
        let table = [
            (ErrorKind::Invalid, 2),
            (ErrorKind::NotFound, 4),
            (ErrorKind::Unsafe, 5),
            (ErrorKind::Conflict, 5),
            (ErrorKind::Unavailable, 6),
            (ErrorKind::Damaged, 7),
            (ErrorKind::Denied, 1),
            (ErrorKind::Bug, 1),
            (ErrorKind::Cancelled, 130),
        ];
        for (kind, expected) in table {
            assert_eq!(code(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_missing_consent_shows_its_plan() {
        let plan = vec!["rename database `a\nerror: b` away".to_owned()];
        let report = |plan| Report {
            error: "`load --clean` needs a confirmation".into(),
            kind: ErrorKind::Unsafe,
            causes: vec![],
            remedy: Some("repeat with `--yes`".into()),
            plan,
            warnings: &[],
        };
        let text = report(&plan).text();
        assert!(text.contains("    1. rename database `a\n       error: b` away\n"), "{text}");
        let document: Value = serde_json::from_str(&report(&plan).document()).unwrap();
        assert_eq!(document["plan"][0], plan[0]);
        assert_eq!(document["kind"], "unsafe");
    }

    #[test]
    fn json_behind_two_dashes_is_somebody_elses() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(asks_for_json(&words("pgpersist x --json")));
        assert!(asks_for_json(&words("pgpersist x --format json")));
        assert!(!asks_for_json(&words("pgpersist x -- --json")));
        assert!(asks_for_nagios(&words("pgpersist --format=nagios health --bogus")));
        assert!(!asks_for_nagios(&words("pgpersist temp -- health --format nagios")));
    }
}
