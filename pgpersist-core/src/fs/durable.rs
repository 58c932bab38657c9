//! Files that must survive: written beside, fsynced, renamed, and the folder fsynced. Nobody else renames or deletes.
//!
//! After a crash at any moment a name shows either the old content or the new one. What an interrupted write leaves
//! behind is a temporary file that ends in [`TEMPORARY_SUFFIX`]; its writer holds an flock on it as long as it lives, so
//! [`leftovers::sweep`](crate::fs::leftovers::sweep) can tell a leftover from work in progress.
//!
//! Where we are root and the folder is somebody else's, all of this is done as that somebody (see `fs/on_behalf.rs`): the file
//! is its owner's before it has a name.

#![expect(clippy::disallowed_methods, reason = "this is the module that the bans point to")]

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};

use crate::error::{Error, Result};
use crate::fs::mounts;
use crate::fs::on_behalf::as_owner;
use crate::fs::walk::Walk;

/// How the name of an unpublished file ends.
pub const TEMPORARY_SUFFIX: &str = ".pgpersist-tmp";

/// A file in the making. It gets its name when it is published and vanishes when it is dropped before.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    published: bool,
}

impl NewFile {
    /// Creates the temporary file beside `target`, with permission bits `mode`.
    ///
    /// # Errors
    /// [`Error::File`] when the folder does not exist, is not writable or is full.
    pub fn create(target: &Path, mode: u32) -> Result<Self> {
        let folder = parent(target)?;
        as_owner(folder, || Self::create_in(folder, target, mode))
    }

    fn create_in(folder: &Path, target: &Path, mode: u32) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| no_name(target))?;
        loop {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{:08x}{TEMPORARY_SUFFIX}", rand::random::<u32>()));
            let temporary = folder.join(hidden);
            let opened = OpenOptions::new().write(true).read(true).create_new(true).mode(mode).open(&temporary);
            let file = match opened {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::file("create", target, error)),
            };
            let new = Self { file, temporary, target: target.to_owned(), published: false };
            // Some file systems know no flock; there a sweep leaves what it finds.
            let _ = rustix::fs::flock(&new.file, FlockOperation::NonBlockingLockExclusive);
            new.file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| Error::file("set the permissions of", target, e))?;
            return Ok(new);
        }
    }

    /// The open file, for reading back or for calls that `Write` lacks.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the file durable under its name, replacing what is there.
    ///
    /// # Errors
    /// [`Error::File`]; the name then still shows the old content, or nothing.
    pub fn publish(self) -> Result<()> {
        self.publish_with(RenameFlags::empty())
    }

    /// Makes the file durable under its name, unless the name is taken.
    ///
    /// # Errors
    /// [`Error::File`] with `AlreadyExists` when the name is taken, whatever it holds.
    pub fn publish_new(self) -> Result<()> {
        self.publish_with(RenameFlags::NOREPLACE)
    }

    fn publish_with(mut self, flags: RenameFlags) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::file("fsync", &self.target, e))?;
        let folder = parent(&self.target)?;
        as_owner(folder, || rename_with(&self.temporary, &self.target, flags).map_err(|e| Error::file("publish", &self.target, e)))?;
        self.published = true;
        sync_directory(folder)
    }
}

/// A whole file that waits for a few bytes and for its name, for a child process between fork and exec: there nothing
/// may allocate or take a lock, so all that publishing needs is made beforehand.
#[derive(Debug)]
pub struct PreparedFile {
    new: NewFile,
    /// Names in the open folder: the child may still be root, and nobody can exchange what these lead to.
    temporary: CString,
    target: CString,
    folder: File,
}

impl PreparedFile {
    /// Prepares a file with this content, to be published by a child.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(target: &Path, content: &[u8], mode: u32) -> Result<Self> {
        let mut new = NewFile::create(target, mode)?;
        new.write_all(content).map_err(|e| Error::file("write", target, e))?;
        let folder = File::open(parent(target)?).map_err(|e| Error::file("open the folder of", target, e))?;
        let name = |path: &Path| {
            let name = path.file_name().ok_or_else(|| no_name(path))?;
            CString::new(name.as_bytes()).map_err(|_| no_name(path))
        };
        Ok(Self { temporary: name(&new.temporary)?, target: name(target)?, new, folder })
    }

    /// Overwrites bytes at `offset` and publishes the file durably. Async-signal-safe.
    ///
    /// # Errors
    /// What the system said.
    pub fn publish_patched(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        rustix::io::pwrite(&self.new.file, bytes, offset)?;
        rustix::fs::fsync(&self.new.file)?;
        rustix::fs::renameat(&self.folder, self.temporary.as_c_str(), &self.folder, self.target.as_c_str())?;
        rustix::fs::fsync(&self.folder)?;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing can be done about a failure here; the next sweep finds the file.
            let _ = parent(&self.temporary).and_then(|folder| {
                as_owner(folder, || fs::remove_file(&self.temporary).map_err(|e| Error::file("remove", &self.temporary, e)))
            });
        }
    }
}

