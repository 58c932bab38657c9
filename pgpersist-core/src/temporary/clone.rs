//! Copying a template into a new data directory, with a system identifier of its own.
//!
//! In two steps: what a server reads when it starts is a tenth of the files, so the databases can be copied while it starts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::fs::on_behalf::as_owner;
use crate::fs::os_user::OsUser;
use crate::pg::{control_file, wal_page};
use crate::temporary::template::{ListedFile, Template};

/// Nearly all of the time goes into creating a thousand files, which two threads do nearly twice as fast as one; more of
/// them wait for each other at the file system's journal.
const THREADS: usize = 2;

/// A system identifier as `initdb` would make one: the seconds since 1970, and bits that nobody else has.
pub(crate) fn fresh_system_identifier() -> u64 {
    let seconds = u64::try_from(SystemClock.now().unix_timestamp()).unwrap_or(0);
    seconds << 32 | u64::from(rand::random::<u32>())
}

/// A copy in the making. Files are made through descriptors of their folders, which nobody can exchange for others: while
/// the databases are copied, the server's user may already do in there what it likes, and we may be root.
///
/// Nothing is synced: a crash of the machine leaves a scratch folder, which the next sweep removes.
#[derive(Debug)]
pub(crate) struct Copying {
    template: Template,
    directory: PathBuf,
    owner: Option<(Uid, Gid)>,
    /// The template's folders and ours, in the order of its list.
    folders: Vec<(OwnedFd, OwnedFd)>,
}

impl Copying {
    /// Makes the data directory, which must not exist, and its folders. Blocking.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the template is not what its list says; [`Error::File`] otherwise.
    pub(crate) fn begin(template: Template, directory: &Path, owner: Option<&OsUser>) -> Result<Self> {
        let owner = owner.map(|user| (Uid::from_raw(user.uid), Gid::from_raw(user.gid)));
        let names = template.directories();
        let mut folders: Vec<(OwnedFd, OwnedFd)> = Vec::with_capacity(names.len());
        for name in names {
            let (source, target) = (template.path().join(name), directory.join(name));
            let from = rustix::fs::open(&source, FOLDER, Mode::empty()).map_err(|e| damaged(&source, e.into()))?;
            let (above, last) = name.rsplit_once('/').unwrap_or(("", name));
            let to = match names.iter().take(folders.len()).position(|known| known == above) {
                Some(above) => make_folder(&folders[above].1, Path::new(last), &target)?,
                // The data directory itself.
                None => as_owner(directory.parent().unwrap_or(directory), || make_folder(CWD, directory, directory))?,
            };
            own(&to, owner).map_err(|e| Error::file("set the owner of", &target, e))?;
            folders.push((from, to));
        }
        Ok(Self { template, directory: directory.to_owned(), owner, folders })
    }

    /// Copies everything but the databases, and gives the copy its identifier. A server can be started then. Blocking.
    ///
    /// # Errors
    /// As [`Copying::begin`].
    pub(crate) fn essentials(&self, system_identifier: u64) -> Result<()> {
        self.template.files().iter().filter(|file| !self.template.is_of_database(file)).try_for_each(|file| self.file(file))?;
        self.identify(system_identifier)
    }

