//! What belongs to the cluster in a source directory, and what stays behind.
//!
//! Left out is what the server makes anew (*Making a Non-Exclusive Low-Level Backup*, "Backing Up the Data Directory",
//! PostgreSQL 17), and what is ours. Replication slots are no such thing: this is a move, not a backup.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::data_directory::own_folder::FOLDER_NAME;
use crate::data_directory::state::MIGRATED_CONTROL_FILE;
use crate::error::{Error, Result};
use crate::fs::durable::TEMPORARY_SUFFIX;
use crate::fs::walk::Walk;
use crate::pg::control_file::CONTROL_FILE_PATH;
use crate::pg::relation_file::RelationFile;

/// Folders whose contents the server makes anew at its start.
const EMPTIED: [&str; 6] = ["pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
/// Files at the top that belong to a running server.
const OF_THE_SERVER: [&str; 4] = ["postmaster.pid", "postmaster.opts", "current_logfiles", "current_logfiles.tmp"];

/// A file to copy.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Its place in the cluster.
    pub(crate) relative: PathBuf,
    /// Where it is, links followed.
    pub(crate) path: PathBuf,
    /// What it was when it was seen.
    pub(crate) metadata: Metadata,
}

/// What belongs to the cluster. Holds a few hundred bytes a file. `pg_control` is not part of it: it is copied last, apart.
#[derive(Debug, Default)]
pub(crate) struct SourceTree {
    /// Folders, each before what is in it, with their permission bits.
    pub(crate) folders: Vec<(PathBuf, u32)>,
    /// Files, in the order of a walk.
    pub(crate) files: Vec<SourceFile>,
    /// Tablespaces: the link's name and where it points.
    pub(crate) tablespaces: Vec<(String, PathBuf)>,
    /// What people should know about the move.
    pub(crate) warnings: Vec<String>,
    /// The lengths of all files together.
    pub(crate) bytes: u64,
}

impl SourceTree {
    /// Looks through a source. A server may run in it.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Invalid`] for a link that cannot be carried over.
    pub(crate) fn read(source: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(source, Path::new(""), Depth::Source)?;
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, prefix: &Path, depth: Depth) -> Result<()> {
        let mut walk = Walk::new(root)?;
        while let Some(entry) = walk.next() {
            let entry = entry?;
            let relative = prefix.join(&entry.relative);
            if stays_behind(&relative) {
                if entry.metadata.is_dir() {
                    walk.skip_folder();
                }
                continue;
            }
            let kind = entry.metadata.file_type();
            if kind.is_dir() {
                self.folders.push((relative, folder_mode(&entry.metadata)));
            } else if kind.is_file() {
                self.file(relative, entry.path, entry.metadata);
            } else if kind.is_symlink() {
                self.link(relative, &entry.path, depth)?;
            } else if !kind.is_socket() {
                self.warnings.push(format!("{} is neither file nor folder and was left behind", entry.path.display()));
            }
        }
        Ok(())
    }

    fn file(&mut self, relative: PathBuf, path: PathBuf, metadata: Metadata) {
        self.bytes += metadata.len();
        self.files.push(SourceFile { relative, path, metadata });
    }

    fn link(&mut self, relative: PathBuf, path: &Path, depth: Depth) -> Result<()> {
        if relative.parent() == Some(Path::new("pg_tblspc")) {
            let target = fs::read_link(path).unwrap_or_default();
            self.tablespaces.push((relative.file_name().unwrap_or_default().to_string_lossy().into_owned(), target));
            return Ok(());
        }
        let resolved = match path.canonicalize() {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.link_to_nowhere(relative, path),
            Err(error) => return Err(Error::file("follow the link", path, error)),
        };
        let metadata = fs::metadata(&resolved).map_err(|e| Error::file("look at", &resolved, e))?;
        if metadata.is_file() {
            self.file(relative, resolved, metadata);
            return Ok(());
        }
        let name = relative.to_string_lossy().into_owned();
        if name == "log" || name == "pg_log" {
            self.warnings.push(format!("the old logs in {} were left behind", resolved.display()));
            self.folders.push((relative, 0o700));
            return Ok(());
        }
        if depth == Depth::Linked || !is_folder_of_postgres(&name) {
            return Err(Error::invalid(
                format!("{} is a link to {}, which is no part of a cluster that we know", path.display(), resolved.display()),
                "replace the link by a real folder, or move it out of the data directory, and repeat",
            ));
        }
        self.folders.push((relative.clone(), folder_mode(&metadata)));
        if !EMPTIED.contains(&name.as_str()) {
            self.walk(&resolved, &relative, Depth::Linked)?;
        }
        Ok(())
    }

