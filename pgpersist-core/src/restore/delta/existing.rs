//! [`Existing`]: what stands where a backup is to be: how much more room it takes, and what is not in the backup.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::data_directory::own_folder::FOLDER_NAME;
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::walk::Walk;
use crate::pg::control_file::CONTROL_FILE_PATH;
use crate::repo::entry::{Entry, EntryKind};
use crate::restore::survey::Room;
use crate::restore::tree::{self, Places};

/// The folder of the log, which makes room as a whole.
pub(crate) const LOG: &str = "pg_wal";
/// What a file takes on a disk at least.
const BLOCK_BYTES: u64 = 4096;
/// The unit of `st_blocks`.
const STAT_BLOCK_BYTES: u64 = 512;

/// What becomes of what is not in the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The server's own: of no use to anybody.
    Removed,
    /// Perhaps somebody's, such as a log or a certificate.
    SetAside,
}

/// Something that is not in the backup, or is something else there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leftover {
    path: PathBuf,
    /// Where it lies in the data directory.
    relative: PathBuf,
    fate: Fate,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Existing {
    leftovers: Vec<Leftover>,
    /// What is needed in addition, in the data directory.
    pub(crate) data_directory: Room,
    /// And in the tablespaces, by OID.
    pub(crate) tablespaces: BTreeMap<u32, Room>,
}

impl Existing {
    /// Looks at a data directory and at the folders of its tablespaces. Blocking.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn look(directory: &Path, tablespaces: &[(u32, PathBuf)], entries: &[Entry], places: &Places) -> Result<Self> {
        let mut existing = Self::default();
        let known: BTreeMap<&[u8], &EntryKind> = entries.iter().map(|entry| (entry.path.as_bytes(), &entry.kind)).collect();
        existing.walk(directory, Path::new(""), &known)?;
        for (oid, folder) in tablespaces.iter().filter(|(_, folder)| folder.is_dir()) {
            let name = folder.file_name().unwrap_or_default();
            existing.walk(folder, &Path::new("pg_tblspc").join(oid.to_string()).join(name), &known)?;
        }
        for entry in entries {
            let EntryKind::File(file) = &entry.kind else { continue };
            // The old log is kept.
            let old = if entry.path.as_bytes().starts_with(b"pg_wal/") { None } else { fs::symlink_metadata(places.of(&entry.path)).ok() };
            let has = old.as_ref().filter(|old| old.is_file()).map_or(0, |old| old.blocks() * STAT_BLOCK_BYTES);
            let room = match tree::in_tablespace(&entry.path) {
                Some((oid, Some(_))) if tablespaces.iter().any(|(one, _)| *one == oid) => existing.tablespaces.entry(oid).or_default(),
                _ => &mut existing.data_directory,
            };
            room.bytes = room.bytes.saturating_add(file.size.next_multiple_of(BLOCK_BYTES).saturating_sub(has));
            room.inodes += u64::from(old.is_none());
        }
        Ok(existing)
    }

    fn walk(&mut self, root: &Path, below: &Path, known: &BTreeMap<&[u8], &EntryKind>) -> Result<()> {
        let mut walk = Walk::new(root)?;
        while let Some(found) = walk.next() {
            let found = found?;
            let relative = below.join(&found.relative);
            let text = relative.as_os_str().as_bytes();
            let left_alone = [FOLDER_NAME, "lost+found", LOG, CONTROL_FILE_PATH].iter().any(|name| name.as_bytes() == text);
            let same = match known.get(text) {
                Some(EntryKind::Directory { .. }) => found.metadata.is_dir(),
                Some(EntryKind::Link { .. }) => found.metadata.is_symlink(),
                Some(EntryKind::File(_)) => found.metadata.is_file(),
                None => false,
            };
            if left_alone || !same {
                walk.skip_folder();
            }
            if !left_alone && !same {
                self.leftovers.push(Leftover { fate: fate(&relative), path: found.path, relative });
            }
        }
        Ok(())
    }

    /// How many are removed.
    pub(crate) fn removed(&self) -> u64 {
        self.leftovers.iter().filter(|one| one.fate == Fate::Removed).count() as u64
    }

    /// What is set aside.
    pub(crate) fn set_aside(&self) -> Vec<String> {
        let aside = self.leftovers.iter().filter(|one| one.fate == Fate::SetAside);
        aside.map(|one| one.relative.display().to_string()).collect()
    }

    /// Where tablespaces lie that the backup does not have: their links go, and their files stay.
    pub(crate) fn lost_tablespaces(&self) -> Vec<PathBuf> {
        let links = self.leftovers.iter().filter(|one| one.relative.parent() == Some(Path::new("pg_tblspc")));
        links.filter_map(|one| fs::read_link(&one.path).ok()).collect()
    }

    /// Makes room: what is the server's own goes, what may be somebody's moves to `aside`. What an interrupted run has moved there stays. Blocking.
    ///
    /// # Errors
    /// [`Error::File`]; `Conflict` for a file system that is mounted in what goes.
    pub(crate) fn make_room(&self, aside: &Path) -> Result<()> {
        for one in &self.leftovers {
            let kept = aside.join(&one.relative);
            if one.fate == Fate::Removed || kept.symlink_metadata().is_ok() {
                durable::remove_tree(&one.path)?;
            } else {
                durable::create_directories(kept.parent().unwrap_or(aside), 0o700)?;
                durable::rename_new(&one.path, &kept)?;
            }
        }
        Ok(())
    }
}

/// All in the folders of the server is its own; a file beside them, or in a folder of somebody's, may be anybody's.
fn fate(relative: &Path) -> Fate {
    let mut parts = relative.components();
    let first = parts.next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
    let of_the_server = first == OsStr::new("base") || first == OsStr::new("global") || first.as_bytes().starts_with(b"pg_");
    if of_the_server && parts.next().is_some() { Fate::Removed } else { Fate::SetAside }
}

/// Sets the log aside as it is, a folder or the link to one. One that an interrupted run has made since goes. Blocking.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn set_log_aside(directory: &Path, aside: &Path) -> Result<()> {
    let (log, kept) = (directory.join(LOG), aside.join(LOG));
    match (log.symlink_metadata().is_ok(), kept.symlink_metadata().is_ok()) {
        (true, true) => durable::remove_tree(&log),
        (true, false) => durable::rename_new(&log, &kept),
        (false, true) => Ok(()),
        (false, false) => Err(Error::damaged(
            format!("there is neither {} nor {}", log.display(), kept.display()),
            "look at the directory by hand; pgpersist leaves it alone",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_servers_goes_and_what_may_be_somebodys_is_kept() {
        for path in ["base/5/16384", "global/pg_internal.init", "pg_replslot/standby", "pg_tblspc/16399"] {
            assert_eq!(fate(Path::new(path)), Fate::Removed, "{path}");
        }
        for path in ["server.key", "pg_hba.conf", "log/postgresql.log", "standby.signal", "pg_log"] {
            assert_eq!(fate(Path::new(path)), Fate::SetAside, "{path}");
        }
    }
}
