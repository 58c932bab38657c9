//! What the server's WAL summaries say of the change since the parent, so that only changed blocks are read: PostgreSQL 17 and newer, where
//! `summarize_wal` is on.
//!
//! What they do not tell is read: free space maps and all that is no relation, since they are not, or not all, in the log; visibility maps,
//! whose bits a record of the table may clear without naming their block; and what a copy of files made. See `GetFileBackupMethod` in
//! `basebackup_incremental.c`, PostgreSQL 17.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::backup::source::SourceFile;
use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::pg::lsn::Lsn;
use crate::pg::page::PAGE_SIZE;
use crate::pg::wal_summary::{ChangedBlocks, RelationFork, SummaryName, WalSummary};
use crate::repo::entry::FileEntry;
use crate::repo::manifest::Manifest;
use crate::server::session::Session;
use crate::workers;

/// Since this version the server writes summaries.
const FIRST_MAJOR: u32 = 17;
/// How long the server may come no further with its summaries before all files are read.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(100);
/// Where they lie.
const FOLDER: &str = "pg_wal/summaries";

/// What the summaries were good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SummaryUse {
    /// There is nothing that they could tell: the server has none, or all files are read anyway.
    #[default]
    None,
    /// `summarize_wal` is off.
    Off,
    /// They do not go from the beginning of the parent to the beginning of this backup.
    Incomplete,
    /// Only blocks were read that they name, in relations.
    Used,
}

/// What changed between the beginnings of two backups.
#[derive(Debug, Default)]
pub struct Summarized(WalSummary);

impl Summarized {
    /// Reads the summaries from where `parent` begins to where this backup does, on the parent's timeline. Waits for the server to write
    /// them, as long as it comes on.
    ///
    /// # Errors
    /// `Sql`; [`Error::File`] for summaries that are there and cannot be read.
    pub async fn read(
        session: &Session,
        major: u32,
        data_directory: &Path,
        parent: &Manifest,
        start: Lsn,
    ) -> Result<(SummaryUse, Option<Self>)> {
        if major < FIRST_MAJOR || parent.cluster.major != major {
            return Ok((SummaryUse::None, None));
        }
        if session.setting("summarize_wal").await?.as_deref() != Some("on") {
            return Ok((SummaryUse::Off, None));
        }
        let Ok(from) = parent.wal.start_lsn.parse::<Lsn>() else { return Ok((SummaryUse::Incomplete, None)) };
        let before = SystemTime::from(parent.stopped_at);
        let (folder, timeline) = (data_directory.to_owned(), parent.wal.timeline);
        let (mut reached, mut since) = (Lsn(0), Instant::now());
        loop {
            let looked = folder.clone();
            let chain = workers::run(move || on_behalf::as_owner(&looked, || chain(&looked.join(FOLDER), timeline, from, before))).await?;
            let Some(chain) = chain else { return Ok((SummaryUse::Incomplete, None)) };
            let end = chain.last().map_or(from, |(name, _)| name.end);
            if end >= start {
                let needed = chain.into_iter().filter(move |(name, _)| name.start < start).map(|(_, path)| path).collect();
                return summed(folder, needed).await;
            }
            if end > reached {
                (reached, since) = (end, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return Ok((SummaryUse::Incomplete, None));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The blocks of a file that may differ from what the parent read; nothing where all must be read. `first` is the number of its first
    /// block in its fork.
    pub fn changes(&self, source: &SourceFile, before: &FileEntry) -> Option<Changes<'_>> {
        let (fork, first) = source.fork?;
        let whole_pages = |size: u64| size.is_multiple_of(PAGE_SIZE as u64);
        let made_by_copy = RelationFork { relation: 0, fork: 0, ..fork };
        let told = fork.fork == 0 && whole_pages(source.size) && whole_pages(before.size) && self.0.changed(made_by_copy).is_none();
        told.then(|| Changes { blocks: self.0.changed(fork), first })
    }
}

/// The blocks of one file that changed.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    blocks: Option<&'a ChangedBlocks>,
    first: u32,
}

impl Changes<'_> {
    /// Whether a page of the file may have changed. One whose number is beyond all bounds has.
    pub fn has(&self, page: u64) -> bool {
        match (self.blocks, u32::try_from(page).ok().and_then(|page| self.first.checked_add(page))) {
            (None, Some(_)) => false,
            (Some(blocks), Some(block)) => blocks.has(block),
            (_, None) => true,
        }
    }
}

/// The summaries that follow each other from there on; nothing where they do not begin there, or have a gap. A server cuts them where a backup begins. So
/// the one that ends there was written while the parent was made: where it is younger, this is another history of the same timeline, as of a
/// volume that was put back to an older state. Blocking.
fn chain(folder: &Path, timeline: u32, from: Lsn, before: SystemTime) -> Result<Option<Vec<(SummaryName, PathBuf)>>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", folder, error)),
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(|error| Error::file("read", folder, error))?;
        let name = entry.file_name().to_str().and_then(SummaryName::parse);
        found.extend(name.filter(|name| name.timeline == timeline).map(|name| (name, entry.path())));
    }
    found.sort_unstable();
    let Some((_, last)) = found.iter().find(|(name, _)| name.end == from) else { return Ok(None) };
    let written = match fs::metadata(last).and_then(|metadata| metadata.modified()) {
        Ok(written) => written,
        // It was old enough to be removed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("look at", last, error)),
    };
    if written > before {
        return Ok(None);
    }
    let (mut chain, mut end) = (Vec::new(), from);
    for (name, path) in found {
        // The server writes them in their order: what is missing does not come any more.
        if name.start > end {
            return Ok(None);
        }
        if name.start == end {
            end = name.end;
            chain.push((name, path));
        }
    }
    Ok(Some(chain))
}

