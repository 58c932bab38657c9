//! What an agent says, and passes on: lines with their severity.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::Error;
use crate::pg::log_line::Severity;
use crate::progress::{Event, ProgressSink};

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The agent itself.
    Agent,
    /// The server, through its log.
    Server,
}

/// Takes what an agent says. Called from any thread; it must not block for long.
pub trait AgentLog: Debug + Send + Sync {
    /// Takes one line, without its end.
    fn line(&self, speaker: Speaker, severity: Severity, text: &str);
}

/// A log that forgets everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unheard;

impl AgentLog for Unheard {
    fn line(&self, _speaker: Speaker, _severity: Severity, _text: &str) {}
}

/// What operations tell of their progress, as lines of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) Arc<dyn AgentLog>);

impl Told {
    pub(crate) fn say(&self, severity: Severity, text: &str) {
        self.0.line(Speaker::Agent, severity, text);
    }
}

impl ProgressSink for Told {
    fn event(&self, event: Event) {
        match event {
            Event::Step(text) => self.say(Severity::Log, &text),
            Event::Warning(text) => self.say(Severity::Warning, &text),
            Event::Bytes { .. } => {}
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &Error) -> String {
    let causes: String = error.causes().iter().map(|cause| format!(": {cause}")).collect();
    format!("{error}{causes}")
}
