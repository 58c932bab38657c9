//! A stored dump → SHA-256 → decrypted where it is encrypted → gunzip → the script that psql gets. Blocking.
//!
//! psql runs under a `\restrict` of ours, so that it refuses every meta-command by itself. The dump's own pair of
//! `\restrict` and `\unrestrict` would be refused as well and is left out.
//!
//! Whether the bytes are those that were written shows only at their end: by gzip's checksum, and by the hash in the side
//! file. So when a text is refused, the rest is read before anybody is told why: what looks like a command of psql may be
//! the garbage that a damaged disk made of a row.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};

use sha2::{Digest, Sha256};

use crate::encryption::fault::Fault;
use crate::error::{Error, Result};
use crate::logical::copy_scan::{CopyScan, Scanned};
use crate::logical::gzip;
use crate::logical::load_options::Expected;
use crate::logical::name::ENCRYPTED_SUFFIX;
use crate::logical::opening::{self, Opening};
use crate::logical::ownership::{self, Ownership, Reach};
use crate::logical::psql_script::Piece;
use crate::logical::sealed;
use crate::logical::store_output::hexadecimal;

const READ_BYTES: usize = 256 * 1024;

/// How much text about ownership is kept in memory: 15,000 tables have 2 MB.
const MOST_OWNERSHIP: usize = 32 * 1024 * 1024;

/// What to do with the statements that say to whom things belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// psql runs them where they stand: it is a superuser, or as much as there is.
    InPlace,
    /// They are kept for a superuser to run at the end.
    Later,
    /// Everything belongs to whoever loads.
    Never,
}

/// What is done with a dump's statements.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) owners: Owners,
    /// The roles of the server.
    pub(super) roles: BTreeSet<String>,
    /// Roles that get nothing of this dump; where it is trusted, there are none.
    pub(super) withheld_from: Option<BTreeSet<String>>,
    /// What the side file says of the bytes.
    pub(super) expected: Option<Expected>,
}

impl Rules {
    fn reach(&self) -> Reach {
        // Otherwise the loading role itself runs such statements, or nobody does.
        if self.owners == Owners::Later && self.withheld_from.is_some() { Reach::OwnSchemas } else { Reach::Catalog }
    }

    fn withholds_from(&self, role: &str) -> bool {
        self.withheld_from.as_ref().is_some_and(|roles| roles.contains(role))
    }
}

/// What passed.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) scanned: Scanned,
    /// The statements kept for the end.
    pub(super) ownership: Vec<u8>,
    /// The roles that did not get what the dump gives them.
    pub(super) withheld: BTreeSet<String>,
}

