//! The ledger: what the server has acknowledged, kept outside the database, durable before the writer goes on.
//!
//! A text file that only grows. One line a record, words separated by one blank, ended by a line feed:
//!
//! ```text
//! pgpersist-drill-ledger 1
//! seed 42
//! intent ROUND WRITER SEQUENCE FROM TO AMOUNT
//! commit ROUND WRITER SEQUENCE FROM TO AMOUNT XID
//! ```
//!
//! - `intent`: writer WRITER (from 1) is about to begin its transaction SEQUENCE (from 1, one more each time, through all
//!   rounds), which moves AMOUNT from account FROM to account TO.
//! - `commit`: the server answered the COMMIT of that transaction, whose id is XID (`pg_current_xact_id()`). The line is
//!   fsynced before the writer's next statement.
//! - ROUND counts from 1; round 0 is the undisturbed run that is measured first.
//!
//! An intent without a commit was not answered when its connection broke: it may be there whole or not at all. A last line
//! without line feed was being written when the machine stopped; it counts for nothing, since nobody went on after it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::fs::durable;

const HEADER: &str = "pgpersist-drill-ledger 1";

/// A transaction's name: its writer, and its number within that writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionName {
    /// The writer, from 1.
    pub writer: u32,
    /// Its how manieth transaction, from 1.
    pub sequence: u64,
}

/// What a transaction does: it moves an amount, so the sum of all balances stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The account that pays.
    pub from: u32,
    /// The account that receives.
    pub to: u32,
    /// How much, in the smallest unit.
    pub amount: i64,
}

/// What the ledger knows about one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The round it was begun in.
    pub round: u32,
    /// What it does.
    pub transfer: Transfer,
    /// The transaction id when the server acknowledged it; `None` while nobody knows.
    pub acknowledged: Option<u64>,
}

/// All transactions of a ledger, by name.
pub type Records = BTreeMap<TransactionName, Record>;

/// A ledger that is being written. Several writers share it: one fsync serves all lines that were written before it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    written: Mutex<Written>,
    /// How many bytes are durable.
    synced: Mutex<u64>,
}

#[derive(Debug)]
struct Written {
    file: File,
    bytes: u64,
}

impl Ledger {
    /// Begins a ledger; its name and its head are durable on return.
    ///
    /// # Errors
    /// [`Error::File`], also when the file exists: a ledger is never written over.
    pub fn create(path: &Path, seed: u64) -> Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o644).open(path).map_err(|e| Error::file("create", path, e))?;
        let ledger = Self { path: path.to_owned(), written: Mutex::new(Written { file, bytes: 0 }), synced: Mutex::new(0) };
        let end = ledger.append(&format!("{HEADER}\nseed {seed}\n"))?;
        ledger.sync_to(end)?;
        durable::sync_directory(path.parent().unwrap_or(Path::new(".")))?;
        Ok(ledger)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records that a transaction is about to begin, and, durably, that the one before was acknowledged. Blocking.
    ///
    /// # Errors
    /// [`Error::File`]; the drill must end then, since it no longer knows what it was promised.
    pub fn record(&self, committed: Option<(TransactionName, Record)>, next: Option<(TransactionName, Record)>) -> Result<()> {
        let mut lines = String::new();
        if let Some((name, record)) = &committed {
            line(&mut lines, name, record);
        }
        if let Some((name, record)) = &next {
            line(&mut lines, name, record);
        }
        let end = self.append(&lines)?;
        // An intent alone need not be durable before the transaction: its absence can hide nothing that was acknowledged.
        if committed.is_some() { self.sync_to(end) } else { Ok(()) }
    }

    fn append(&self, lines: &str) -> Result<u64> {
        let mut written = lock(&self.written);
        written.file.write_all(lines.as_bytes()).map_err(|e| Error::file("write", &self.path, e))?;
        written.bytes += lines.len() as u64;
        Ok(written.bytes)
    }

    fn sync_to(&self, end: u64) -> Result<()> {
        let mut synced = lock(&self.synced);
        if *synced >= end {
            return Ok(());
        }
        let (file, bytes) = {
            let written = lock(&self.written);
            (written.file.try_clone().map_err(|e| Error::file("fsync", &self.path, e))?, written.bytes)
        };
        file.sync_data().map_err(|e| Error::file("fsync", &self.path, e))?;
        *synced = bytes;
        Ok(())
    }
}