/// Writes a small file durably, replacing what is there.
///
/// # Errors
/// [`Error::File`]; the old content, if any, is then untouched.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut file = NewFile::create(path, mode)?;
    file.write_all(bytes).map_err(|e| Error::file("write", path, e))?;
    file.publish()
}

/// Writes a small file durably, unless the name is taken.
///
/// # Errors
/// [`Error::File`] with `AlreadyExists` when the name is taken.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut file = NewFile::create(path, mode)?;
    file.write_all(bytes).map_err(|e| Error::file("write", path, e))?;
    file.publish_new()
}

/// Renames a file or directory on one file system and makes both folders durable. An empty directory at `to` is replaced.
///
/// # Errors
/// [`Error::File`]; nothing has moved then, or the move is complete but its durability is unknown.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    as_owner(parent(to)?, || fs::rename(from, to).map_err(|e| Error::file("rename", from, e)))?;
    sync_both(from, to)
}

/// Like [`rename`], but never replaces anything.
///
/// # Errors
/// [`Error::File`] with `AlreadyExists` when `to` exists.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    as_owner(parent(to)?, || rename_with(from, to, RenameFlags::NOREPLACE).map_err(|e| Error::file("rename to", to, e)))?;
    sync_both(from, to)
}

/// Sets the permission bits of a file or directory durably.
///
/// # Errors
/// [`Error::File`], also when it belongs to somebody else.
pub fn set_permissions(path: &Path, mode: u32) -> Result<()> {
    as_owner(path, || {
        let file = File::open(path).map_err(|e| Error::file("open", path, e))?;
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| Error::file("set the permissions of", path, e))?;
        file.sync_all().map_err(|e| Error::file("fsync", path, e))
    })
}

/// Removes a file durably. One that is already gone is fine.
///
/// # Errors
/// [`Error::File`].
pub fn remove_file(path: &Path) -> Result<()> {
    gone(path, || fs::remove_file(path))
}

/// Removes an empty directory durably. One that is already gone is fine.
///
/// # Errors
/// [`Error::File`], also when it is not empty.
pub fn remove_directory(path: &Path) -> Result<()> {
    gone(path, || fs::remove_dir(path))
}

/// Removes a name, and makes that durable.
fn gone(path: &Path, remove: impl FnOnce() -> io::Result<()> + Send) -> Result<()> {
    let folder = parent(path)?;
    as_owner(folder, || match remove() {
        Ok(()) => sync_directory(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file("remove", path, error)),
    })
}

/// Removes a directory tree of our own. Symbolic links are removed, not followed, and another file system mounted inside
/// is refused, not emptied. A tree that is already gone is fine.
///
/// # Errors
/// [`Error::File`]; part of the tree may be gone then, and the call can be repeated.
pub fn remove_tree(path: &Path) -> Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("look at", path, error)),
    };
    if !metadata.is_dir() {
        return remove_file(path);
    }
    // What is in it goes as its own owner, who may be another one than that of the folder that names it.
    as_owner(path, || empty(path, &metadata, metadata.dev()))?;
    remove_directory(path)
}

fn remove_below(path: &Path, metadata: &fs::Metadata, device: u64) -> Result<()> {
    if !metadata.is_dir() {
        return fs::remove_file(path).map_err(|e| Error::file("remove", path, e));
    }
    empty(path, metadata, device)?;
    fs::remove_dir(path).map_err(|e| Error::file("remove", path, e))
}