impl Passed {
    /// Of a script that is no dump.
    pub(super) fn nothing() -> Self {
        Self { scanned: Scanned::default(), ownership: Vec::new(), withheld: BTreeSet::new() }
    }
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Fed {
    /// All of it is with psql.
    Whole(Passed),
    /// psql stopped reading: it knows why.
    Refused,
}

/// Writes the dump's script to psql. A role that the server lacks ends the work, and not only after hours.
///
/// # Errors
/// `Invalid` when the input is no dump of one database, `Damaged` when it is cut off or does not decompress, `NotFound` for
/// roles that the server lacks, `Denied` when nothing opens it.
pub(super) fn feed(name: &str, source: impl Read, opening: &Opening, rules: &Rules, mut psql: impl Write) -> Result<Fed> {
    let mut raw = BufReader::with_capacity(READ_BYTES, Hashed { source, hash: Sha256::new(), size_bytes: 0 });
    let start = raw.fill_buf().map_err(|e| Error::file("read", name, e))?;
    let is_encrypted = sealed::is_encrypted(name, start);
    let mut feeder = Feeder { name, scan: CopyScan::new(), taken: Taken::by(rules) };
    feeder.taken.out.extend_from_slice(format!("\\restrict {}\n", restrict_key()).as_bytes());
    let outcome = if is_encrypted {
        match sealed::open(name, &mut raw, opening) {
            Ok(mut content) => {
                let outcome = feeder.read(&mut content, &mut psql)?;
                sealed::finish(name, content)?;
                outcome
            }
            // Damage looks like a key that does not fit: the bytes tell which it is.
            Err(error) => Outcome::NoDump(error),
        }
    } else {
        feeder.read(&mut raw, &mut psql)?
    };
    // What gzip leaves unread still belongs to the object whose hash is compared.
    io::copy(&mut raw, &mut io::sink()).map_err(|e| Error::file("read", name, e))?;
    let hashed = raw.into_inner();
    let (sha256, size_bytes) = (hexadecimal(&hashed.hash.finalize()), hashed.size_bytes);
    compare_bytes(name, &sha256, size_bytes, rules.expected.as_ref())?;
    let Taken { ownership, withheld, .. } = feeder.taken;
    match outcome {
        Outcome::Whole(scanned) => Ok(Fed::Whole(Passed { scanned, ownership, withheld })),
        Outcome::Refused => Ok(Fed::Refused),
        Outcome::NoDump(error) => Err(error),
    }
}

fn compare_bytes(name: &str, sha256: &str, size_bytes: u64, expected: Option<&Expected>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    let damaged = |what| Err(Error::damaged(what, "choose another dump: see `pgpersist list`"));
    if size_bytes != expected.size_bytes {
        return damaged(format!("{name} has {size_bytes} bytes, and its side file says {}", expected.size_bytes));
    }
    if sha256 != expected.sha256 {
        return damaged(format!("{name} has SHA-256 {sha256}, and its side file says {}", expected.sha256));
    }
    Ok(())
}

/// A key that no dump can contain: psql takes it back with `\unrestrict`.
pub(super) fn restrict_key() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn no_dump(name: &str, start: &[u8]) -> Option<Error> {
    if start.is_empty() {
        return Some(Error::invalid(format!("{name} is empty"), "choose another dump: see `pgpersist list`"));
    }
    if start.starts_with(&[0x1f, 0x8b]) {
        return None;
    }
    if start.starts_with(b"PGDMP") {
        let remedy = "load it with `pg_restore --clean --if-exists`, or make a plain dump with `pgpersist dump`";
        return Some(Error::invalid(format!("{name} is a dump in pg_dump's custom format"), remedy));
    }
    let claims_gzip = name.strip_suffix(ENCRYPTED_SUFFIX).unwrap_or(name).ends_with(".gz");
    if claims_gzip || start.contains(&0) {
        let what = if claims_gzip { "is not gzip, though its name says so" } else { "is neither gzip nor SQL text" };
        return Some(Error::invalid(format!("{name} {what}"), "choose another dump: see `pgpersist list`"));
    }
    None
}

struct Hashed<R> {
    source: R,
    hash: Sha256,
    size_bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
}

/// What came of a text whose bytes were read to their end.
enum Outcome {
    Whole(Scanned),
    /// psql stopped reading.
    Refused,
    /// The text is not what can be loaded; damaged bytes are told by other errors.
    NoDump(Error),
}

struct Feeder<'a> {
    name: &'a str,
    scan: CopyScan,
    taken: Taken<'a>,
}

