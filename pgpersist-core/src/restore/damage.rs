//! What of a backup cannot be had any more: which packs, which pages of which files, and which other backups need the same packs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::pg::control_file::CONTROL_FILE_PATH;
use crate::pg::relation_file::{Fork, RelationFile};
use crate::repo::entry::EntryPath;

/// How many ranges of blocks are told of one file to people.
const NAMED: usize = 8;

/// A file of which pages cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedFile {
    /// Where it lies in the data directory.
    pub path: String,
    /// The OID of the database, where it is a relation's; 0 for one that all databases share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<u32>,
    /// The file node of the relation (`pg_relation_filenode()`), where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation: Option<u32>,
    /// Which fork of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork: Option<&'static str>,
    /// The blocks of 8,192 bytes, counted in this file: the first and the last of each range.
    pub blocks: Vec<[u64; 2]>,
}

/// What is known to be gone before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What is wrong with which packs.
    pub packs: Vec<String>,
    /// The files that they touch.
    pub files: Vec<DamagedFile>,
    /// The other backups that need them.
    pub backups: Vec<String>,
}

/// Gathers what cannot be had, from any thread.
#[derive(Debug, Default)]
pub(crate) struct Losses(Mutex<BTreeMap<Vec<u8>, Vec<[u64; 2]>>>);

impl Losses {
    /// Notes so many blocks of a file from the first on.
    pub(crate) fn add(&self, path: &EntryPath, first: u64, count: u64) {
        let Some(last) = count.checked_sub(1).map(|more| first + more) else { return };
        let mut all = self.lock();
        let ranges = all.entry(path.as_bytes().to_vec()).or_default();
        match ranges.last_mut() {
            Some(range) if range[1] + 1 == first => range[1] = last,
            _ => ranges.push([first, last]),
        }
    }

    /// All of it, by path.
    pub(crate) fn files(&self) -> Vec<DamagedFile> {
        self.lock().iter().map(|(path, blocks)| DamagedFile::of(path, in_order(blocks.clone()))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<[u64; 2]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several write a large file, so that ranges come in any order.
fn in_order(mut ranges: Vec<[u64; 2]>) -> Vec<[u64; 2]> {
    ranges.sort_unstable();
    let mut merged: Vec<[u64; 2]> = Vec::with_capacity(ranges.len());
    for [first, last] in ranges {
        match merged.last_mut() {
            Some(before) if before[1] + 1 >= first => before[1] = before[1].max(last),
            _ => merged.push([first, last]),
        }
    }
    merged
}

impl DamagedFile {
    fn of(path: &[u8], blocks: Vec<[u64; 2]>) -> Self {
        let relation = RelationFile::classify(Path::new(OsStr::from_bytes(path)));
        let fork = |fork| match fork {
            Fork::Main => "main",
            Fork::FreeSpaceMap => "fsm",
            Fork::VisibilityMap => "vm",
            Fork::Init => "init",
        };
        Self {
            path: String::from_utf8_lossy(path).into_owned(),
            database: relation.as_ref().map(|one| one.database),
            relation: relation.as_ref().map(|one| one.relation),
            fork: relation.map(|one| fork(one.fork)),
            blocks,
        }
    }

    /// Whether a data directory without it is none.
    pub(crate) fn is_vital(&self) -> bool {
        [CONTROL_FILE_PATH, "PG_VERSION"].contains(&self.path.as_str())
    }
}

/// For people: `base/5/16384 (relation 16384 of database 5), blocks 0 to 7, 12`.
impl fmt::Display for DamagedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.path)?;
        if let (Some(relation), Some(database)) = (self.relation, self.database) {
            write!(formatter, " (relation {relation} of database {database})")?;
        }
        formatter.write_str(", blocks ")?;
        for (nth, [first, last]) in self.blocks.iter().take(NAMED).enumerate() {
            formatter.write_str(if nth > 0 { ", " } else { "" })?;
            if first == last { write!(formatter, "{first}")? } else { write!(formatter, "{first} to {last}")? }
        }
        match self.blocks.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(formatter, ", and {more} ranges more"),
        }
    }
}

/// Whether something in the repository is not what was written, or gone: what a restore without it leaves out.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound)
}

/// The refusal of a backup without which there is no data directory.
pub(crate) fn vital(files: &[DamagedFile]) -> Option<Error> {
    let file = files.iter().find(|file| file.is_vital())?;
    Some(Error::damaged(
        format!("{} cannot be had, and without it no server starts", file.path),
        "restore another backup (`pgpersist list`), or bring the packs from a copy of the store",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range_and_a_relation_is_told_as_one() {
        let losses = Losses::default();
        let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
        // Several who write one file tell of it in any order.
        for (first, count) in [(12, 1), (4, 2), (0, 4), (6, 2), (20, 0)] {
            losses.add(&path("base/5/16384_vm"), first, count);
        }
        losses.add(&path("global/pg_control"), 0, 1);
        let files = losses.files();
        assert_eq!(files[0].to_string(), "base/5/16384_vm (relation 16384 of database 5), blocks 0 to 7, 12");
        assert_eq!((files[0].fork, &files[0].blocks), (Some("vm"), &vec![[0, 7], [12, 12]]));
        assert!(files[1].relation.is_none() && vital(&files).is_some() && vital(&files[..1]).is_none());
    }
}