fn empty(path: &Path, metadata: &fs::Metadata, device: u64) -> Result<()> {
    if metadata.dev() != device {
        return Err(Error::conflict(
            format!("{} is another file system, mounted inside the tree to be removed", path.display()),
            "unmount it first",
        ));
    }
    let entries = fs::read_dir(path).map_err(|e| Error::file("list", path, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::file("list", path, e))?;
        let metadata = entry.metadata().map_err(|e| Error::file("look at", entry.path(), e))?;
        remove_below(&entry.path(), &metadata, device)?;
    }
    Ok(())
}

/// Creates one directory durably, with permission bits `mode`. An existing one is kept as it is.
///
/// # Errors
/// [`Error::File`] when the parent does not exist or something else has the name.
pub fn create_directory(path: &Path, mode: u32) -> Result<()> {
    let folder = parent(path)?;
    as_owner(folder, || match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => sync_directory(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(Error::file("create the directory", path, error)),
    })
}

/// Creates a directory and what is missing above it, durably, all with permission bits `mode`.
///
/// # Errors
/// [`Error::File`].
pub fn create_directories(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_directories(above, mode)?;
    }
    create_directory(path, mode)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// [`Error::File`].
pub fn sync_directory(path: &Path) -> Result<()> {
    let directory = File::open(path).map_err(|e| Error::file("open", path, e))?;
    match directory.sync_all() {
        // Some network file systems cannot fsync a directory; there is nothing more to do on them.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result.map_err(|e| Error::file("fsync", path, e)),
    }
}

/// Makes a whole tree durable, files and directories. Where the kernel itself writes to the disk or the server that is one
/// `syncfs`, which is ten times as fast as an fsync of each of a cluster's files and reports write errors since Linux 5.8;
/// elsewhere it is an fsync of each.
///
/// # Errors
/// [`Error::File`].
pub fn sync_tree(path: &Path) -> Result<()> {
    if !syncs_as_a_whole(&mounts::mount_of(path)?.fs_type) {
        return sync_each(path);
    }
    let directory = File::open(path).map_err(|e| Error::file("open", path, e))?;
    rustix::fs::syncfs(&directory).map_err(|e| Error::file("sync the file system of", path, e.into()))?;
    sync_directory(path)
}

/// Makes some files of a tree durable, with their names in the folders that hold them.
///
/// # Errors
/// [`Error::File`].
pub fn sync_files<'a>(tree: &Path, files: impl Iterator<Item = &'a Path>) -> Result<()> {
    if syncs_as_a_whole(&mounts::mount_of(tree)?.fs_type) {
        return sync_tree(tree);
    }
    let mut folders = BTreeSet::new();
    for file in files {
        sync_file(&tree.join(file))?;
        folders.insert(tree.join(file).parent().unwrap_or(tree).to_owned());
    }
    folders.iter().try_for_each(|folder| sync_directory(folder))
}

fn sync_file(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::file("open", path, e))?;
    file.sync_all().map_err(|e| Error::file("fsync", path, e))
}

/// Whether `syncfs` makes data durable on a kind of file system. The servers of FUSE and 9p are handed the data and not told
/// to make it durable; of what nobody has looked at nothing is known.
fn syncs_as_a_whole(fs_type: &str) -> bool {
    let local = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "overlay", "tmpfs", "ramfs"];
    local.contains(&fs_type) || matches!(fs_type, "nfs" | "nfs4")
}

/// Each file before the folder that names it. Links are names, and what they lead to is not part of the tree.
fn sync_each(path: &Path) -> Result<()> {
    let mut folders = vec![path.to_owned()];
    for entry in Walk::new(path)? {
        let entry = entry?;
        if entry.metadata.is_dir() {
            folders.push(entry.path);
        } else if entry.metadata.is_file() {
            sync_file(&entry.path)?;
        }
    }
    folders.iter().rev().try_for_each(|folder| sync_directory(folder))
}

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    if flags.is_empty() {
        return fs::rename(from, to);
    }
    match rustix::fs::renameat_with(CWD, from, CWD, to, flags) {
        // Network file systems know no flags.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if flags.contains(RenameFlags::NOREPLACE) => {
            rename_without_flags(from, to)
        }
        result => Ok(result?),
    }
}

/// A hard link refuses an existing name just as well, for all but directories. Of those only we make any in the places that
/// we publish to, under a claim, so a look beforehand is enough.
fn rename_without_flags(from: &Path, to: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(from)?.is_dir() {
        fs::hard_link(from, to)?;
        return fs::remove_file(from);
    }
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

fn sync_both(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (parent(from)?, parent(to)?);
    sync_directory(to)?;
    if from == to { Ok(()) } else { sync_directory(from) }
}

pub(super) fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(above) => Ok(above),
        None => Err(no_name(path)),
    }
}