impl Feeder<'_> {
    fn read(&mut self, source: &mut impl BufRead, psql: &mut impl Write) -> Result<Outcome> {
        let start = source.fill_buf().map_err(|error| self.unreadable(error))?;
        let is_gzip = start.starts_with(&[0x1f, 0x8b]);
        match no_dump(self.name, start) {
            Some(error) => Err(error),
            None if is_gzip => self.pump_all(&mut gzip::decoder(source), psql),
            None => self.pump_all(source, psql),
        }
    }

    /// Hands the text to psql, and reads the rest of it where that ends early.
    fn pump_all(&mut self, source: &mut impl Read, psql: &mut impl Write) -> Result<Outcome> {
        let mut piece = vec![0; READ_BYTES];
        let outcome = self.pump(source, &mut piece, psql)?;
        if !matches!(outcome, Outcome::Whole(_)) {
            while self.fill(source, &mut piece)? > 0 {}
        }
        Ok(outcome)
    }

    fn fill(&self, source: &mut impl Read, piece: &mut [u8]) -> Result<usize> {
        loop {
            match source.read(piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|error| self.unreadable(error)),
            }
        }
    }

    fn pump(&mut self, source: &mut impl Read, piece: &mut [u8], psql: &mut impl Write) -> Result<Outcome> {
        loop {
            let count = self.fill(source, piece)?;
            if count == 0 {
                break;
            }
            let taken = &mut self.taken;
            self.scan.feed_through(&piece[..count], &mut |piece| taken.take(piece));
            if let Err(error) = self.judge() {
                return Ok(Outcome::NoDump(error));
            }
            if !write(psql, &mut self.taken.out, self.name)? {
                return Ok(Outcome::Refused);
            }
        }
        let taken = &mut self.taken;
        let scanned = std::mem::take(&mut self.scan).finish_through(&mut |piece| taken.take(piece));
        if let Err(error) = self.judge_whole(&scanned) {
            return Ok(Outcome::NoDump(error));
        }
        Ok(if write(psql, &mut self.taken.out, self.name)? { Outcome::Whole(scanned) } else { Outcome::Refused })
    }

    /// What need not wait for the end.
    fn judge(&self) -> Result<()> {
        let (name, scanned) = (self.name, self.scan.so_far());
        self.judge_scanned(scanned)?;
        if self.taken.ownership.len() > MOST_OWNERSHIP {
            return Err(Error::invalid(
                format!("{name} has more than {} MiB of statements about ownership", MOST_OWNERSHIP / 1024 / 1024),
                "if you trust this dump, load it with `--trust`",
            ));
        }
        if !self.taken.missing.is_empty() {
            let missing = self.taken.missing.iter().map(|role| format!("`{role}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::not_found(
                format!("{name} gives things to roles that this server does not have: {missing}"),
                "load the roles first (`gunzip -c globals_….sql.gz | psql`), create them, or load with `--no-owner`",
            ));
        }
        Ok(())
    }

    fn judge_scanned(&self, scanned: &Scanned) -> Result<()> {
        let name = self.name;
        if scanned.leaves_its_database {
            return Err(Error::invalid(
                format!("{name} creates databases or connects to others, as the output of `pg_dump -C` and `pg_dumpall` does"),
                "load it by hand (`gunzip -c FILE | psql -X -v ON_ERROR_STOP=1 postgres`), or dump each database by itself",
            ));
        }
        if let Some(command) = scanned.meta_commands.first() {
            return Err(Error::invalid(
                format!("{name} holds the psql command `{command}`, which a dump never has"),
                "somebody changed this file: do not load it; choose another dump",
            ));
        }
        Ok(())
    }

    fn judge_whole(&self, scanned: &Scanned) -> Result<()> {
        self.judge_scanned(scanned)?;
        self.judge()?;
        let name = self.name;
        if !scanned.has_content && !scanned.has_header {
            return Err(Error::invalid(format!("{name} holds no SQL"), "choose another dump: see `pgpersist list`"));
        }
        // Only pg_dump's first lines or rows say that this was a dump once: the text of a picture or a letter ends in the
        // middle of a statement, too.
        if scanned.is_cut_off && !scanned.has_header && !self.taken.is_in_rows {
            return Err(Error::invalid(
                format!("{name} is no dump: it does not begin like one of pg_dump, and is no SQL that ends where a statement does"),
                "choose another dump: see `pgpersist list`",
            ));
        }
        if scanned.is_cut_off || (scanned.has_header && !scanned.has_trailer) {
            return Err(Error::damaged(
                format!("{name} is cut off: its last lines are missing"),
                "choose another dump: see `pgpersist list`",
            ));
        }
        Ok(())
    }

    fn unreadable(&self, error: io::Error) -> Error {
        if let Some(fault) = Fault::of(&error) {
            return opening::explain(self.name, fault);
        }
        match error.kind() {
            // flate2 tells these two and `InvalidData` for what gunzip calls "unexpected end of file" and "crc error".
            io::ErrorKind::UnexpectedEof => Error::damaged(
                format!("{} is cut off in the middle of its compressed data", self.name),
                "choose another dump: see `pgpersist list`",
            ),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Error::damaged(format!("{} does not decompress: {error}", self.name), "choose another dump: see `pgpersist list`")
            }
            _ => Error::file("read", self.name, error),
        }
    }
}

