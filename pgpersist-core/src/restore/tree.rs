//! Makes a backup's files in places of our own. Everything is held against its hash before it is written; nothing is written outside.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::error::{Error, Result};
use crate::fs::on_behalf::as_owner;
use crate::repo::entry::{Entry, EntryKind, EntryPath};
use crate::repo::repository::Repository;
use crate::restore::crew::{self, Halt};
use crate::restore::damage::Losses;
use crate::restore::queue::Queue;
use crate::restore::writer::Writer;
use crate::workers;

/// Where the links to tablespaces lie.
const TABLESPACES: &[u8] = b"pg_tblspc/";

/// Where a tablespace's files are made, and where its link will point to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespacePlace {
    /// Where its files are made.
    pub staged: PathBuf,
    /// Where they will be.
    pub location: PathBuf,
}

/// Where the entries of a backup are made.
#[derive(Debug, Clone)]
pub struct Places {
    root: PathBuf,
    tablespaces: BTreeMap<u32, TablespacePlace>,
}

impl Places {
    /// All of them below `root`, but for those of tablespaces, by OID.
    pub fn new(root: PathBuf, tablespaces: BTreeMap<u32, TablespacePlace>) -> Self {
        Self { root, tablespaces }
    }

    /// Where the link of a tablespace points to.
    pub(crate) fn location(&self, oid: u32) -> Option<&Path> {
        self.tablespaces.get(&oid).map(|place| place.location.as_path())
    }

    /// Where an entry is made.
    pub fn of(&self, path: &EntryPath) -> PathBuf {
        let tablespace = in_tablespace(path).and_then(|(oid, inner)| Some((self.tablespaces.get(&oid)?, inner?)));
        // An entry's path has no part that leads up or starts anew.
        match tablespace {
            Some((tablespace, inner)) => tablespace.staged.join(OsStr::from_bytes(inner)),
            None => self.root.join(OsStr::from_bytes(path.as_bytes())),
        }
    }
}

/// The tablespace that a path belongs to, and where in it; nowhere in it for the tablespace's own link.
pub fn in_tablespace(path: &EntryPath) -> Option<(u32, Option<&[u8]>)> {
    let rest = path.as_bytes().strip_prefix(TABLESPACES)?;
    let (name, inner) = match rest.iter().position(|byte| *byte == b'/') {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    // Only what a number is written as: a server knows no other names.
    let oid: u32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    (oid.to_string().as_bytes() == name).then_some((oid, inner))
}

/// Makes the folders and links, then the files, by so many at once. The places exist, are empty and nobody else's. `done` counts bytes. Where there
/// are `losses`, what cannot be had is noted there, and zero in the files.
///
/// # Errors
/// `Damaged` when something in the repository is not what was written; [`Error::File`]; what the store says.
pub(crate) async fn write(
    repository: &Repository,
    entries: Arc<[Entry]>,
    places: &Places,
    at_once: usize,
    done: Arc<AtomicU64>,
    losses: Option<Arc<Losses>>,
) -> Result<()> {
    let (made, below) = (Arc::clone(&entries), places.clone());
    workers::run(move || folders(&made, &below)).await?;
    let queue = Arc::new(Queue::new(entries, places.clone()));
    let halt = Halt::default();
    let writers = (0..at_once.max(1)).map(|number| {
        let (repository, queue, done) = (repository.clone(), Arc::clone(&queue), Arc::clone(&done));
        let (losses, halt) = (losses.clone(), halt.clone());
        async move { Writer::new(number, &repository, &queue, &done, losses.as_deref(), halt).write().await }
    });
    crew::work(writers, &halt).await
}

fn folders(entries: &[Entry], places: &Places) -> Result<()> {
    for entry in entries {
        let path = places.of(&entry.path);
        match &entry.kind {
            // Paths are in order, so a folder comes before what is in it.
            EntryKind::Directory { mode } => as_owner(above(&path), || {
                let made = DirBuilder::new().mode(mode.bits()).create(&path);
                made.and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode.bits())))
                    .map_err(|error| Error::file("create the folder", &path, error))
            })?,
            EntryKind::Link { .. } => link(entry, places, &path)?,
            EntryKind::File(_) => {}
        }
    }
    Ok(())
}

/// Where a link leads is decided here and now: what the backup's own pointed to belongs to another machine.
fn link(entry: &Entry, places: &Places, path: &Path) -> Result<()> {
    let tablespace = in_tablespace(&entry.path).and_then(|(oid, inner)| places.tablespaces.get(&oid).filter(|_| inner.is_none()));
    match tablespace {
        Some(tablespace) => {
            as_owner(above(path), || symlink(&tablespace.location, path).map_err(|error| Error::file("create the link", path, error)))
        }
        None => Err(Error::damaged(
            format!("the backup has a link {}, and nothing tells what it stands for", String::from_utf8_lossy(entry.path.as_bytes())),
            "choose another backup: see `pgpersist list`",
        )),
    }
}

pub(crate) fn create(path: &Path, mode: u32, size: u64) -> Result<File> {
    as_owner(above(path), || {
        let failed = |error| Error::file("create", path, error);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
        file.set_permissions(PermissionsExt::from_mode(mode)).map_err(failed)?;
        file.set_len(size).map_err(failed)?;
        Ok(file)
    })
}

pub(crate) fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_in_a_tablespace_is_made_where_that_is_made() {
        let place = TablespacePlace { staged: "/fast/.staged".into(), location: "/fast".into() };
        let places = Places::new("/data".into(), BTreeMap::from([(16399, place)]));
        for (entry, expected) in [
            ("PG_VERSION", "/data/PG_VERSION"),
            ("pg_tblspc", "/data/pg_tblspc"),
            ("pg_tblspc/16399", "/data/pg_tblspc/16399"),
            ("pg_tblspc/16399/PG_15_202209061", "/fast/.staged/PG_15_202209061"),
            ("pg_tblspc/16399/PG_15_202209061/5/16400", "/fast/.staged/PG_15_202209061/5/16400"),
            // One that lies in the data directory itself, as a developer's may.
            ("pg_tblspc/16400/PG_15_202209061/5", "/data/pg_tblspc/16400/PG_15_202209061/5"),
            ("pg_tblspc/016399/x", "/data/pg_tblspc/016399/x"),
            ("pg_tblspc/+16399/x", "/data/pg_tblspc/+16399/x"),
        ] {
            assert_eq!(places.of(&path(entry)), Path::new(expected), "{entry}");
        }
    }

    #[test]
    fn a_link_leads_nowhere_but_to_a_tablespace_that_was_placed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pg_tblspc")).unwrap();
        let place = TablespacePlace { staged: folder.path().join("staged"), location: "/new".into() };
        let places = Places::new(folder.path().to_owned(), BTreeMap::from([(16399, place)]));
        let link = |name: &str| Entry { path: path(name), kind: EntryKind::Link { target: "/etc".to_owned() } };
        folders(&[link("pg_tblspc/16399")], &places).unwrap();
        assert_eq!(std::fs::read_link(folder.path().join("pg_tblspc/16399")).unwrap(), Path::new("/new"));
        for other in ["pg_tblspc/7", "base", "pg_tblspc/16399/x"] {
            assert!(folders(&[link(other)], &places).is_err(), "{other}");
            assert!(folder.path().join(other).symlink_metadata().is_err());
        }
    }
}
