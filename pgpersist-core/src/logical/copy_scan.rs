//! What a plain dump holds, learnt while it passes: the rows of each table, and whether it is whole.
//!
//! Counting costs no scan on the server: the rows pass anyway. See `pg_dump.c` and `pg_backup_archiver.c` for the texts.

use std::collections::BTreeMap;

use crate::logical::psql_script::{Piece, PsqlScript, Rest, begins_with, identifier};
use crate::pg::quote;

/// How many odd meta-commands are remembered for a message.
const REMEMBERED: usize = 3;

/// Reads a dump as it passes, in pieces cut anywhere.
#[derive(Debug, Default)]
pub struct CopyScan {
    script: PsqlScript,
    notes: Notes,
}

/// What the dump turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scanned {
    /// The rows of each table that the dump has data of, also where there are none. Names are `schema.table`, with
    /// quotes where SQL needs them. A partition whose rows were dumped under its root counts for the root.
    pub tables: BTreeMap<String, u64>,
    /// The rows of each `COPY`, in order: what psql answers with `COPY n`.
    pub copies: Vec<u64>,
    /// pg_dump's first lines were there, so its last line must be as well.
    pub has_header: bool,
    /// pg_dump's last line was there, after everything else.
    pub has_trailer: bool,
    /// It ended in the middle of a statement or of a table's rows.
    pub is_cut_off: bool,
    /// The version of the server that it was made from, as pg_dump wrote it.
    pub server_version: Option<String>,
    /// The key of its own `\restrict`.
    pub restrict_key: Option<String>,
    /// It creates databases or connects to others, as `pg_dump -C` and `pg_dumpall` do.
    pub leaves_its_database: bool,
    /// The first meta-commands that no plain dump of one database holds.
    pub meta_commands: Vec<String>,
    /// It holds anything but comments and white space.
    pub has_content: bool,
}

#[derive(Debug, Default)]
struct Notes {
    scanned: Scanned,
    table: Option<String>,
    rows: u64,
}

impl CopyScan {
    /// At the beginning of a dump.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let notes = &mut self.notes;
        self.script.feed(bytes, &mut |piece| notes.take(piece));
    }

    /// Takes the next bytes and hands every piece on, for those who change the script.
    pub fn feed_through(&mut self, bytes: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let notes = &mut self.notes;
        self.script.feed(bytes, &mut |piece| {
            notes.take(piece);
            sink(piece);
        });
    }

    /// What is known so far.
    pub fn so_far(&self) -> &Scanned {
        &self.notes.scanned
    }

    /// The dump has ended.
    pub fn finish(self) -> Scanned {
        self.finish_through(&mut |_| ())
    }

    /// The dump has ended; what was held back is handed on.
    pub fn finish_through(self, sink: &mut impl FnMut(Piece<'_>)) -> Scanned {
        let mut notes = self.notes;
        let rest = self.script.finish(&mut |piece| {
            notes.take(piece);
            sink(piece);
        });
        notes.scanned.is_cut_off = rest != Rest::Between;
        notes.scanned
    }
}