/// Where a piece goes: to psql, to the end, or nowhere.
struct Taken<'a> {
    rules: &'a Rules,
    out: Vec<u8>,
    ownership: Vec<u8>,
    missing: BTreeSet<String>,
    withheld: BTreeSet<String>,
    is_in_rows: bool,
}

impl<'a> Taken<'a> {
    fn by(rules: &'a Rules) -> Self {
        Self { rules, out: Vec::new(), ownership: Vec::new(), missing: BTreeSet::new(), withheld: BTreeSet::new(), is_in_rows: false }
    }

    fn take(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Text(bytes) | Piece::Comment(bytes) => self.out.extend_from_slice(bytes),
            Piece::CopyData(bytes, _) => {
                self.is_in_rows = true;
                self.out.extend_from_slice(bytes);
            }
            Piece::CopyEnd => self.is_in_rows = false,
            // The pair around the dump, which the scan knows; any other ends the load before it gets here.
            Piece::MetaCommand(line) => self.skip(line),
            Piece::Statement(statement) => self.statement(statement),
        }
    }

    fn statement(&mut self, statement: &[u8]) {
        let rules = self.rules;
        let ownership = ownership::of(statement, rules.reach());
        match (rules.owners, ownership) {
            (_, Ownership::None) => self.out.extend_from_slice(statement),
            (Owners::Never, _) => self.skip(statement),
            (_, Ownership::Owner(role)) if !rules.roles.contains(&role) => {
                self.missing.insert(role);
            }
            (Owners::InPlace, _) => self.out.extend_from_slice(statement),
            (Owners::Later, Ownership::Owner(role)) if rules.withholds_from(&role) => {
                self.withheld.insert(role);
                self.skip(statement);
            }
            (Owners::Later, _) => {
                self.ownership.extend_from_slice(statement);
                self.ownership.push(b'\n');
                self.skip(statement);
            }
        }
    }

    /// Leaves as many line breaks as there were, so that psql's line numbers are those of the dump, plus one.
    fn skip(&mut self, bytes: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', bytes).count();
        self.out.resize(self.out.len() + lines, b'\n');
    }
}

/// `false` when psql has ended.
fn write(psql: &mut impl Write, out: &mut Vec<u8>, name: &str) -> Result<bool> {
    match psql.write_all(out) {
        Ok(()) => {
            out.clear();
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::file("hand psql", name, error)),
    }
}

