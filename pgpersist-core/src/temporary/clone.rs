//! Copying a template into a new data directory, with a system identifier of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::pg::{control_file, wal_page};
use crate::server::os_user::OsUser;
use crate::temporary::template::Template;

/// Most of the time goes into creating a thousand files, which two threads do nearly twice as fast as one; more of them
/// wait for each other at the file system's journal.
const THREADS: usize = 2;

/// A system identifier as `initdb` would make one: the seconds since 1970, and bits that nobody else has.
pub(crate) fn fresh_system_identifier() -> u64 {
    let seconds = u64::try_from(SystemClock.now().unix_timestamp()).unwrap_or(0);
    seconds << 32 | u64::from(rand::random::<u32>())
}

/// Copies a template into a directory that does not exist yet. Nothing is synced: a crash of the machine leaves a
/// scratch folder that the next sweep removes. Blocking.
///
/// # Errors
/// [`Error::Damaged`] when the template is not what its list says; [`Error::File`] otherwise.
pub(crate) fn clone(template: &Template, directory: &Path, system_identifier: u64, owner: Option<&OsUser>) -> Result<()> {
    let copy = Copy { template, directory, owner };
    copy.make_directory(directory)?;
    for folder in template.directories() {
        copy.make_directory(&directory.join(folder))?;
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(file) = template.files().get(next.fetch_add(1, Ordering::Relaxed)) {
                copy.file(&file.path, file.bytes)?;
            }
            Ok(())
        };
        let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        let mine = work();
        others.into_iter().fold(mine, |result, other| {
            let theirs = other.join().unwrap_or_else(|_| Err(Error::Bug("a copying thread panicked".to_owned())));
            result.and(theirs)
        })
    })?;
    copy.identify(system_identifier)
}

struct Copy<'a> {
    template: &'a Template,
    directory: &'a Path,
    owner: Option<&'a OsUser>,
}

impl Copy<'_> {
    fn make_directory(&self, path: &Path) -> Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path).map_err(|e| Error::file("create the directory", path, e))?;
        match self.owner {
            Some(user) => {
                std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).map_err(|e| Error::file("set the owner of", path, e))
            }
            None => Ok(()),
        }
    }

    fn file(&self, name: &str, bytes: u64) -> Result<()> {
        let (source, target) = (self.template.path().join(name), self.directory.join(name));
        let from = open_no_follow(&source).map_err(|e| damaged(&source, &e.to_string()))?;
        let to =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).map_err(|e| Error::file("create", &target, e))?;
        if let Some(user) = self.owner {
            std::os::unix::fs::fchown(&to, Some(user.uid), Some(user.gid)).map_err(|e| Error::file("set the owner of", &target, e))?;
        }
        let copied = copy_content(&from, &to, bytes).map_err(|e| Error::file("copy to", &target, e))?;
        if copied == bytes { Ok(()) } else { Err(damaged(&source, &format!("it has {copied} bytes instead of {bytes}"))) }
    }

    /// Gives the copy its identifier, in the control file and in the segments that a start reads: they name each other.
    fn identify(&self, id: u64) -> Result<()> {
        let control = self.directory.join("global/pg_control");
        let bytes = fs::read(&control).map_err(|e| Error::file("read", &control, e))?;
        let changed = control_file::with_system_identifier(&bytes, id).map_err(|e| damaged(&control, &e.to_string()))?;
        let file = OpenOptions::new().write(true).open(&control).map_err(|e| Error::file("open", &control, e))?;
        file.write_all_at(&changed, 0).map_err(|e| Error::file("write", &control, e))?;
        for name in self.template.wal_segments() {
            let path = self.directory.join("pg_wal").join(name);
            let segment = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| Error::file("open", &path, e))?;
            let mut header = [0; wal_page::LONG_HEADER_SIZE];
            segment.read_exact_at(&mut header, 0).map_err(|e| Error::file("read", &path, e))?;
            let changed = wal_page::with_system_identifier(&header, id).ok_or_else(|| damaged(&path, "it has no page header"))?;
            segment.write_all_at(&changed, 0).map_err(|e| Error::file("write", &path, e))?;
        }
        Ok(())
    }
}

fn open_no_follow(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)
}

/// Copies a file's content and says how much there was, up to a byte more than expected. The kernel shares the blocks
/// where the file system can (XFS, Btrfs), and else copies them without a way through us.
fn copy_content(mut from: &File, mut to: &File, expected: u64) -> io::Result<u64> {
    let mut copied = 0;
    while copied <= expected {
        let wanted = usize::try_from(expected - copied + 1).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from.as_fd(), None, to.as_fd(), None, wanted) {
            Ok(0) => break,
            Ok(length) => copied += length as u64,
            Err(Errno::INTR) => {}
            // Two file systems, or one that cannot: through us.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if copied == 0 => {
                let mut buffer = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
                Read::take(&mut from, expected + 1).read_to_end(&mut buffer)?;
                to.write_all(&buffer)?;
                return Ok(buffer.len() as u64);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(copied)
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::damaged(format!("{} is no good part of a template: {why}", path.display()), "remove the template; the next start makes it anew")
}