impl Notes {
    fn take(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::CopyData(_, rows) => self.rows += rows,
            Piece::CopyEnd => {
                let rows = std::mem::take(&mut self.rows);
                self.scanned.copies.push(rows);
                if let Some(table) = self.table.take() {
                    *self.scanned.tables.entry(table).or_default() += rows;
                }
            }
            Piece::Comment(line) => self.comment(line),
            Piece::Statement(statement) => {
                self.content();
                if begins_with(statement, "COPY ") {
                    self.table = copied_table(statement);
                } else if begins_with(statement, "CREATE DATABASE") {
                    self.scanned.leaves_its_database = true;
                }
            }
            Piece::MetaCommand(line) => self.meta_command(line),
            Piece::Text(text) => {
                if !text.trim_ascii().is_empty() {
                    self.content();
                }
            }
        }
    }

    fn content(&mut self) {
        self.scanned.has_content = true;
        self.scanned.has_trailer = false;
    }

    fn comment(&mut self, line: &[u8]) {
        let text = line.trim_ascii_end();
        match text {
            b"-- PostgreSQL database dump" | b"-- PostgreSQL database cluster dump" => {
                (self.scanned.has_header, self.scanned.has_trailer) = (true, false);
            }
            b"-- PostgreSQL database dump complete" | b"-- PostgreSQL database cluster dump complete" => self.scanned.has_trailer = true,
            _ => {
                if let Some(version) = text.strip_prefix(b"-- Dumped from database version ".as_slice()) {
                    self.scanned.server_version.get_or_insert_with(|| shown(version));
                }
            }
        }
    }

    fn meta_command(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        match (words.next(), words.next().map(shown)) {
            (Some(b"\\restrict"), key @ Some(_)) if self.scanned.restrict_key.is_none() && !self.scanned.has_content => {
                self.scanned.restrict_key = key;
                return;
            }
            (Some(b"\\unrestrict"), key @ Some(_)) if key == self.scanned.restrict_key => return,
            (Some(b"\\connect" | b"\\c"), _) => self.scanned.leaves_its_database = true,
            _ => {}
        }
        self.content();
        if self.scanned.meta_commands.len() < REMEMBERED {
            self.scanned.meta_commands.push(shown(line));
        }
    }
}

/// The table of `COPY schema.table (…) FROM stdin;`, in the one way we write it.
fn copied_table(statement: &[u8]) -> Option<String> {
    let (first, rest) = identifier(statement["COPY".len()..].trim_ascii_start())?;
    Some(match rest.strip_prefix(b".") {
        Some(rest) => format!("{}.{}", written(&first), written(&identifier(rest)?.0)),
        None => written(&first),
    })
}

fn written(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // Keywords need quotes in SQL, and which words are keywords differs from one major to the next: a name in a report must not.
    if plain { name.to_owned() } else { quote::identifier(name) }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(dump: &str) -> Scanned {
        let mut scan = CopyScan::new();
        scan.feed(dump.as_bytes());
        scan.finish()
    }

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict Key1\n\n-- Dumped from database version 15.18 (Debian)\n\n\
        SET a = b;\nCOPY public.orders (id) FROM stdin;\n1\n2\n\\.\n\nCOPY public.\"Order; Lines\" (id) FROM stdin;\n\\.\n\n\
        COPY public.orders (id) FROM stdin;\n3\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict Key1\n\n";

    #[test]
    fn a_whole_dump_is_known_as_such() {
        let scanned = scan(DUMP);
        assert_eq!(scanned.tables, BTreeMap::from([("public.orders".to_owned(), 3), ("public.\"Order; Lines\"".to_owned(), 0)]));
        assert_eq!(scanned.copies, [2, 0, 1]);
        assert!(scanned.has_header && scanned.has_trailer && scanned.has_content && !scanned.is_cut_off && !scanned.leaves_its_database);
        assert_eq!(scanned.restrict_key.as_deref(), Some("Key1"));
        assert_eq!(scanned.server_version.as_deref(), Some("15.18 (Debian)"));
        assert!(scanned.meta_commands.is_empty());
    }

    #[test]
    fn a_part_of_a_dump_is_never_whole() {
        for length in 0..DUMP.find("complete").unwrap() {
            let scanned = scan(&DUMP[..length]);
            assert!(!scanned.has_trailer, "{}", &DUMP[..length]);
        }
    }

    #[test]
    fn dumps_of_several_databases_are_seen() {
        assert!(scan("CREATE DATABASE x;\n\\connect x\n").leaves_its_database);
        assert!(scan("\\connect -reuse-previous=on \"dbname='x'\"\n").leaves_its_database);
        assert!(!scan("COPY t FROM stdin;\n\\connect x\n\\.\n").leaves_its_database);
        assert_eq!(scan("SELECT 1;\n\\! touch /tmp/x\n").meta_commands, ["\\! touch /tmp/x"]);
    }

    #[test]
    fn two_dumps_in_one_file_need_both_ends() {
        let cut = format!("{DUMP}{}", &DUMP[..DUMP.len() / 2]);
        assert!(!scan(&cut).has_trailer);
    }
}
