//! Cuts a psql script into its pieces as it passes: statements, comments, meta-commands and the rows of `COPY … FROM stdin`.
//!
//! A function's body or a literal may hold lines that look like `COPY t FROM stdin;` or `\.`, and a table's name may hold a
//! line break, so lines are no guide: this follows the quoting of psql's own lexer (`psqlscan.l`), with
//! `standard_conforming_strings` on, as in every dump. All pieces together are the input, byte for byte.

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memchr2};

/// A statement up to this size comes in one piece; the longest `COPY` of 1,600 columns has 230 kB.
pub const LONGEST_STATEMENT: usize = 256 * 1024;

/// A part of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// White space between statements, or a part of a statement that is longer than [`LONGEST_STATEMENT`].
    Text(&'a [u8]),
    /// A `--` comment outside of statements, with its line break.
    Comment(&'a [u8]),
    /// A statement, from its first letter (or a block comment before it) to its semicolon.
    Statement(&'a [u8]),
    /// A line from a backslash on, with its line break: what psql does itself, such as `\connect`.
    MetaCommand(&'a [u8]),
    /// Rows of the `COPY` before, in pieces cut anywhere, with the number of rows that end in this piece.
    CopyData(&'a [u8], u64),
    /// The rows ended; the line `\.` was the end of the last [`Piece::CopyData`].
    CopyEnd,
}

/// Where a script stood when its last byte had passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Between statements.
    Between,
    /// In a statement without its semicolon.
    InStatement,
    /// In the rows of a `COPY`.
    InCopy,
}

/// Follows one script. Memory: one statement.
#[derive(Debug)]
pub struct PsqlScript {
    inside: Inside,
    held: Vec<u8>,
    /// The statement was too long to hold: its beginning is already passed on.
    overflown: bool,
    previous: u8,
    before_previous: u8,
    end_of_rows: Finder<'static>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Inside {
    Between,
    Statement,
    Dash,
    Slash,
    /// The `bool` tells whether it stands within a statement.
    LineComment(bool),
    BlockComment {
        depth: u32,
        last: u8,
    },
    Identifier,
    Quote {
        escapes: bool,
    },
    QuoteEscape,
    /// After a quote in a literal that knows escapes: a second one is a quote, anything else ends the literal.
    QuoteEnd,
    DollarTag(Vec<u8>),
    Dollar {
        tag: Vec<u8>,
        matched: usize,
    },
    MetaCommand,
    /// The statement was a `COPY`; the rows begin with the next line.
    BeforeRows,
    /// How much of a line that could be `\.` was seen.
    Rows(LineStart),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineStart {
    Passed,
    Nothing,
    Backslash,
    BackslashDot,
}

impl Default for PsqlScript {
    fn default() -> Self {
        Self::new()
    }
}

impl PsqlScript {
    /// At the beginning of a script.
    pub fn new() -> Self {
        Self {
            inside: Inside::Between,
            held: Vec::new(),
            overflown: false,
            previous: b'\n',
            before_previous: b'\n',
            end_of_rows: Finder::new(b"\n\\.\n"),
        }
    }

    /// Takes the next bytes, cut anywhere, and hands on every piece that is complete.
    pub fn feed(&mut self, mut input: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        while !input.is_empty() {
            let used = match self.inside {
                Inside::Rows(start) => self.rows(start, input, sink),
                _ => self.lex(input, sink),
            };
            input = &input[used..];
        }
        if self.inside == Inside::Between {
            self.flush_text(sink);
        }
    }

    /// Hands on what is left and tells where the script ended.
    pub fn finish(mut self, sink: &mut impl FnMut(Piece<'_>)) -> Rest {
        let rest = match self.inside {
            Inside::Between => Rest::Between,
            Inside::Rows(_) | Inside::BeforeRows => Rest::InCopy,
            Inside::LineComment(false) => {
                sink(Piece::Comment(&self.held));
                return Rest::Between;
            }
            Inside::MetaCommand => {
                sink(Piece::MetaCommand(&self.held));
                return Rest::Between;
            }
            _ => Rest::InStatement,
        };
        self.flush_text(sink);
        rest
    }

    fn lex(&mut self, input: &[u8], sink: &mut impl FnMut(Piece<'_>)) -> usize {
        let mut at = 0;
        while at < input.len() && !matches!(self.inside, Inside::Rows(_)) {
            let rest = &input[at..];
            // Most of a long literal, body or comment is passed over at once.
            let boring = match self.inside {
                Inside::Quote { .. } => memchr2(b'\'', b'\\', rest),
                Inside::Identifier => memchr(b'"', rest),
                Inside::Dollar { matched: 0, .. } => memchr(b'$', rest),
                Inside::LineComment(_) | Inside::MetaCommand => memchr(b'\n', rest),
                _ => Some(0),
            }
            .unwrap_or(rest.len());
            if boring > 0 {
                self.hold(&rest[..boring], sink);
                self.before_previous = if boring > 1 { rest[boring - 2] } else { self.previous };
                self.previous = rest[boring - 1];
                at += boring;
            } else {
                self.step(rest[0], sink);
                self.before_previous = self.previous;
                self.previous = rest[0];
                at += 1;
            }
        }
        at
    }

    fn step(&mut self, byte: u8, sink: &mut impl FnMut(Piece<'_>)) {
        match &mut self.inside {
            Inside::Between => {
                if byte.is_ascii_whitespace() || byte == b';' {
                    self.hold(&[byte], sink);
                } else {
                    self.flush_text(sink);
                    self.overflown = false;
                    self.plain(byte, sink);
                }
            }
            Inside::Statement => self.plain(byte, sink),
            Inside::Dash if byte == b'-' => {
                let within = self.overflown || self.held.as_slice() != b"-";
                self.inside = Inside::LineComment(within);
                self.hold(b"-", sink);
            }
            Inside::Slash if byte == b'*' => {
                self.inside = Inside::BlockComment { depth: 1, last: 0 };
                self.hold(b"*", sink);
            }
            Inside::Dash | Inside::Slash => self.plain(byte, sink),
            Inside::LineComment(within) => {
                // Only its line break arrives here.
                let within = *within;
                self.hold(&[byte], sink);
                if within {
                    self.inside = Inside::Statement;
                } else {
                    self.hand_on(sink, |held| Piece::Comment(held));
                }
            }
            Inside::BlockComment { depth, last } => {
                match (*last, byte) {
                    (b'/', b'*') => (*depth, *last) = (*depth + 1, 0),
                    (b'*', b'/') => (*depth, *last) = (*depth - 1, 0),
                    _ => *last = byte,
                }
                if *depth == 0 {
                    self.inside = Inside::Statement;
                }
                self.hold(&[byte], sink);
            }
            Inside::Identifier => {
                self.inside = Inside::Statement;
                self.hold(&[byte], sink);
            }
            Inside::Quote { escapes } => {
                match (byte, *escapes) {
                    (b'\'', true) => self.inside = Inside::QuoteEnd,
                    (b'\'', false) => self.inside = Inside::Statement,
                    (_, true) => self.inside = Inside::QuoteEscape,
                    (_, false) => {}
                }
                self.hold(&[byte], sink);
            }
            Inside::QuoteEscape => {
                self.inside = Inside::Quote { escapes: true };
                self.hold(&[byte], sink);
            }
            Inside::QuoteEnd if byte == b'\'' => {
                self.inside = Inside::Quote { escapes: true };
                self.hold(&[byte], sink);
            }
            Inside::QuoteEnd => self.plain(byte, sink),
            Inside::DollarTag(tag) => {
                if byte == b'$' {
                    tag.push(byte);
                    self.inside = Inside::Dollar { tag: std::mem::take(tag), matched: 0 };
                    self.hold(&[byte], sink);
                } else if is_word(byte) && !(tag.len() == 1 && byte.is_ascii_digit()) && tag.len() < 256 {
                    tag.push(byte);
                    self.hold(&[byte], sink);
                } else {
                    self.plain(byte, sink);
                }
            }
            Inside::Dollar { tag, matched } => {
                // Within a tag `$` stands only at its ends, so after a mismatch only a `$` can begin a new one.
                *matched = if byte == tag[*matched] { *matched + 1 } else { usize::from(byte == b'$') };
                if *matched == tag.len() {
                    self.inside = Inside::Statement;
                }
                self.hold(&[byte], sink);
            }
            Inside::MetaCommand => {
                self.hold(&[byte], sink);
                self.hand_on(sink, |held| Piece::MetaCommand(held));
            }
            Inside::BeforeRows => {
                self.hold(&[byte], sink);
                if byte == b'\n' {
                    self.flush_text(sink);
                    self.inside = Inside::Rows(LineStart::Nothing);
                }
            }
            // `lex` leaves the bytes of rows to `rows`.
            Inside::Rows(_) => {}
        }
    }

    /// A byte of a statement that is in no quotes and no comment.
    fn plain(&mut self, byte: u8, sink: &mut impl FnMut(Piece<'_>)) {
        self.inside = match byte {
            b'\'' => Inside::Quote { escapes: matches!(self.previous, b'e' | b'E') && !is_word(self.before_previous) },
            b'"' => Inside::Identifier,
            b'$' if !is_word(self.previous) => Inside::DollarTag(vec![b'$']),
            b'-' => Inside::Dash,
            b'/' => Inside::Slash,
            b'\\' => {
                self.flush_text(sink);
                Inside::MetaCommand
            }
            _ => Inside::Statement,
        };
        self.hold(&[byte], sink);
        if byte == b';' {
            let copies = !self.overflown && is_copy_from_stdin(&self.held);
            if self.overflown {
                self.flush_text(sink);
                self.inside = Inside::Between;
            } else {
                self.hand_on(sink, |held| Piece::Statement(held));
            }
            if copies {
                self.inside = Inside::BeforeRows;
            }
        }
    }

    /// Rows end with a line that is `\.` and nothing else; in data a backslash is always doubled.
    fn rows(&mut self, start: LineStart, input: &[u8], sink: &mut impl FnMut(Piece<'_>)) -> usize {
        let (mut start, mut at, mut rows) = (start, 0, 0);
        while start != LineStart::Passed && at < input.len() {
            start = match (start, input[at]) {
                (LineStart::BackslashDot, b'\n') => return self.rows_end(&input[..=at], rows, sink),
                (_, b'\n') => {
                    rows += 1;
                    LineStart::Nothing
                }
                (LineStart::Nothing, b'\\') => LineStart::Backslash,
                (LineStart::Backslash, b'.') => LineStart::BackslashDot,
                _ => LineStart::Passed,
            };
            at += 1;
        }
        let rest = &input[at..];
        if let Some(end) = self.end_of_rows.find(rest) {
            rows += memchr_iter(b'\n', &rest[..=end]).count() as u64;
            return self.rows_end(&input[..at + end + 4], rows, sink);
        }
        rows += memchr_iter(b'\n', rest).count() as u64;
        if start == LineStart::Passed {
            start = match rest {
                [.., b'\n'] => LineStart::Nothing,
                [.., b'\n', b'\\'] => LineStart::Backslash,
                [.., b'\n', b'\\', b'.'] => LineStart::BackslashDot,
                _ => LineStart::Passed,
            };
        }
        self.inside = Inside::Rows(start);
        sink(Piece::CopyData(input, rows));
        input.len()
    }

    fn rows_end(&mut self, data: &[u8], rows: u64, sink: &mut impl FnMut(Piece<'_>)) -> usize {
        sink(Piece::CopyData(data, rows));
        sink(Piece::CopyEnd);
        self.inside = Inside::Between;
        (self.before_previous, self.previous) = (b'.', b'\n');
        data.len()
    }

    fn hold(&mut self, bytes: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        if self.held.len() + bytes.len() > LONGEST_STATEMENT {
            self.flush_text(sink);
            self.overflown = true;
            if bytes.len() > LONGEST_STATEMENT {
                sink(Piece::Text(bytes));
                return;
            }
        }
        self.held.extend_from_slice(bytes);
    }

    fn hand_on(&mut self, sink: &mut impl FnMut(Piece<'_>), piece: fn(&[u8]) -> Piece<'_>) {
        sink(piece(&self.held));
        self.held.clear();
        self.overflown = false;
        self.inside = Inside::Between;
    }

    fn flush_text(&mut self, sink: &mut impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            sink(Piece::Text(&self.held));
            self.held.clear();
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn is_copy_from_stdin(statement: &[u8]) -> bool {
    // pg_dump writes it at the very end; others may add options.
    begins_with(statement, "COPY ")
        && statement.windows(12).rev().any(|window| window[..11].eq_ignore_ascii_case(b" FROM stdin") && !is_word(window[11]))
}

/// Whether a statement begins with these words, in any case; each blank in `words` stands for any white space.
pub fn begins_with(statement: &[u8], words: &str) -> bool {
    let mut rest = statement;
    for (index, word) in words.split(' ').enumerate() {
        if index > 0 {
            let trimmed = rest.trim_ascii_start();
            if trimmed.len() == rest.len() {
                return false;
            }
            rest = trimmed;
        }
        if rest.len() < word.len() || !rest[..word.len()].eq_ignore_ascii_case(word.as_bytes()) {
            return false;
        }
        rest = &rest[word.len()..];
    }
    // Either a blank was asked for at the end, or the last word must end here.
    words.ends_with(' ') || rest.first().is_none_or(|next| !is_word(*next))
}

/// Reads an identifier at the beginning of `text`, quoted or plain; returns it unquoted, and what follows it.
pub fn identifier(text: &[u8]) -> Option<(String, &[u8])> {
    if text.first() != Some(&b'"') {
        let length = text.iter().take_while(|byte| is_word(**byte)).count();
        return (length > 0).then(|| (String::from_utf8_lossy(&text[..length]).into_owned(), &text[length..]));
    }
    let mut name = Vec::new();
    let mut rest = &text[1..];
    loop {
        let quote = memchr(b'"', rest)?;
        name.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        if rest.first() != Some(&b'"') {
            return Some((String::from_utf8_lossy(&name).into_owned(), rest));
        }
        name.push(b'"');
        rest = &rest[1..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCRIPT: &str = concat!(
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET x = 'it''s; \\';\n",
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_$\nCOPY t FROM stdin;\n1\n\\.\n$$ $_ $1 $_$;\n",
        "COMMENT ON TABLE t IS E'a\\'; COPY t FROM stdin;\n'';';\n",
        "SELECT /* a ; /* nested */ ; */ 1 - -2 -- tail; \\x\n;\n",
        "COPY \"odd\"\"\nname;\".t (a, \"b;\") FROM stdin;\n1\t\\\\.\n\\\\.\n\\N\n\\.x\n\n\\.\n\n",
        "COPY empty (a) FROM stdin;\n\\.\n",
        "SELECT 1;SELECT 2;\n\\connect x\n",
    );

    #[derive(Debug, PartialEq, Default)]
    struct Seen {
        bytes: Vec<u8>,
        whole: Vec<String>,
        rows: Vec<u64>,
    }

    fn cut(script: &[u8], cuts: &[usize]) -> (Seen, Rest) {
        let mut seen = Seen::default();
        let mut rows = 0;
        let mut sink = |piece: Piece<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            match piece {
                Piece::Text(bytes) => seen.bytes.extend_from_slice(bytes),
                Piece::CopyData(bytes, more) => {
                    seen.bytes.extend_from_slice(bytes);
                    rows += more;
                }
                Piece::Comment(bytes) | Piece::Statement(bytes) | Piece::MetaCommand(bytes) => {
                    seen.bytes.extend_from_slice(bytes);
                    seen.whole.push(text(bytes));
                }
                Piece::CopyEnd => seen.rows.push(std::mem::take(&mut rows)),
            }
        };
        let mut cutter = PsqlScript::new();
        let mut from = 0;
        for &to in cuts.iter().chain([&script.len()]) {
            cutter.feed(&script[from..to], &mut sink);
            from = to;
        }
        let rest = cutter.finish(&mut sink);
        (seen, rest)
    }

    #[test]
    fn quoting_hides_what_looks_like_a_copy() {
        let (seen, rest) = cut(SCRIPT.as_bytes(), &[]);
        assert_eq!(seen.bytes, SCRIPT.as_bytes());
        assert_eq!(seen.rows, [5, 0]);
        assert_eq!(rest, Rest::Between);
        assert_eq!(seen.whole.len(), 13, "{:#?}", seen.whole);
        assert_eq!(seen.whole[3], "\\restrict abc\n");
        assert!(seen.whole[5].ends_with("$$ $_ $1 $_$;"));
        assert_eq!(seen.whole[12], "\\connect x\n");
    }

    #[test]
    fn an_unfinished_script_tells_where_it_stood() {
        for (script, rest) in [
            ("", Rest::Between),
            ("-- x", Rest::Between),
            ("SELECT 1", Rest::InStatement),
            ("SELECT '1;", Rest::InStatement),
            ("COPY t FROM stdin;", Rest::InCopy),
            ("COPY t FROM stdin;\n1\n", Rest::InCopy),
            ("COPY t FROM stdin;\n1\n\\.", Rest::InCopy),
        ] {
            assert_eq!(cut(script.as_bytes(), &[]).1, rest, "{script}");
        }
    }

    #[test]
    fn a_statement_too_long_to_hold_passes_in_parts() {
        let script = format!("SELECT '{}';\nSELECT 2;", "x;".repeat(LONGEST_STATEMENT));
        let (seen, rest) = cut(script.as_bytes(), &[17, 100_000]);
        assert!(seen.bytes == script.as_bytes());
        assert_eq!(seen.whole, ["SELECT 2;"]);
        assert_eq!(rest, Rest::Between);
    }

    #[test]
    fn identifiers_are_read_as_the_server_reads_them() {
        assert_eq!(identifier(b"orders (a)"), Some(("orders".into(), &b" (a)"[..])));
        assert_eq!(identifier(b"\"a\"\"b\".t"), Some(("a\"b".into(), &b".t"[..])));
        assert_eq!(identifier(b"\"open"), None);
        assert!(begins_with(b"copy\n t", "COPY ") && !begins_with(b"COPYING", "COPY"));
        assert!(begins_with(b"CREATE  DATABASE x", "CREATE DATABASE"));
    }

    proptest! {
        #[test]
        fn borders_of_reads_change_nothing(mut cuts in proptest::collection::vec(0..SCRIPT.len(), 0..40)) {
            cuts.sort_unstable();
            prop_assert_eq!(cut(SCRIPT.as_bytes(), &cuts), cut(SCRIPT.as_bytes(), &[]));
        }

        #[test]
        fn any_text_comes_out_whole(script in "(COPY t FROM stdin;\n|\\\\\\.\n|[-/*'\"$Ee;a\n\\\\ ]){0,60}", mut cuts in proptest::collection::vec(0..60_usize, 0..8)) {
            let script = script.as_bytes();
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(script.len()));
            cuts.sort_unstable();
            let (once, rest) = cut(script, &[]);
            prop_assert_eq!(&once.bytes[..], script);
            let (again, rest_again) = cut(script, &cuts);
            prop_assert_eq!((once, rest), (again, rest_again));
        }
    }
}
