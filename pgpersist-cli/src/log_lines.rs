//! The lines of `run`: what the agent says and what the server writes, one after the other on stdout.
//!
//! Whoever reads them may be slow or stuck, and that must hold up neither the agent nor the server: lines wait in a bounded
//! queue for a thread that writes them, and what does not fit is dropped, counted, and told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::output::{self, printable};
use pgpersist_core::agent::log::{AgentLog, Speaker};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::error::{Error, Result};
use pgpersist_core::pg::log_line::Severity;

/// How many lines may wait: a few megabytes at most.
const WAITING: usize = 10_000;
/// How long the lines that still wait may take at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The server's as they are; ours with the time and who speaks.
    Text,
    /// A JSON document on each line: `time`, `source`, `level`, `message`.
    Json,
}

/// Takes lines and never waits.
#[derive(Debug)]
pub(crate) struct LogLines {
    look: Look,
    /// Our own lines below this one are left out.
    least: Severity,
    queue: Mutex<Option<SyncSender<String>>>,
    dropped: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl LogLines {
    pub(crate) fn begin(look: Look, least: Severity) -> Result<Self> {
        let (queue, lines) = mpsc::sync_channel(WAITING);
        let writer = thread::Builder::new().name("log".to_owned()).spawn(move || write(&lines));
        let writer = writer.map_err(|e| Error::unavailable(format!("could not start a thread: {e}"), "look at the limits of processes"))?;
        Ok(Self { look, least, queue: Mutex::new(Some(queue)), dropped: AtomicU64::new(0), writer: Mutex::new(Some(writer)) })
    }

    /// Lets the lines that wait be written, as far as somebody reads them.
    pub(crate) fn finish(&self) {
        if let Ok(mut queue) = self.queue.lock() {
            *queue = None;
        }
        let Some(writer) = self.writer.lock().ok().and_then(|mut writer| writer.take()) else { return };
        let deadline = Instant::now() + LAST_LINES;
        while !writer.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn rendered(&self, speaker: Speaker, severity: Severity, text: &str) -> String {
        let now = SystemClock.now();
        let now = now.replace_nanosecond(u32::from(now.millisecond()) * 1_000_000).unwrap_or(now);
        let time = now.format(&Rfc3339).unwrap_or_default();
        match (self.look, speaker) {
            (Look::Json, _) => {
                let source = if speaker == Speaker::Server { "server" } else { "pgpersist" };
                format!("{}\n", json!({ "time": time, "source": source, "level": severity.as_str(), "message": text }))
            }
            (Look::Text, Speaker::Server) => format!("{}\n", printable_but_tabs(text)),
            (Look::Text, Speaker::Agent) => format!("{time} pgpersist {}:  {}\n", severity.as_str(), printable(text)),
        }
    }

    fn put(&self, line: String) {
        let Ok(queue) = self.queue.lock() else { return };
        let Some(queue) = queue.as_ref() else { return };
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let told = self.rendered(Speaker::Agent, Severity::Warning, &format!("{dropped} lines were dropped, since nobody read them"));
            if queue.try_send(told).is_err() {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
        if let Err(TrySendError::Full(_)) = queue.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AgentLog for LogLines {
    fn line(&self, speaker: Speaker, severity: Severity, text: &str) {
        if speaker == Speaker::Server || severity >= self.least {
            self.put(self.rendered(speaker, severity, text));
        }
    }
}

fn write(lines: &Receiver<String>) {
    while let Ok(line) = lines.recv() {
        // With nobody to read them there is nobody to tell.
        let _ = output::line(&line);
    }
}

/// The server begins what belongs to a message with a tab.
fn printable_but_tabs(text: &str) -> String {
    text.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(look: Look) -> LogLines {
        LogLines { look, least: Severity::Debug, queue: Mutex::new(None), dropped: AtomicU64::new(0), writer: Mutex::new(None) }
    }

    #[test]
    fn a_line_is_one_line_whatever_it_holds() {
        let text = quiet(Look::Text).rendered(Speaker::Server, Severity::Error, "\tDETAIL:  a\u{1b}[2J\rb");
        assert_eq!(text, "\tDETAIL:  a\\u{1b}[2J\\rb\n");
        let json = quiet(Look::Json).rendered(Speaker::Agent, Severity::Warning, "a\nb");
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json.lines().count(), &document["level"], &document["message"]), (1, &json!("WARNING"), &json!("a\nb")));
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let (queue, lines) = mpsc::sync_channel(2);
        let log = LogLines { queue: Mutex::new(Some(queue)), ..quiet(Look::Text) };
        for number in 0..5 {
            log.line(Speaker::Server, Severity::Log, &number.to_string());
        }
        assert_eq!([lines.recv().unwrap(), lines.recv().unwrap()], ["0\n", "1\n"]);
        log.line(Speaker::Server, Severity::Log, "later");
        assert!(lines.recv().unwrap().ends_with("3 lines were dropped, since nobody read them\n"));
        assert_eq!(lines.recv().unwrap(), "later\n");
    }
}