    /// A link whose target is not there, most often since its volume is not mounted: without what belongs to the cluster the
    /// copy would be no copy.
    fn link_to_nowhere(&mut self, relative: PathBuf, path: &Path) -> Result<()> {
        let name = relative.to_string_lossy().into_owned();
        if EMPTIED.contains(&name.as_str()) {
            self.folders.push((relative, 0o700));
            return Ok(());
        }
        if may_be_missing(&name) {
            self.warnings.push(format!("{} is a link to nowhere and was left behind", path.display()));
            return Ok(());
        }
        let target = fs::read_link(path).unwrap_or_default();
        Err(Error::refused(
            format!("{} is a link to {}, which is not there, and the cluster is not whole without it", path.display(), target.display()),
            "mount the volume that holds it, and repeat; nothing was touched",
        ))
    }
}

/// Whether PostgreSQL knows nothing of a name: the old logs, and what people put at the top themselves.
fn may_be_missing(name: &str) -> bool {
    let of_postgres = name.contains('/') || name.starts_with("pg_") || name == "base" || name == "global" || name.starts_with("PG_");
    matches!(name, "log" | "pg_log") || !(of_postgres || name.ends_with(".conf"))
}

/// Whether a walk is in the source itself or already behind a link: links of links are not followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Source,
    Linked,
}

/// Folders that people put on other disks by a link, as with `pg_wal`; they become real folders in the copy.
fn is_folder_of_postgres(name: &str) -> bool {
    let database = name.strip_prefix("base/").is_some_and(|oid| !oid.is_empty() && oid.bytes().all(|b| b.is_ascii_digit()));
    database || ["base", "global", "pg_wal"].contains(&name) || (name.starts_with("pg_") && !name.contains('/') && name != "pg_tblspc")
}

/// PostgreSQL wants its folders at 0700, or 0750 where the group may read.
pub(crate) fn folder_mode(metadata: &Metadata) -> u32 {
    if metadata.mode() & 0o050 == 0o050 { 0o750 } else { 0o700 }
}

/// And its files at 0600 or 0640.
pub(crate) fn file_mode(metadata: &Metadata) -> u32 {
    if metadata.mode() & 0o040 == 0o040 { 0o640 } else { 0o600 }
}

