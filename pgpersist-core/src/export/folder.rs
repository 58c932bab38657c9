//! [`Folder`]: an export as a plain directory, made beside its place and renamed into it when it is whole and durable.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::export::sink::{NextFile, Sink};
use crate::fs::durable::{self, TEMPORARY_SUFFIX};
use crate::fs::lock_file::LockFile;
use crate::repo::entry::EntryPath;

/// How long one that was given up may take to go away.
const PATIENCE: Duration = Duration::from_secs(2);

/// A directory in the making.
#[derive(Debug)]
pub struct Folder {
    target: PathBuf,
    staging: PathBuf,
    file: Option<(File, PathBuf)>,
    published: bool,
    /// Tells another export from one that was interrupted.
    _lock: LockFile,
}

impl Folder {
    /// Begins beside `target`, which is absent or empty. What an interrupted export has left there goes.
    ///
    /// # Errors
    /// `Unsafe` when there is something at `target`, `Conflict` when another export goes there; [`Error::File`].
    pub fn at(target: &Path) -> Result<Self> {
        refuse_occupied(target)?;
        let target = std::path::absolute(target).map_err(|error| Error::file("find", target, error))?;
        let nameless = || Error::invalid(format!("{} is no place for a directory", target.display()), "name a new directory");
        let mut hidden = OsString::from(".");
        hidden.push(target.file_name().ok_or_else(nameless)?);
        hidden.push(format!(".export{TEMPORARY_SUFFIX}"));
        let staging = target.with_file_name(hidden);
        let lock = lock(&staging, &target)?;
        for entry in std::fs::read_dir(&staging).map_err(|error| Error::file("list", &staging, error))? {
            durable::remove_tree(&entry.map_err(|error| Error::file("list", &staging, error))?.path())?;
        }
        Ok(Self { target, staging, file: None, published: false, _lock: lock })
    }

    fn place(&self, path: &EntryPath) -> PathBuf {
        // An entry's path has no part that leads up or starts anew.
        self.staging.join(OsStr::from_bytes(path.as_bytes()))
    }

    fn current(&mut self) -> Result<(&mut File, &Path)> {
        let current = self.file.as_mut().map(|(file, path)| (file, path.as_path()));
        current.ok_or_else(|| Error::Bug("bytes come without a file".to_owned()))
    }
}

/// Makes the folder and locks it. One that nobody waits for any more may still be taking its own away: then that folder goes between the two
/// steps, or is held for a moment longer.
fn lock(staging: &Path, target: &Path) -> Result<LockFile> {
    let began = Instant::now();
    loop {
        durable::create_directory(staging, 0o700)?;
        let is_late = began.elapsed() >= PATIENCE;
        match LockFile::try_lock_folder(staging) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if is_late => {
                return Err(Error::conflict(format!("another export to {} is at work", target.display()), "wait for it"));
            }
            Err(error) if is_late || error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Whether an export may go there. Looks only.
///
/// # Errors
/// `Unsafe` when there is something; [`Error::File`].
pub fn refuse_occupied(target: &Path) -> Result<()> {
    let occupied = || Error::refused(format!("{} is not empty", target.display()), "export into an absent or empty directory");
    match std::fs::read_dir(target) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(occupied());
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(occupied()),
        Err(error) => Err(Error::file("list", target, error)),
    }
}

impl Sink for Folder {
    fn folder(&mut self, path: &EntryPath, mode: u32) -> Result<()> {
        let path = self.place(path);
        let made = DirBuilder::new().mode(mode).create(&path);
        made.and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)))
            .map_err(|error| Error::file("create the folder", &path, error))
    }

    fn begin(&mut self, file: &NextFile) -> Result<()> {
        let path = self.place(&file.path);
        let failed = |error| Error::file("create", &path, error);
        let opened = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&path).map_err(failed)?;
        opened.set_permissions(PermissionsExt::from_mode(file.mode)).map_err(failed)?;
        // What is all zero becomes a hole.
        opened.set_len(file.size).map_err(failed)?;
        self.file = Some((opened, path));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (file, path) = self.current()?;
        file.write_all(bytes).map_err(|error| Error::file("write", path, error))
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        let (file, path) = self.current()?;
        let count = i64::try_from(count).map_err(|_| Error::Bug("a file is longer than files are".to_owned()))?;
        file.seek(SeekFrom::Current(count)).map(drop).map_err(|error| Error::file("write", path, error))
    }

    fn end(&mut self) -> Result<()> {
        self.file = None;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        durable::sync_tree(&self.staging)?;
        // An empty directory is replaced, and nothing else.
        durable::rename(&self.staging, &self.target)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.published {
            // The error of the export is what matters; what cannot be removed now, the next one removes.
            let _ = durable::remove_tree(&self.staging);
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn file(text: &str, size: u64) -> NextFile {
        NextFile { path: path(text), mode: 0o640, size, modified_at: OffsetDateTime::UNIX_EPOCH }
    }

    fn fill(sink: &mut Folder) {
        sink.folder(&path("base"), 0o750).unwrap();
        sink.begin(&file("base/1", 10)).unwrap();
        sink.write(b"abc").unwrap();
        sink.zeros(4).unwrap();
        sink.write(b"xyz").unwrap();
        sink.end().unwrap();
    }

    #[test]
    fn nothing_is_seen_before_all_is_there_and_then_all_of_it() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("export");
        std::fs::create_dir(&target).unwrap();
        let mut sink = Folder::at(&target).unwrap();
        fill(&mut sink);
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
        assert_eq!(Folder::at(&target).unwrap_err().kind(), ErrorKind::Conflict);
        Box::new(sink).finish().unwrap();
        assert_eq!(std::fs::read(target.join("base/1")).unwrap(), b"abc\0\0\0\0xyz");
        let mode = |path: &str| std::fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("base"), mode("base/1")), (0o750, 0o640));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
        assert_eq!(Folder::at(&target).unwrap_err().kind(), ErrorKind::Unsafe);
    }

    #[test]
    fn one_that_is_being_given_up_is_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("export");
        let mut given_up = Folder::at(&target).unwrap();
        fill(&mut given_up);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                drop(given_up);
            });
            fill(&mut Folder::at(&target).unwrap());
        });
        // The folder goes and comes under whoever is about to lock it.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..200).for_each(|_| drop(Folder::at(&target).unwrap())));
            }
        });
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_dropped_leaves_nothing_and_what_was_left_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("export");
        let left = scratch.path().join(format!(".export.export{TEMPORARY_SUFFIX}/base"));
        std::fs::create_dir_all(&left).unwrap();
        let mut sink = Folder::at(&target).unwrap();
        fill(&mut sink);
        drop(sink);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
