//! What there is to know before a migration is decided: looked at, never touched.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::data_directory::identity::IdentityCard;
use crate::data_directory::own_folder::{OwnFolder, Whereabouts};
use crate::data_directory::placement::{self, Placement};
use crate::data_directory::state::{MIGRATED_CONTROL_FILE, State};
use crate::error::{Error, Result};
use crate::fs::{lock_file, mounts, space::Space};
use crate::migrate::command_line::CommandLine;
use crate::migrate::configuration::{self, MAIN};
use crate::migrate::debian::DebianCluster;
use crate::migrate::folder::{MigrationFolder, MigrationMarker, MigrationRecord};
use crate::migrate::source_server::StopMethod;
use crate::migrate::source_tree::SourceTree;
use crate::pg::control_file::ControlFile;
use crate::server::process::Presence;

/// The source.
#[derive(Debug)]
pub(crate) struct SourceFacts {
    pub(crate) directory: PathBuf,
    pub(crate) state: State,
    /// The system identifier in the control file that an earlier migration set aside.
    pub(crate) set_aside: Option<u64>,
    /// The running server: its process and how to stop it.
    pub(crate) running: Option<(i32, StopMethod)>,
    /// The `postgresql.conf` in effect; `None` where none was found.
    pub(crate) configuration: Option<PathBuf>,
    /// What its server was last started with.
    pub(crate) command_line: CommandLine,
    /// The cluster as Debian's tools know it.
    pub(crate) debian: Option<DebianCluster>,
    /// Its databases, as far as its own card tells.
    pub(crate) databases: Vec<String>,
    /// Its files; `None` where it is no cluster.
    pub(crate) tree: Option<TreeFacts>,
}

/// What a tree is, without the list of its files.
#[derive(Debug, Clone, Default)]
pub(crate) struct TreeFacts {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) folders: u64,
    pub(crate) tablespaces: Vec<(String, PathBuf)>,
    pub(crate) warnings: Vec<String>,
    /// A name at the top that is no text.
    pub(crate) odd_name: Option<PathBuf>,
}

/// The target.
#[derive(Debug)]
pub(crate) struct TargetFacts {
    pub(crate) directory: PathBuf,
    pub(crate) state: State,
    pub(crate) whereabouts: Whereabouts,
    /// What keeps an empty directory from being replaced by a rename, such as `lost+found`.
    pub(crate) in_the_way: Option<String>,
    pub(crate) space: Space,
    /// Bytes and files that an earlier run copied already.
    pub(crate) copied: (u64, u64),
    pub(crate) marker: Option<MigrationMarker>,
    pub(crate) record: Option<MigrationRecord>,
    pub(crate) card: Option<IdentityCard>,
    pub(crate) placement: Placement,
    /// The folder of the unfinished migration, for people.
    pub(crate) folder: PathBuf,
}

impl SourceFacts {
    /// Looks at a source. Blocking.
    pub(crate) fn look(directory: &Path, own: &OwnFolder, etc_root: &Path) -> Result<Self> {
        let state = State::of(directory, own)?;
        let debian = DebianCluster::find(etc_root, directory)?;
        let started_by_us = !lock_file::is_free(&own.server_lock())?;
        let running = Presence::of(directory)?.running().map(|p| (p.pid, StopMethod::of(p.pid, started_by_us, debian.as_ref())));
        let tree = match state {
            State::Cluster(_) => Some(TreeFacts::of(&SourceTree::read(directory)?)),
            _ => None,
        };
        let command_line = CommandLine::of(directory)?;
        let configuration = configuration(directory, &command_line, debian.as_ref());
        if let (Some(main), Some(_)) = (&configuration, &tree) {
            // What cannot be brought along is told now, not when the server has been stopped for it.
            configuration::gather(main, directory, &command_line.settings)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            set_aside: set_aside(directory)?,
            configuration,
            command_line,
            // A card that cannot be read costs the list of databases, no more.
            databases: IdentityCard::read(own).ok().flatten().map(|card| card.databases).unwrap_or_default(),
            state,
            running,
            debian,
            tree,
        })
    }
}

impl TreeFacts {
    pub(crate) fn of(tree: &SourceTree) -> Self {
        let top = tree.files.iter().map(|file| &file.relative).chain(tree.folders.iter().map(|(folder, _)| folder));
        Self {
            bytes: tree.bytes,
            files: tree.files.len() as u64,
            folders: tree.folders.len() as u64,
            tablespaces: tree.tablespaces.clone(),
            warnings: tree.warnings.clone(),
            odd_name: top.filter(|path| path.components().count() == 1).find(|path| path.to_str().is_none()).cloned(),
        }
    }
}

impl TargetFacts {
    /// Looks at a target. Blocking.
    pub(crate) fn look(directory: &Path, own: &OwnFolder) -> Result<Self> {
        let folder = MigrationFolder::of(own);
        let copied = match crate::fs::walk::tree_size(&folder.data()) {
            Ok(size) => (size.bytes, size.files),
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(error) => return Err(error),
        };
        Ok(Self {
            directory: directory.to_owned(),
            state: State::of(directory, own)?,
            whereabouts: own.whereabouts(),
            in_the_way: match own.whereabouts() {
                Whereabouts::Beside => {
                    fs::read_dir(directory).into_iter().flatten().flatten().next().map(|e| e.file_name().to_string_lossy().into_owned())
                }
                Whereabouts::Inside => None,
            },
            space: Space::of(own.path())?,
            copied,
            marker: folder.marker()?,
            record: folder.record()?,
            card: IdentityCard::read(own)?,
            placement: placement::of(directory)?,
            folder: folder.path(),
        })
    }
}

/// Whether the times of a file system's files come from this machine's clock: elsewhere they prove nothing about when a
/// file changed by ours.
pub(crate) fn times_are_ours(path: &Path) -> Result<bool> {
    let local = ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "overlay", "tmpfs"];
    Ok(local.contains(&mounts::mount_of(path)?.fs_type.as_str()))
}

/// Who owns the source, where we are root and may give the copy away.
pub(crate) fn owner(source: &Path) -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let metadata = fs::metadata(source).map_err(|e| Error::file("look at", source, e))?;
    Ok(Some((metadata.uid(), metadata.gid())))
}

fn set_aside(directory: &Path) -> Result<Option<u64>> {
    let path = directory.join(MIGRATED_CONTROL_FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(ControlFile::parse(&bytes).ok().map(|control| control.system_identifier)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

/// The `postgresql.conf` in effect: that of the last start, else the one in the data directory, else Debian's.
fn configuration(directory: &Path, command_line: &CommandLine, debian: Option<&DebianCluster>) -> Option<PathBuf> {
    let started_with = command_line.config_file.as_ref().map(|path| directory.join(path)).filter(|path| path.is_file());
    let inside = Some(directory.join(MAIN)).filter(|path| path.is_file());
    let of_debian = debian.map(|cluster| cluster.folder.join(MAIN));
    started_with.or(inside).or(of_debian)
}