    /// Copies the databases. Blocking.
    ///
    /// # Errors
    /// As [`Copying::begin`].
    pub(crate) fn databases(&self) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(file) = self.template.files().get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.template.is_of_database(file) {
                    self.file(file)?;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
            let mine = work();
            others.into_iter().fold(mine, |result, other| {
                let theirs = other.join().unwrap_or_else(|_| Err(Error::Bug("a copying thread panicked".to_owned())));
                result.and(theirs)
            })
        })
    }

    fn file(&self, file: &ListedFile) -> Result<()> {
        let Some((source, target)) = self.folders.get(file.folder) else {
            return Err(Error::Bug(format!("`{}` lies in no folder of its template", file.name)));
        };
        let path = || self.directory.join(&self.template.directories()[file.folder]).join(&file.name);
        let to = rustix::fs::openat(target, &*file.name, OFlags::WRONLY | NEW, Mode::RUSR | Mode::WUSR)
            .map_err(|e| Error::file("create", path(), e.into()))?;
        own(&to, self.owner).map_err(|e| Error::file("set the owner of", path(), e))?;
        if file.bytes == 0 {
            return Ok(());
        }
        let from = rustix::fs::openat(source, &*file.name, FILE, Mode::empty()).map_err(|e| damaged(&self.source(file), e.into()))?;
        let copied = copy(&File::from(from), &File::from(to), file.bytes).map_err(|e| Error::file("copy to", path(), e))?;
        if copied == file.bytes {
            return Ok(());
        }
        let why = format!("it has {copied} bytes instead of {}", file.bytes);
        Err(damaged(&self.source(file), io::Error::new(io::ErrorKind::InvalidData, why)))
    }

    fn source(&self, file: &ListedFile) -> PathBuf {
        self.template.path().join(&self.template.directories()[file.folder]).join(&file.name)
    }

    /// Gives the copy its identifier, in the control file and in the segments that a start reads: they name each other.
    fn identify(&self, id: u64) -> Result<()> {
        let path = self.directory.join("global/pg_control");
        let control = File::options().read(true).write(true).open(&path).map_err(|e| Error::file("open", &path, e))?;
        let mut bytes = Vec::new();
        (&control).read_to_end(&mut bytes).map_err(|e| Error::file("read", &path, e))?;
        let changed =
            control_file::with_system_identifier(&bytes, id).map_err(|e| damaged(&path, io::Error::new(io::ErrorKind::InvalidData, e)))?;
        control.write_all_at(&changed, 0).map_err(|e| Error::file("write", &path, e))?;
        for name in self.template.wal_segments() {
            let path = self.directory.join("pg_wal").join(name);
            let segment = File::options().read(true).write(true).open(&path).map_err(|e| Error::file("open", &path, e))?;
            let mut header = [0; wal_page::LONG_HEADER_SIZE];
            segment.read_exact_at(&mut header, 0).map_err(|e| Error::file("read", &path, e))?;
            let changed = wal_page::with_system_identifier(&header, id)
                .ok_or_else(|| damaged(&path, io::Error::new(io::ErrorKind::InvalidData, "it has no page header")))?;
            segment.write_all_at(&changed, 0).map_err(|e| Error::file("write", &path, e))?;
        }
        Ok(())
    }
}

fn make_folder(at: impl AsFd, name: &Path, target: &Path) -> Result<OwnedFd> {
    rustix::fs::mkdirat(&at, name, Mode::RWXU).map_err(|e| Error::file("create the directory", target, e.into()))?;
    rustix::fs::openat(&at, name, FOLDER, Mode::empty()).map_err(|e| Error::file("open", target, e.into()))
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW: OFlags = OFlags::CREATE.union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn own(file: &OwnedFd, owner: Option<(Uid, Gid)>) -> io::Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

/// Copies a file's content and says how much of what was expected was there. The kernel shares the blocks where the file
/// system can (XFS, Btrfs), and else copies them without a way through us.
fn copy(mut from: &File, mut to: &File, expected: u64) -> io::Result<u64> {
    let mut copied = 0;
    while copied < expected {
        let wanted = usize::try_from(expected - copied).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from.as_fd(), None, to.as_fd(), None, wanted) {
            Ok(0) => break,
            Ok(length) => copied += length as u64,
            Err(Errno::INTR) => {}
            // Two file systems, or one that cannot: through us.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if copied == 0 => {
                let mut buffer = Vec::with_capacity(wanted);
                Read::take(&mut from, expected).read_to_end(&mut buffer)?;
                to.write_all(&buffer)?;
                return Ok(buffer.len() as u64);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(copied)
}

fn damaged(path: &Path, why: io::Error) -> Error {
    // A full table of open files or the like says nothing about the template.
    if !matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::NotADirectory) {
        return Error::file("read", path, why);
    }
    Error::damaged(format!("{} is no good part of a template: {why}", path.display()), "remove the template; the next start makes it anew")
}
