//! The one writer to stdout: a text for people or one JSON document.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use serde_json::Value;

use crate::args::Format;
use crate::progress::Progress;
use pgpersist_core::error::{Error, Result};

/// Writes a command's result.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    progress: Arc<Progress>,
}

impl Output {
    pub(crate) fn new(format: Format, progress: Arc<Progress>) -> Self {
        Self { format, progress }
    }

    /// The format that was asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Refuses a format that the command does not know.
    pub(crate) fn check_format(asked: Option<Format>, known: &[Format]) -> Result<()> {
        match asked {
            Some(format) if !known.contains(&format) => {
                Err(Error::invalid("this command does not know that format", "use `--format text` or `--format json`"))
            }
            _ => Ok(()),
        }
    }

    /// Writes the document or the text. The document gains `warnings` when there were some. Control characters in the text
    /// are escaped; a name that may hold a line break goes through [`printable`] first.
    pub(crate) fn write(&self, document: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<()> {
        match self.format {
            Format::Json => self.document(document()),
            _ => put(safe_lines(&text(), "").as_bytes()),
        }
    }

    /// Writes a text byte by byte, for what is not ours to change: a script, a file.
    pub(crate) fn verbatim(&self, document: impl FnOnce() -> Value, text: &str) -> Result<()> {
        match self.format {
            Format::Json => self.document(document()),
            _ => put(text.as_bytes()),
        }
    }

    fn document(&self, mut document: Value) -> Result<()> {
        let warnings = self.progress.warnings();
        if let (Value::Object(fields), false) = (&mut document, warnings.is_empty()) {
            fields.insert("warnings".to_owned(), warnings.into());
        }
        put(format!("{document:#}\n").as_bytes())
    }
}

/// Writes a line for whoever reads no stderr.
pub(crate) fn line(line: &str) -> Result<()> {
    put(line.as_bytes())
}

/// The standard output as it is, for a stream that is the command's whole result.
pub(crate) fn stream() -> Result<File> {
    let failed = |error| Error::file("open", "the standard output", error);
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?))
}

fn put(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // Whoever read us has seen enough: `pgpersist list | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|e| Error::file("write to", "the standard output", e)),
    }
}

/// A name on one line: line breaks and all that moves a terminal's cursor are escaped.
pub(crate) fn printable(name: &str) -> Cow<'_, str> {
    escape(name, is_harmful)
}

/// A text of several lines: as [`printable`], but line breaks stay, and each further line begins with `indent`.
pub(crate) fn safe_lines(text: &str, indent: &str) -> String {
    let safe = escape(text, |c| is_harmful(c) && c != '\n');
    if indent.is_empty() { safe.into_owned() } else { safe.trim_end().replace('\n', &format!("\n{indent}")) }
}

fn is_harmful(character: char) -> bool {
    // Beside control characters: marks that reorder text, which make a name look like another.
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if harmful(character) { escaped.extend(character.escape_default()) } else { escaped.push(character) }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_forge_a_line() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(printable("₹ customerInvoice"), "₹ customerInvoice");
        assert_eq!(safe_lines("a\nerror: b\r", "  "), "a\n  error: b\\r");
    }
}