fn no_name(path: &Path) -> Error {
    Error::invalid(format!("`{}` names no file", path.display()), "name a file or directory below the root")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_name_shows_the_old_content_until_the_new_one_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card");
        write(&path, b"old", 0o600).unwrap();
        let mut new = NewFile::create(&path, 0o600).unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        new.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["card"]);
    }

    #[test]
    fn publish_new_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card");
        write_new(&path, b"first", 0o600).unwrap();
        let error = write_new(&path, b"second", 0o600).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["card"]);
    }

    #[test]
    fn whatever_root_makes_in_somebodys_folder_is_that_somebodys() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::chown(folder.path(), Some(54_321), Some(54_321)).unwrap();
        create_directories(&path("a/b"), 0o700).unwrap();
        write(&path("a/b/file"), b"x", 0o600).unwrap();
        PreparedFile::create(&path("a/prepared"), b"xxx", 0o600).unwrap().publish_patched(b"y", 1).unwrap();
        rename(&path("a/b/file"), &path("a/renamed")).unwrap();
        assert_eq!(fs::read(path("a/prepared")).unwrap(), b"xyx");
        for name in ["a", "a/b", "a/renamed", "a/prepared"] {
            let metadata = fs::metadata(path(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (54_321, 54_321), "{name}");
        }
        // A folder that has become a link leads to nothing of root's.
        let roots = tempfile::tempdir().unwrap();
        fs::create_dir(roots.path().join("tree")).unwrap();
        std::os::unix::fs::symlink(roots.path(), path("a/link")).unwrap();
        std::os::unix::fs::lchown(path("a/link"), Some(54_321), Some(54_321)).unwrap();
        assert!(write(&path("a/link/file"), b"x", 0o600).is_err());
        assert!(create_directory(&path("a/link/made"), 0o700).is_err());
        assert!(remove_tree(&path("a/link/tree")).is_err());
        assert_eq!(names(roots.path()), ["tree"]);
        remove_tree(&path("a")).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn where_rename_knows_no_flags_nothing_is_replaced_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["from/below", "taken/mine"] {
            create_directories(path(name).parent().unwrap(), 0o700).unwrap();
            write(&path(name), name.as_bytes(), 0o600).unwrap();
        }
        let error = rename_without_flags(&path("from"), &path("taken")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        create_directory(&path("empty"), 0o700).unwrap();
        assert!(rename_without_flags(&path("from"), &path("empty")).is_err());
        rename_without_flags(&path("from"), &path("to")).unwrap();
        assert_eq!(fs::read(path("to/below")).unwrap(), b"from/below");
        let error = rename_without_flags(&path("to/below"), &path("taken/mine")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        rename_without_flags(&path("to/below"), &path("to/here")).unwrap();
        assert_eq!((names(&path("to")), fs::read(path("taken/mine")).unwrap()), (vec!["here".to_owned()], b"taken/mine".to_vec()));
    }

    #[test]
    fn a_tree_is_synced_as_a_whole_only_where_that_is_known_to_reach_the_disk() {
        for fs_type in ["ext4", "xfs", "btrfs", "zfs", "overlay", "nfs4"] {
            assert!(syncs_as_a_whole(fs_type), "{fs_type}");
        }
        for fs_type in ["fuse.gcsfuse", "fuse.sshfs", "fuseblk", "9p", "virtiofs", "cifs", "somethingnew"] {
            assert!(!syncs_as_a_whole(fs_type), "{fs_type}");
        }
        let folder = tempfile::tempdir().unwrap();
        create_directories(&folder.path().join("a/b"), 0o700).unwrap();
        write(&folder.path().join("a/b/file"), b"x", 0o400).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("a/link")).unwrap();
        sync_each(folder.path()).unwrap();
        sync_tree(folder.path()).unwrap();
        assert!(sync_each(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn remove_tree_removes_links_and_not_what_they_point_to() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        write(&outside.join("precious"), b"x", 0o600).unwrap();
        let tree = folder.path().join("tree");
        create_directories(&tree.join("a/b"), 0o700).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("precious").exists());
        remove_tree(&tree).unwrap();
    }
}
