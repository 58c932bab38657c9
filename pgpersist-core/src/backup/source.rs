//! [`Source`]: the files of a running cluster, as they are to be read.
//!
//! What comes and goes meanwhile is the log's affair: a file that is made later is made again by recovery, one that vanishes is removed again.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::backup::excluded::{Treatment, treatment};
use crate::error::{Error, Result};
use crate::fs::walk::Walk;
use crate::pg::control_file::CONTROL_FILE_PATH;
use crate::pg::relation_file::{Fork, RelationFile};
use crate::pg::wal_summary::RelationFork;
use crate::repo::entry::{EntryPath, Mode, Stamp};

/// A tablespace outside of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceSource {
    /// Its OID, the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Where it lies.
    pub location: PathBuf,
}

/// A file to be read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its place in the backup.
    pub path: EntryPath,
    /// Where it is read.
    pub location: PathBuf,
    /// How long it was when it was found: later pages are the log's affair.
    pub size: u64,
    /// Its permissions.
    pub mode: Mode,
    /// What `stat` told.
    pub stamp: Stamp,
    /// The number of its first page within its fork, where its pages may have checksums.
    pub first_block: Option<u32>,
    /// The fork of a relation that it belongs to, as the log knows it, and the number of its first page there.
    pub fork: Option<(RelationFork, u32)>,
}

/// Everything that a backup takes but the log and the control file, which is read last.
#[derive(Debug, Default)]
pub struct Source {
    /// The files, in the order of their paths.
    pub files: Vec<SourceFile>,
    /// The folders.
    pub folders: Vec<(EntryPath, Mode)>,
    /// The links, with what they point to.
    pub links: Vec<(EntryPath, PathBuf)>,
    /// The tablespaces behind links in `pg_tblspc`.
    pub tablespaces: Vec<TablespaceSource>,
}

impl Source {
    /// Looks through a data directory and its tablespaces. `blocks_per_segment` and `version_folder` (`PG_15_202209061`) are the cluster's.
    /// Blocking.
    ///
    /// # Errors
    /// [`Error::File`]; `Unsafe` for a link whose meaning is not known.
    pub fn look(data_directory: &Path, blocks_per_segment: u32, version_folder: &str) -> Result<Self> {
        let mut source = Self::default();
        let blocks = Some(blocks_per_segment);
        source.tree(data_directory, Path::new(""), blocks)?;
        for at in 0..source.tablespaces.len() {
            let TablespaceSource { oid, location } = source.tablespaces[at].clone();
            // A tablespace may be shared by clusters of several versions; one folder of it is ours.
            let (inner, relative) = (location.join(version_folder), PathBuf::from(format!("pg_tblspc/{oid}/{version_folder}")));
            let metadata = fs::symlink_metadata(&inner).map_err(|error| Error::file("look at", &inner, error))?;
            source.folders.push((entry_path(&relative)?, Mode::from_bits(metadata.mode())));
            source.tree(&inner, &relative, blocks)?;
        }
        source.leave_unlogged();
        source.files.sort_by(|a, b| a.path.cmp(&b.path));
        source.folders.sort_by(|a, b| a.0.cmp(&b.0));
        source.links.sort();
        Ok(source)
    }

    fn tree(&mut self, root: &Path, below: &Path, blocks_per_segment: Option<u32>) -> Result<()> {
        let mut walk = Walk::new(root)?;
        while let Some(entry) = walk.next() {
            let entry = entry?;
            let relative = below.join(&entry.relative);
            let kind = entry.metadata.file_type();
            match treatment(&relative) {
                Treatment::Leave => {
                    walk.skip_folder();
                    continue;
                }
                // A link counts as what it stands for: `pg_wal` often is one.
                Treatment::TakeEmpty if kind.is_dir() || kind.is_symlink() => {
                    walk.skip_folder();
                    self.folders.push((entry_path(&relative)?, Mode::from_bits(if kind.is_dir() { entry.metadata.mode() } else { 0o700 })));
                    continue;
                }
                Treatment::TakeEmpty | Treatment::Take => {}
            }
            if kind.is_dir() {
                self.folders.push((entry_path(&relative)?, Mode::from_bits(entry.metadata.mode())));
            } else if kind.is_symlink() {
                self.link(&entry.path, &relative)?;
            } else if kind.is_file() && relative != Path::new(CONTROL_FILE_PATH) {
                self.files.push(file(&relative, entry.path, &entry.metadata, blocks_per_segment)?);
            }
            // Sockets and pipes are nobody's data.
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, relative: &Path) -> Result<()> {
        let target = match fs::read_link(path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("read the link", path, error)),
        };
        let oid = relative.strip_prefix("pg_tblspc").ok().and_then(|name| name.to_str()?.parse().ok());
        match oid {
            Some(oid) => {
                self.tablespaces.push(TablespaceSource { oid, location: target.clone() });
                self.links.push((entry_path(relative)?, target));
                Ok(())
            }
            None => Err(Error::refused(
                format!("{} is a link to {}, and what it stands for is not known", path.display(), target.display()),
                "move what it points to into the data directory; tablespaces and `pg_wal` may be links",
            )),
        }
    }

