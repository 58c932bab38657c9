//! How bad a line of the server's log is.
//!
//! Source: *Error Reporting and Logging*, PostgreSQL 17, and `error_severity` in `elog.c`: after whatever `log_line_prefix`
//! asks for come the severity, a colon and two blanks. Lines that belong to a message begin with a tab, or have a label of
//! their own such as `DETAIL`.

use serde::Serialize;

/// How bad, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// For developers.
    Debug,
    /// What somebody asked to be told.
    Info,
    /// What a client may want to know.
    Notice,
    /// What an administrator may want to know.
    Log,
    /// Likely problems.
    Warning,
    /// A command was aborted.
    Error,
    /// A session was aborted.
    Fatal,
    /// All sessions were aborted.
    Panic,
}

impl Severity {
    /// The word that the log has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Log => "LOG",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
        }
    }
}

/// The labels, and what they mean; none for those that go on with the message before.
const LABELS: [(&str, Option<Severity>); 20] = [
    ("LOG", Some(Severity::Log)),
    ("ERROR", Some(Severity::Error)),
    ("FATAL", Some(Severity::Fatal)),
    ("PANIC", Some(Severity::Panic)),
    ("WARNING", Some(Severity::Warning)),
    ("NOTICE", Some(Severity::Notice)),
    ("INFO", Some(Severity::Info)),
    ("DEBUG", Some(Severity::Debug)),
    ("DEBUG1", Some(Severity::Debug)),
    ("DEBUG2", Some(Severity::Debug)),
    ("DEBUG3", Some(Severity::Debug)),
    ("DEBUG4", Some(Severity::Debug)),
    ("DEBUG5", Some(Severity::Debug)),
    ("DETAIL", None),
    ("HINT", None),
    ("QUERY", None),
    ("CONTEXT", None),
    ("LOCATION", None),
    ("BACKTRACE", None),
    ("STATEMENT", None),
];

/// The severity of a line; that of the line before where it goes on with its message, or where it has none of its own, as
/// with a localised server or what a program printed that the server runs.
pub fn severity(line: &str, before: Severity) -> Severity {
    if line.starts_with('\t') {
        return before;
    }
    // The first one counts: the message may quote anything.
    let mut searched = 0;
    while let Some(found) = line[searched..].find(":  ") {
        let colon = searched + found;
        let word = line[..colon].rsplit([' ', '\t']).next().unwrap_or_default();
        if let Some((_, severity)) = LABELS.iter().find(|(label, _)| *label == word) {
            return severity.unwrap_or(before);
        }
        searched = colon + 1;
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_label_tells_whatever_the_prefix_is() {
        let of = |line| severity(line, Severity::Log);
        assert_eq!(of("2026-11-25 10:00:00.123 UTC [42] FATAL:  the database system is starting up"), Severity::Fatal);
        assert_eq!(of("ERROR:  relation \"t\" does not exist"), Severity::Error);
        assert_eq!(of("app=x:  y 42 WARNING:  there is no transaction in progress"), Severity::Warning);
        assert_eq!(of("[42] LOG:  statement: SELECT 'PANIC:  no'"), Severity::Log);
        assert_eq!(of("DEBUG2:  autovacuum: processing database"), Severity::Debug);
    }

    #[test]
    fn what_belongs_to_a_message_is_as_bad_as_it() {
        for line in
            ["\tand so on", "[42] DETAIL:  Key (id)=(1) already exists.", "[42] STATEMENT:  INSERT INTO t", "cp: cannot stat 'x'", ""]
        {
            assert_eq!(severity(line, Severity::Error), Severity::Error, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in any::<String>()) {
            severity(&line, Severity::Log);
        }
    }
}