async fn summed(data_directory: PathBuf, files: Vec<PathBuf>) -> Result<(SummaryUse, Option<Summarized>)> {
    workers::run(move || {
        on_behalf::as_owner(&data_directory, || {
            let mut summary = WalSummary::default();
            for file in &files {
                let bytes = match fs::read(file) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((SummaryUse::Incomplete, None)),
                    Err(error) => return Err(Error::file("read", file, error)),
                };
                if summary.add(&bytes).is_err() {
                    // Then they are no help, and all files are read.
                    return Ok((SummaryUse::Incomplete, None));
                }
            }
            Ok((SummaryUse::Used, Some(Summarized(summary))))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const LATER: Duration = Duration::from_secs(3600);

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::File::create(folder.path().join(format!("{name}.summary"))).unwrap();
        }
        folder
    }

    fn ends(folder: &Path, from: u64, before: SystemTime) -> Option<Vec<u64>> {
        let chain = chain(folder, 1, Lsn(from), before).unwrap()?;
        Some(chain.into_iter().map(|(name, _)| name.end.0).collect())
    }

    #[test]
    fn a_chain_begins_where_the_parent_does_and_has_no_gap() {
        let folder = folder(&[
            "0000000100000000000000280000000000000100",
            "0000000100000000000001000000000000000200",
            "0000000100000000000002000000000000000300",
            "0000000200000000000003000000000000000400",
            "temporary",
        ]);
        let later = SystemTime::from(SystemClock.now()) + LATER;
        assert_eq!(ends(folder.path(), 0x100, later), Some(vec![0x200, 0x300]));
        assert_eq!(ends(folder.path(), 0x300, later), Some(vec![]));
        // It begins within one, before all of them, or where none ends.
        assert_eq!(ends(folder.path(), 0x180, later), None);
        assert_eq!(ends(folder.path(), 0x28, later), None);
        assert_eq!(ends(folder.path(), 0x500, later), None);
        fs::File::create(folder.path().join("0000000100000000000005000000000000000600.summary")).unwrap();
        assert_eq!(ends(folder.path(), 0x100, later), None);
        assert_eq!(ends(folder.path(), 0x600, later), Some(vec![]));
        assert_eq!(ends(&folder.path().join("none"), 0x100, later), None);
    }

    #[test]
    fn summaries_that_are_younger_than_the_parent_are_of_another_history() {
        let folder = folder(&["0000000100000000000000280000000000000100", "0000000100000000000001000000000000000200"]);
        assert_eq!(ends(folder.path(), 0x100, SystemTime::from(SystemClock.now()) - LATER), None);
    }
}