fn line(lines: &mut String, name: &TransactionName, record: &Record) {
    let Record { round, transfer: Transfer { from, to, amount }, acknowledged } = record;
    let TransactionName { writer, sequence } = name;
    match acknowledged {
        Some(xid) => lines.push_str(&format!("commit {round} {writer} {sequence} {from} {to} {amount} {xid}\n")),
        None => lines.push_str(&format!("intent {round} {writer} {sequence} {from} {to} {amount}\n")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a ledger back. Holds all of it: some fifty bytes a transaction. Blocking.
///
/// # Errors
/// [`Error::File`]; [`Error::Damaged`] naming the line when it is no ledger, or says two things about one transaction.
pub fn read(path: &Path) -> Result<Records> {
    let file = File::open(path).map_err(|e| Error::file("open", path, e))?;
    let mut reader = BufReader::new(file);
    let mut records = Records::new();
    let (mut text, mut number) = (Vec::new(), 0);
    loop {
        text.clear();
        reader.read_until(b'\n', &mut text).map_err(|e| Error::file("read", path, e))?;
        // The end, or a line that was never finished.
        if text.pop() != Some(b'\n') {
            return if number == 0 { Err(damaged(path, 1, "it is empty")) } else { Ok(records) };
        }
        number += 1;
        let text = String::from_utf8_lossy(&text);
        let words: Vec<&str> = text.split(' ').collect();
        match (number, words.as_slice()) {
            (1, _) if text == HEADER => {}
            (1, _) => return Err(damaged(path, 1, "it is no ledger of a crash drill")),
            (_, ["seed", _]) => {}
            (_, ["intent" | "commit", numbers @ ..]) => {
                let (name, record) = parse(words[0], numbers).ok_or_else(|| damaged(path, number, "it cannot be understood"))?;
                take(&mut records, name, record).map_err(|reason| damaged(path, number, reason))?;
            }
            _ => return Err(damaged(path, number, "it cannot be understood")),
        }
    }
}

fn parse(word: &str, numbers: &[&str]) -> Option<(TransactionName, Record)> {
    let (numbers, acknowledged) = match (word, numbers) {
        ("intent", numbers) => (numbers, None),
        (_, [numbers @ .., xid]) => (numbers, Some(xid.parse().ok()?)),
        _ => return None,
    };
    let [round, writer, sequence, from, to, amount] = numbers else { return None };
    let name = TransactionName { writer: writer.parse().ok()?, sequence: sequence.parse().ok()? };
    let transfer = Transfer { from: from.parse().ok()?, to: to.parse().ok()?, amount: amount.parse().ok()? };
    Some((name, Record { round: round.parse().ok()?, transfer, acknowledged }))
}

fn take(records: &mut Records, name: TransactionName, record: Record) -> std::result::Result<(), &'static str> {
    match records.get_mut(&name) {
        None => {
            records.insert(name, record);
        }
        Some(known) if known.transfer != record.transfer => return Err("it contradicts the intent"),
        Some(known) if known.acknowledged.is_some() || record.acknowledged.is_none() => return Err("it repeats an earlier line"),
        Some(known) => *known = record,
    }
    Ok(())
}

fn damaged(path: &Path, line: usize, reason: &str) -> Error {
    Error::damaged(format!("line {line} of the ledger {}: {reason}", path.display()), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(writer: u32, sequence: u64) -> TransactionName {
        TransactionName { writer, sequence }
    }

    fn record(acknowledged: Option<u64>) -> Record {
        Record { round: 1, transfer: Transfer { from: 7, to: 9, amount: 250 }, acknowledged }
    }

    #[test]
    fn what_was_recorded_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::create(&path, 42).unwrap();
        ledger.record(None, Some((name(1, 1), record(None)))).unwrap();
        ledger.record(Some((name(1, 1), record(Some(800)))), Some((name(1, 2), record(None)))).unwrap();
        let records = read(&path).unwrap();
        assert_eq!(records[&name(1, 1)].acknowledged, Some(800));
        assert_eq!(records[&name(1, 2)], record(None));
        assert!(Ledger::create(&path, 42).is_err());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("seed 42\nintent 1 1 1 7 9 250\ncommit 1 1 1 7 9 250 800\nintent 1 1 2 7 9 250\n"), "{text}");
    }

    #[test]
    fn a_line_torn_at_the_end_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::create(&path, 1).unwrap();
        ledger.record(None, Some((name(1, 1), record(None)))).unwrap();
        ledger.append("commit 1 1 1 7 9 250 80").unwrap();
        assert_eq!(read(&path).unwrap()[&name(1, 1)].acknowledged, None);
        ledger.append("0\n").unwrap();
        assert_eq!(read(&path).unwrap()[&name(1, 1)].acknowledged, Some(800));
    }

    #[test]
    fn a_contradiction_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = Ledger::create(&path, 1).unwrap();
        ledger.append("intent 1 1 1 7 9 250\ncommit 1 1 1 7 9 251 800\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 4"));
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger");
            let mut file = File::create(&path).unwrap();
            if head {
                file.write_all(format!("{HEADER}\n").as_bytes()).unwrap();
            }
            file.write_all(&bytes).unwrap();
            let _ = read(&path);
        }
    }
}
