//! Progress on stderr: one line drawn over and over on a terminal, a line now and then elsewhere, silence when asked.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::args::Common;
use crate::output::printable;
use crate::terminal;
use pgpersist_core::progress::{Event, ProgressSink};
use pgpersist_core::wording::{duration, shortened, size};

/// How often a line is drawn over: faster is not seen.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a file gets a line about bytes.
const NOW_AND_THEN: Duration = Duration::from_secs(30);
const BAR_WIDTH: usize = 12;
/// How long a step is watched before its pace is told.
const WATCHED: Duration = Duration::from_secs(2);
/// Short of the usual width of a terminal: a line that wraps can no longer be drawn over.
const WIDTH: usize = 78;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Silent,
    Lines,
    Redrawn,
}

/// Shows events and keeps the warnings: they make the exit code 3, and are part of a JSON document.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    /// Steps stay readable although the line below them is drawn over.
    keep_steps: bool,
    /// With JSON, stderr is left to the document of an error, and so are the steps: a document with lines before it is none.
    warnings_on_stderr: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    step: String,
    drawn: bool,
    /// When the step's first bytes were told, and how many those were.
    first_bytes: Option<(Instant, u64)>,
    last_bytes: Option<Instant>,
    warnings: Vec<String>,
}

impl Progress {
    pub(crate) fn new(common: &Common, json: bool) -> Self {
        let style = match (common.quiet || json, terminal::redraws()) {
            (true, _) => Style::Silent,
            (false, true) => Style::Redrawn,
            (false, false) => Style::Lines,
        };
        Self { style, keep_steps: common.verbose, warnings_on_stderr: !json, state: Mutex::default() }
    }

    /// Takes a warning of the command itself.
    pub(crate) fn warn(&self, text: &str) {
        self.event(Event::Warning(text.to_owned()));
    }

    /// Tells something that is no part of the result and changes no exit code, as when the code is another program's.
    pub(crate) fn mention(&self, text: &str) {
        write(&format!("{}warning: {}\n", self.state().clear(), printable(text)));
    }

    /// The warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// Clears the line that was drawn, and returns the warnings.
    pub(crate) fn finish(&self) -> Vec<String> {
        let mut state = self.state();
        let clear = state.clear();
        write(&clear);
        state.warnings.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProgressSink for Progress {
    fn event(&self, event: Event) {
        let mut state = self.state();
        let text = match event {
            Event::Warning(warning) => {
                let line = format!("{}warning: {}\n", state.clear(), printable(&warning));
                state.warnings.push(warning);
                if self.warnings_on_stderr { line } else { String::new() }
            }
            Event::Step(step) => {
                state.step = printable(&step).into_owned();
                (state.first_bytes, state.last_bytes) = (None, None);
                state.show_step(self.style, self.keep_steps)
            }
            Event::Bytes { done, total } => state.show_bytes(self.style, done, total),
            _ => String::new(),
        };
        write(&text);
    }
}

impl State {
    fn clear(&mut self) -> String {
        if std::mem::take(&mut self.drawn) { "\r\x1b[K".to_owned() } else { String::new() }
    }

    fn show_step(&mut self, style: Style, keep: bool) -> String {
        match style {
            Style::Silent => String::new(),
            Style::Lines => format!("{}\n", self.step),
            Style::Redrawn if keep => format!("{}{}\n", self.clear(), self.step),
            Style::Redrawn => self.draw(&self.step.clone()),
        }
    }

    fn show_bytes(&mut self, style: Style, done: u64, total: Option<u64>) -> String {
        let pause = match style {
            Style::Silent => return String::new(),
            Style::Lines => NOW_AND_THEN,
            Style::Redrawn => REDRAW,
        };
        let now = Instant::now();
        let (since, before) = *self.first_bytes.get_or_insert((now, done));
        let last = *self.last_bytes.get_or_insert_with(|| if style == Style::Lines { now } else { now - pause });
        if now.duration_since(last) < pause {
            return String::new();
        }
        self.last_bytes = Some(now);
        let amount = format!("{}{}", amount(done, total), pace(now.duration_since(since), done.saturating_sub(before), done, total));
        if style == Style::Lines {
            return format!("{}  {amount}\n", self.step);
        }
        // What changes is worth more than what does not.
        let room = WIDTH.saturating_sub(amount.chars().count() + 2);
        self.draw(&format!("{}  {amount}", shortened(&self.step, room)))
    }

    fn draw(&mut self, line: &str) -> String {
        self.drawn = true;
        let short: String = line.chars().take(WIDTH).collect();
        format!("\r\x1b[K{short}")
    }
}

fn amount(done: u64, total: Option<u64>) -> String {
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let share = (done.min(total) as f64) / (total as f64);
            let full = (share * BAR_WIDTH as f64) as usize;
            let bar = format!("[{}{}]", "#".repeat(full), ".".repeat(BAR_WIDTH - full));
            format!("{bar} {:3.0} % of {}", share * 100.0, size(total))
        }
        None => size(done),
    }
}

/// How fast it goes, and how long it takes yet, once that can be told: `, 85 MB/s, 12 s left`.
fn pace(watched: Duration, bytes: u64, done: u64, total: Option<u64>) -> String {
    if watched < WATCHED || bytes == 0 {
        return String::new();
    }
    let a_second = bytes as f64 / watched.as_secs_f64();
    let left =
        total.map(|total| total.saturating_sub(done) as f64 / a_second).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let left = left.map(|left| format!(", {} left", duration(left))).unwrap_or_default();
    format!(", {}/s{left}", size(a_second as u64))
}

/// A number and its noun: `1 table`, `2 tables`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn write(text: &str) {
    if !text.is_empty() {
        // Progress that cannot be shown is no reason to stop.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_never_exceeds_its_width() {
        assert_eq!(amount(2, Some(1)), format!("[{}] 100 % of 1 bytes", "#".repeat(BAR_WIDTH)));
        assert_eq!(amount(0, Some(0)), "0 bytes");
    }

    #[test]
    fn a_pace_is_told_once_it_is_known() {
        let told = |seconds, bytes, total| pace(Duration::from_secs(seconds), bytes, bytes + (1 << 20), total);
        assert_eq!(told(1, 10 << 20, Some(100 << 20)), "");
        assert_eq!(told(10, 0, Some(100 << 20)), "");
        assert_eq!(told(2, 19 << 20, Some(115 << 20)), ", 9.5 MB/s, 10 s left");
        assert_eq!(told(10, 10 << 20, None), ", 1.0 MB/s");
        assert_eq!(told(10, 10 << 20, Some(1)), ", 1.0 MB/s, 0 s left");
    }

    #[test]
    fn a_long_step_is_cut_rather_than_what_changes() {
        let mut state = State { step: "reading ".to_owned() + &"x".repeat(100), ..State::default() };
        let line = state.show_bytes(Style::Redrawn, 1 << 20, Some(2 << 20));
        let line = line.trim_start_matches("\r\x1b[K");
        assert!(
            line.chars().count() <= WIDTH && line.starts_with("reading xxx") && line.ends_with("…  [######......]  50 % of 2.0 MB"),
            "{line}"
        );
    }

    #[test]
    fn a_file_gets_steps_and_no_cursor_movements() {
        let mut state = State { step: "dumping a".into(), ..State::default() };
        assert_eq!(state.show_step(Style::Lines, false), "dumping a\n");
        assert_eq!(state.show_bytes(Style::Lines, 1, None), "");
        assert_eq!(state.show_bytes(Style::Silent, 1, None), "");
        assert!(state.show_bytes(Style::Redrawn, 1, None).starts_with('\r') || state.last_bytes.is_some());
    }
}