    /// Of an unlogged relation only the empty form is kept: recovery puts it in the place of the rest, which it cannot repair.
    fn leave_unlogged(&mut self) {
        let relation = |file: &SourceFile| RelationFile::classify(Path::new(std::ffi::OsStr::from_bytes(file.path.as_bytes())));
        let identity = |file: RelationFile| (file.tablespace, file.database, file.relation);
        let unlogged: HashSet<_> = self.files.iter().filter_map(relation).filter(|file| file.fork == Fork::Init).map(identity).collect();
        self.files.retain(|file| relation(file).is_none_or(|file| file.fork == Fork::Init || !unlogged.contains(&identity(file))));
    }
}

/// A file as it was found.
pub(super) fn file(relative: &Path, location: PathBuf, metadata: &Metadata, blocks_per_segment: Option<u32>) -> Result<SourceFile> {
    let relation = RelationFile::classify(relative);
    let fork = relation.zip(blocks_per_segment).and_then(|(relation, blocks)| {
        let first = relation.first_block(blocks)?;
        Some((RelationFork::of(&relation), first))
    });
    let nanoseconds = |seconds: i64, nanoseconds: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
    Ok(SourceFile {
        path: entry_path(relative)?,
        location,
        size: metadata.size(),
        mode: Mode::from_bits(metadata.mode()),
        stamp: Stamp {
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        },
        first_block: fork.map(|(_, first)| first),
        fork,
    })
}

pub(super) fn entry_path(relative: &Path) -> Result<EntryPath> {
    EntryPath::new(relative.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("`{}` is no path that a backup can hold", relative.display()), "rename it"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap();
        }
        folder
    }

    fn paths(source: &Source) -> Vec<String> {
        source.files.iter().map(|file| String::from_utf8(file.path.as_bytes().to_vec()).unwrap()).collect()
    }

    #[test]
    fn files_come_in_order_and_the_control_file_comes_later() {
        let data =
            tree(&["PG_VERSION", "base/5/1259", "base/5/1259.1", "base/5/1259_fsm", "global/pg_control", "pg_wal/0001", "postmaster.pid"]);
        let source = Source::look(data.path(), 131_072, "PG_15_202209061").unwrap();
        assert_eq!(paths(&source), ["PG_VERSION", "base/5/1259", "base/5/1259.1", "base/5/1259_fsm"]);
        assert_eq!(source.files[2].first_block, Some(131_072));
        assert_eq!(source.files[0].first_block, None);
        assert!(source.folders.iter().any(|(path, _)| path.as_bytes() == b"pg_wal"));
    }

    #[test]
    fn of_an_unlogged_relation_the_empty_form_is_kept() {
        let data = tree(&["base/5/100", "base/5/100_init", "base/5/100_fsm", "base/5/100.1", "base/5/101", "base/6/100"]);
        let source = Source::look(data.path(), 131_072, "PG_15_202209061").unwrap();
        assert_eq!(paths(&source), ["base/5/100_init", "base/5/101", "base/6/100"]);
    }

    #[test]
    fn a_tablespace_is_walked_behind_its_link_and_only_our_versions_part() {
        let data = tree(&["PG_VERSION", "pg_tblspc/x"]);
        fs::remove_file(data.path().join("pg_tblspc/x")).unwrap();
        let elsewhere = tree(&["PG_15_202209061/16384/16400", "PG_14_202107181/16384/16400"]);
        symlink(elsewhere.path(), data.path().join("pg_tblspc/16399")).unwrap();
        let source = Source::look(data.path(), 131_072, "PG_15_202209061").unwrap();
        assert_eq!(paths(&source), ["PG_VERSION", "pg_tblspc/16399/PG_15_202209061/16384/16400"]);
        assert_eq!(source.tablespaces, [TablespaceSource { oid: 16399, location: elsewhere.path().to_owned() }]);
        assert_eq!(source.links.len(), 1);
    }

    #[test]
    fn a_link_of_unknown_meaning_is_refused_and_one_for_the_log_is_not() {
        let data = tree(&["PG_VERSION"]);
        let log = tree(&["000000010000000000000001"]);
        symlink(log.path(), data.path().join("pg_wal")).unwrap();
        let source = Source::look(data.path(), 131_072, "PG_15_202209061").unwrap();
        assert_eq!(paths(&source), ["PG_VERSION"]);
        symlink("/etc/hostname", data.path().join("postgresql.conf")).unwrap();
        let error = Source::look(data.path(), 131_072, "PG_15_202209061").unwrap_err();
        assert!(error.to_string().contains("postgresql.conf"), "{error}");
    }
}