fn stays_behind(relative: &Path) -> bool {
    let mut parts = relative.iter();
    let first = parts.next().unwrap_or_default();
    let deeper = parts.next().is_some();
    let name = relative.file_name().unwrap_or_default().as_bytes();
    let is = |text: &&str| first == OsStr::new(text);
    if !deeper && (first == FOLDER_NAME || OF_THE_SERVER.iter().any(is)) {
        return true;
    }
    let temporary_relation = RelationFile::classify(relative).is_some_and(|file| file.temporary_of.is_some());
    (deeper && EMPTIED.iter().any(is))
        || temporary_relation
        || relative == Path::new(CONTROL_FILE_PATH)
        || relative == Path::new(MIGRATED_CONTROL_FILE)
        || name == b"lost+found"
        || name.starts_with(b"pgsql_tmp")
        || name.starts_with(b"pg_internal.init")
        || name.starts_with(b".s.PGSQL.")
        || (name.starts_with(b".") && name.ends_with(TEMPORARY_SUFFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::symlink;

    fn relatives(tree: &SourceTree) -> Vec<String> {
        tree.files.iter().map(|f| f.relative.to_string_lossy().into_owned()).collect()
    }

    fn source() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("data");
        for name in ["base/5", "base/pgsql_tmp", "global", "pg_notify", "pg_replslot/s", "pg_tblspc", "lost+found", FOLDER_NAME] {
            fs::create_dir_all(source.join(name)).unwrap();
        }
        for name in [
            "PG_VERSION",
            "postmaster.pid",
            "base/5/1259",
            "base/5/t3_16390",
            "base/5/pg_internal.init.77",
            "base/pgsql_tmp/pgsql_tmp1.0",
            "global/pg_control",
            "pg_notify/0000",
            "pg_replslot/s/state",
            ".s.PGSQL.5432.lock",
            ".pgpersist/lock",
        ] {
            File::create(source.join(name)).unwrap();
        }
        (folder, source)
    }

    #[test]
    fn what_the_server_makes_anew_stays_behind_and_slots_do_not() {
        let (_folder, source) = source();
        let tree = SourceTree::read(&source).unwrap();
        assert_eq!(relatives(&tree), ["PG_VERSION", "base/5/1259", "pg_replslot/s/state"]);
        assert!(tree.folders.iter().any(|(name, mode)| name == Path::new("pg_notify") && *mode & 0o077 & !0o050 == 0));
    }

    #[test]
    fn a_linked_pg_wal_is_followed_and_a_tablespace_is_reported() {
        let (folder, source) = source();
        fs::create_dir_all(folder.path().join("wal/archive_status")).unwrap();
        File::create(folder.path().join("wal/000000010000000000000001")).unwrap();
        symlink(folder.path().join("wal"), source.join("pg_wal")).unwrap();
        symlink("/somewhere", source.join("pg_tblspc/16400")).unwrap();
        let tree = SourceTree::read(&source).unwrap();
        assert!(relatives(&tree).contains(&"pg_wal/000000010000000000000001".to_owned()));
        assert!(tree.folders.iter().any(|(name, _)| name == Path::new("pg_wal/archive_status")));
        assert_eq!(tree.tablespaces, [("16400".to_owned(), PathBuf::from("/somewhere"))]);
    }

    #[test]
    fn a_link_to_nowhere_is_left_behind_only_where_postgresql_knows_nothing_of_it() {
        for name in [
            "pg_wal",
            "base",
            "base/16384",
            "global/1262",
            "pg_xact",
            "base/5/16390",
            "postgresql.conf",
            "PG_VERSION",
            "pg_replslot/s/state",
        ] {
            let (_folder, source) = source();
            let _ = crate::fs::durable::remove_tree(&source.join(name));
            symlink("/volume/that/is/not/mounted", source.join(name)).unwrap();
            let error = SourceTree::read(&source).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::Unsafe, "{name}: {error}");
            assert!(error.to_string().contains(name) && error.to_string().contains("/volume/that/is/not/mounted"), "{error}");
        }
        let (_folder, source) = source();
        crate::fs::durable::remove_tree(&source.join("pg_notify")).unwrap();
        for name in ["log", "notes.txt", "pg_notify", "pg_stat_tmp"] {
            symlink("/volume/that/is/not/mounted", source.join(name)).unwrap();
        }
        let tree = SourceTree::read(&source).unwrap();
        assert_eq!(tree.warnings.len(), 2, "{:?}", tree.warnings);
        assert!(tree.folders.iter().any(|(name, _)| name == Path::new("pg_stat_tmp")));
        // What is wrong with a link in another way is never taken for a missing target.
        symlink("loop", source.join("loop")).unwrap();
        assert!(matches!(SourceTree::read(&source), Err(Error::File { .. })));
    }

    #[test]
    fn a_link_to_strange_places_is_refused() {
        let (folder, source) = source();
        symlink(folder.path(), source.join("photos")).unwrap();
        assert!(SourceTree::read(&source).unwrap_err().to_string().contains("photos"));
    }
}
