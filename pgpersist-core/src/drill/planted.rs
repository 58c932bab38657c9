//! Faults put in on purpose: a drill that cannot fail proves nothing, so anyone can make it fail and look.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::drill::ledger::{self, TransactionName, Transfer};
use crate::drill::{KillKind, Plant};
use crate::error::{Error, Result};
use crate::pg::control_file::{CONTROL_FILE_PATH, ControlFile};
use crate::pg::lsn::Lsn;
use crate::server::session::Session;

impl Plant {
    /// The kill that this fault needs, where it needs one: without it the server would undo the fault, or never show it.
    pub fn kill(self) -> Option<KillKind> {
        match self {
            // A postmaster that lives recovers before anybody can touch its WAL.
            Self::TruncatedWal => Some(KillKind::Group),
            // Backends that end in order may still write what they hold.
            Self::SynchronousCommitOff => Some(KillKind::Group),
            Self::DeletedRow | Self::HalfTransaction => None,
        }
    }
}

/// Cuts the WAL of a killed cluster in the middle between its last checkpoint and its end, as if the last segments had
/// never reached the disk: the segment of that position is truncated there (and filled up with zeros, as PostgreSQL keeps
/// segments at full size), later ones are emptied. Returns where. Blocking.
///
/// # Errors
/// [`Error::File`]; [`Error::Damaged`] when the files are not as PostgreSQL leaves them.
pub(crate) fn truncate_wal(directory: &Path) -> Result<Lsn> {
    let path = directory.join(CONTROL_FILE_PATH);
    let bytes = fs::read(&path).map_err(|e| Error::file("read", &path, e))?;
    let control = ControlFile::parse(&bytes).map_err(|e| Error::damaged(format!("{}: {e}", path.display()), ""))?;
    let (segment_size, page) = (u64::from(control.wal_segment_size), u64::from(control.wal_block_size));
    // The checkpoint's own record stays: without it the cluster would not start at all, which proves less.
    let first = (control.checkpoint.0 / page + 2) * page;
    let mut end = first;
    while page_is_current(&segment(directory, control.timeline, end, segment_size), end, segment_size)? {
        end += page;
    }
    let cut = first + (end - first) / 2 / page * page;
    if cut >= end {
        return Err(Error::unavailable("too little WAL was written since the last checkpoint to cut any", "let the drill run longer"));
    }
    let mut start = cut;
    while start < end {
        let path = segment(directory, control.timeline, start, segment_size);
        let file = OpenOptions::new().write(true).open(&path).map_err(|e| Error::file("open", &path, e))?;
        file.set_len(start % segment_size)
            .and_then(|()| file.set_len(segment_size))
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::file("truncate", &path, e))?;
        start = (start / segment_size + 1) * segment_size;
    }
    Ok(Lsn(cut))
}

/// Whether the page at this position was written in this turn of the segment: `xlp_pageaddr` of `XLogPageHeaderData`.
fn page_is_current(path: &Path, position: u64, segment_size: u64) -> Result<bool> {
    let mut header = [0; 16];
    match OpenOptions::new().read(true).open(path) {
        Ok(file) => match file.read_exact_at(&mut header, position % segment_size) {
            Ok(()) => Ok(header[8..16] == position.to_le_bytes()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::file("read", path, error)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("open", path, error)),
    }
}

/// The file that holds a position: `XLogFileName` of `xlog_internal.h`.
fn segment(directory: &Path, timeline: u32, position: u64, segment_size: u64) -> PathBuf {
    let number = position / segment_size;
    let in_each_id = 0x1_0000_0000 / segment_size;
    directory.join(format!("pg_wal/{timeline:08X}{:08X}{:08X}", number / in_each_id, number % in_each_id))
}

/// The transaction to take away: the last acknowledged one. Blocking.
///
/// # Errors
/// As [`ledger::read`]; [`Error::Unavailable`] when nothing was acknowledged.
pub(crate) fn last_acknowledged(path: &Path) -> Result<(TransactionName, Transfer)> {
    let records = ledger::read(path)?;
    let last = records.iter().filter_map(|(name, record)| Some((record.acknowledged?, name, record))).max_by_key(|(xid, ..)| *xid);
    let (_, name, record) = last.ok_or_else(|| Error::unavailable("nothing was acknowledged", "let the drill run longer"))?;
    Ok((*name, record.transfer))
}

/// Deletes the rows of a transaction and nothing else.
///
/// # Errors
/// [`Error::Sql`].
pub(crate) async fn delete_row(session: &Session, name: TransactionName) -> Result<()> {
    let statement = format!("DELETE FROM drill.entry WHERE writer = {} AND sequence = {}", name.writer, name.sequence);
    session.execute("delete an acknowledged row", &statement).await
}

/// Undoes the second half of a transaction, entry and balance, as if only the first had ever been applied.
///
/// # Errors
/// [`Error::Sql`].
pub(crate) async fn halve(session: &Session, name: TransactionName, transfer: Transfer) -> Result<()> {
    let statements = format!(
        "BEGIN; DELETE FROM drill.entry WHERE writer = {} AND sequence = {} AND leg = 1;
         UPDATE drill.account SET balance = balance - {} WHERE id = {}; COMMIT",
        name.writer, name.sequence, transfer.amount, transfer.to
    );
    session.execute("undo one half of a transaction", &statements).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_as_postgres_names_them() {
        let name = |position, size| segment(Path::new("/d"), 1, position, size).display().to_string();
        assert_eq!(name(0x1_4D00_0000, 16 << 20), "/d/pg_wal/00000001000000010000004D");
        assert_eq!(name(0x40_0000, 1 << 20), "/d/pg_wal/000000010000000000000004");
    }
}