/// Reads what psql prints and returns the numbers of its answers `COPY n`, in order.
///
/// # Errors
/// What reading the pipe returns.
pub(super) fn copy_tags(mut psql: impl Read) -> io::Result<Vec<u64>> {
    // Other lines can be of any length: results of queries. Only the beginning of each is kept.
    const KEPT: usize = 32;
    let (mut tags, mut line, mut piece) = (Vec::new(), Vec::with_capacity(KEPT), vec![0; 8192]);
    loop {
        let count = match psql.read(&mut piece) {
            Ok(0) => return Ok(tags),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for &byte in &piece[..count] {
            if byte != b'\n' {
                if line.len() < KEPT {
                    line.push(byte);
                }
                continue;
            }
            if let Some(rows) = line.strip_prefix(b"COPY ").and_then(|rows| std::str::from_utf8(rows).ok()?.parse().ok()) {
                tags.push(rows);
            }
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict k\n\nCREATE TABLE public.t (a text);\nALTER TABLE public.t OWNER TO app;\n\
        COPY public.t (a) FROM stdin;\n\\\\.\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict k\n\n";

    fn zipped(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn rules(owners: Owners) -> Rules {
        Rules {
            owners,
            roles: ["app", "boss"].map(str::to_owned).into(),
            withheld_from: Some(BTreeSet::from(["boss".to_owned()])),
            expected: None,
        }
    }

    fn fed(name: &str, bytes: &[u8], owners: Owners) -> Result<(String, Passed)> {
        let mut out = Vec::new();
        match feed(name, bytes, &Opening::default(), &rules(owners), &mut out)? {
            Fed::Whole(passed) => Ok((String::from_utf8(out).unwrap(), passed)),
            Fed::Refused => panic!("nobody refuses"),
        }
    }

    #[test]
    fn the_dumps_own_restrict_is_replaced_by_ours() {
        for bytes in [zipped(DUMP), DUMP.as_bytes().to_vec()] {
            let (script, passed) = fed("x.sql", &bytes, Owners::InPlace).unwrap();
            let (ours, rest) = script.split_once('\n').unwrap();
            assert!(ours.starts_with("\\restrict ") && ours.len() == 74, "{ours}");
            assert_eq!(rest, DUMP.replace("\\restrict k", "").replace("\\unrestrict k", ""));
            assert_eq!(passed.scanned.copies, [1]);
            let sha256 = hexadecimal(&Sha256::digest(&bytes));
            let told = |size_bytes| Some(Expected { sha256: sha256.clone(), size_bytes, tables: Some([].into()), state: None });
            let size_bytes = bytes.len() as u64;
            for (size_bytes, is_right) in [(size_bytes, true), (size_bytes + 1, false)] {
                let rules = Rules { expected: told(size_bytes), ..rules(Owners::InPlace) };
                assert_eq!(feed("x.sql", &bytes[..], &Opening::default(), &rules, Vec::new()).is_ok(), is_right);
            }
        }
    }

    #[test]
    fn ownership_waits_for_the_end() {
        let (script, passed) = fed("x", &zipped(DUMP), Owners::Later).unwrap();
        assert!(!script.contains("OWNER") && script.contains("CREATE TABLE"));
        assert_eq!(passed.ownership, b"ALTER TABLE public.t OWNER TO app;\n");
        assert!(fed("x", &zipped(DUMP), Owners::Never).unwrap().1.ownership.is_empty());
    }

    #[test]
    fn a_role_with_power_is_given_nothing() {
        let (script, passed) = fed("x", DUMP.replace("OWNER TO app", "OWNER TO boss").as_bytes(), Owners::Later).unwrap();
        assert!(!script.contains("OWNER"), "{script}");
        assert_eq!((passed.ownership.len(), passed.withheld), (0, BTreeSet::from(["boss".to_owned()])));
        // Nobody does on its behalf what concerns PostgreSQL's own: the role that loads may try.
        let grant = "GRANT SELECT ON pg_catalog.pg_authid TO PUBLIC;\nCREATE TABLE";
        let (script, passed) = fed("x", DUMP.replace("CREATE TABLE", grant).as_bytes(), Owners::Later).unwrap();
        assert!(script.contains("pg_authid") && !passed.ownership.windows(9).any(|text| text == b"pg_authid"), "{script}");
    }

    #[test]
    fn what_is_no_dump_is_told_apart() {
        let whole = zipped(DUMP);
        let mut bit = whole.clone();
        let middle = bit.len() / 2;
        bit[middle] ^= 0x10;
        let cases: [(&str, Vec<u8>, ErrorKind); 15] = [
            ("empty", Vec::new(), ErrorKind::Invalid),
            ("empty.sql.gz", zipped(""), ErrorKind::Invalid),
            ("text.sql.gz", b"SELECT 1;\n".to_vec(), ErrorKind::Invalid),
            ("bytes", b"\x7fELF\0\0".to_vec(), ErrorKind::Invalid),
            ("custom", b"PGDMP\x01\x0e".to_vec(), ErrorKind::Invalid),
            ("cut.sql.gz", whole[..whole.len() - 20].to_vec(), ErrorKind::Damaged),
            ("bit.sql.gz", bit, ErrorKind::Damaged),
            ("short.sql.gz", zipped(&DUMP[..DUMP.len() / 2]), ErrorKind::Damaged),
            ("copy.sql", b"COPY t FROM stdin;\n1\n".to_vec(), ErrorKind::Damaged),
            ("-", b"PK\x03\x04 a picture of a cat".to_vec(), ErrorKind::Invalid),
            ("page.sql", b"<html><body>It's me</body></html>\n".to_vec(), ErrorKind::Invalid),
            ("table.sql.gz", zipped("id,amount\n1,2\n"), ErrorKind::Invalid),
            ("letter.sql", b"Dear all, here is the dump you wanted\n".to_vec(), ErrorKind::Invalid),
            ("connect.sql", b"CREATE DATABASE x;\n\\connect x\nSELECT 1;\n".to_vec(), ErrorKind::Invalid),
            ("shell.sql.gz", zipped(&DUMP.replace("CREATE", "\\! id\nCREATE")), ErrorKind::Invalid),
        ];
        for (name, bytes, kind) in cases {
            let error = fed(name, &bytes, Owners::Later).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    /// A gzip whose text can be read in its bytes, so that a change of one is a change of the other.
    fn stored(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn changed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.to_vec();
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        bytes
    }

    struct Deaf;

    impl Write for Deaf {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn garbage_is_damage_whatever_it_looks_like() {
        // Long enough that the end is not read together with the place.
        let text = DUMP.replace("COPY", &format!("-- {}\nCOPY", "more\n-- ".repeat(READ_BYTES)));
        let whole = stored(&text);
        for (from, to) in [("CREATE TABLE", "\\! id; -- TA"), ("OWNER TO app", "OWNER TO apq"), ("CREATE TABLE", "\\connect xy;")] {
            let error = fed("x.sql.gz", &changed(&whole, from, to), Owners::Later).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{to}: {error}");
            // In a gzip that is whole the same text is what it looks like.
            let error = fed("x.sql.gz", &stored(&text.replacen(from, to, 1)), Owners::Later).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::Damaged, "{to}: {error}");
        }
        // psql refuses what it was given before the end is read.
        let refused = |bytes: &[u8], rules: &Rules| feed("x.sql", bytes, &Opening::default(), rules, Deaf);
        assert!(matches!(refused(&whole, &rules(Owners::Later)), Ok(Fed::Refused)));
        let error = refused(&changed(&whole, "CREATE TABLE", "CREATE TABEL"), &rules(Owners::Later)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        // Nor is it what it looks like when the side file knows other bytes, be they no gzip at all.
        let expected = |sha256: String| Some(Expected { sha256, size_bytes: text.len() as u64, tables: Some([].into()), state: None });
        let of_text = Rules { expected: expected(hexadecimal(&Sha256::digest(&text))), ..rules(Owners::Later) };
        assert!(matches!(refused(text.as_bytes(), &of_text), Ok(Fed::Refused)));
        let other = Rules { expected: expected("0".repeat(64)), ..rules(Owners::Later) };
        assert_eq!(refused(text.as_bytes(), &other).unwrap_err().kind(), ErrorKind::Damaged);
    }

    #[test]
    fn a_command_is_shown_as_it_stands_there() {
        let error = fed("x", DUMP.replace("CREATE", "\\! id\nCREATE").as_bytes(), Owners::Later).unwrap_err();
        assert!(error.to_string().contains("the psql command `\\! id`"), "{error}");
    }

    #[test]
    fn a_missing_role_ends_the_load_at_once() {
        let error = fed("x", DUMP.replace("app;", "gone;").as_bytes(), Owners::Later).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("`gone`"), "{error}");
    }

    #[test]
    fn answers_of_copy_are_read_between_other_lines() {
        assert_eq!(copy_tags(&b"SET\nCOPY 12\n1\nCOPY 0\nCOPYING 3\nCOPY x\nCOPY 7"[..]).unwrap(), [12, 0]);
    }
}
