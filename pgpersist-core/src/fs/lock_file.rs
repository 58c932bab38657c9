//! A lock that is held as long as somebody has the file open: by us, and by whoever inherits the descriptor.
//!
//! It is an `flock(2)`: the kernel lets it go when the last copy of the descriptor is closed, however its holders end, and
//! it is seen across PID and IPC namespaces, since it lies on the file and not on a process number. A [`SoleLock`] is one that
//! nobody is to inherit.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fs::forked::Unshared;
use crate::fs::on_behalf::as_owner;

/// [`is_free`] holds the lock for an instant while it asks, and a child process has a copy of all our descriptors for an
/// instant before it executes its program. Whoever meets such an instant tries again.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// A lock that is held. Dropping it closes our descriptor; a process that inherited one keeps the lock.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock, or returns `None` when somebody holds it. Creates the file, empty and with permission bits `mode`, when
    /// it is absent; its content is never touched. Tries for some 50 ms, never longer.
    ///
    /// The descriptor closes on exec: to hand it to a child, that flag must be taken off in the child.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be opened, is a symbolic link, or lies where there are no locks.
    pub fn try_lock(path: &Path, mode: u32) -> Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(mode).custom_flags(no_follow());
        Self::try_open_and_lock(path, &options)
    }

    /// Takes the lock of a folder that exists, or returns `None` when somebody holds it. It lies on the folder itself, so it
    /// is the same by whichever way and through whichever mount the folder is reached.
    ///
    /// # Errors
    /// As [`LockFile::try_lock`].
    pub fn try_lock_folder(path: &Path) -> Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(no_follow() | OFlags::DIRECTORY.bits() as i32);
        Self::try_open_and_lock(path, &options)
    }

    fn try_open_and_lock(path: &Path, options: &OpenOptions) -> Result<Option<Self>> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let folder = path.parent().unwrap_or(path);
            let file = as_owner(folder, || options.open(path).map_err(|e| Error::file("open the lock", path, e)))?;
            // Somebody may have removed the file since it was opened: then the lock would be on a file without a name, and
            // the next one to come would lock another.
            if lock(&file, path, FlockOperation::NonBlockingLockExclusive)? && is_still(&file, path)? {
                return Ok(Some(Self { file, path: path.to_owned() }));
            }
        }
        Ok(None)
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for reading or writing what its holder wants to say about itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The same lock, for this process alone.
    pub fn sole(self) -> SoleLock {
        SoleLock { lock: Unshared::new(self), process: std::process::id() }
    }
}

/// A lock of one process: it ends when this is dropped, also while a child that was forked meanwhile has a copy of the descriptor.
/// Dropped in such a child, it stays the parent's.
#[derive(Debug)]
pub struct SoleLock {
    lock: Unshared<LockFile>,
    process: u32,
}

impl Drop for SoleLock {
    fn drop(&mut self) {
        // The lock is one for all copies of the descriptor: whoever unlocks any of them unlocks it for all.
        if let Some(lock) = self.lock.take()
            && self.process == std::process::id()
        {
            // Closing it does as much, unless there are copies; and a lock that we hold cannot be refused.
            let _ = rustix::fs::flock(&lock.file, FlockOperation::Unlock);
        }
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether nobody holds the lock now, in this process or any other. An absent file is free. The answer can be outdated as
/// soon as it is given: to be sure, take the lock. Looks for some 50 ms before it says no.
///
/// # Errors
/// [`Error::File`] when the file cannot be opened for reading.
pub fn is_free(path: &Path) -> Result<bool> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        match OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
            // A shared lock, so that two who ask do not see each other.
            Ok(file) if lock(&file, path, FlockOperation::NonBlockingLockShared)? => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(Error::file("open the lock", path, error)),
        }
    }
    Ok(false)
}

fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<bool> {
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::file("lock", path, error.into())),
        }
    }
}

fn is_still(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().map_err(|e| Error::file("look at", path, e))?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("look at", path, error)),
    }
}

fn no_follow() -> i32 {
    // Bits of a C int, whatever type the library gives them.
    OFlags::NOFOLLOW.bits() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    /// Another process that holds the lock; it is ended when this is dropped.
    struct Holder(Child);

    impl Holder {
        fn new(path: &Path) -> Self {
            let mut child = Command::new("flock")
                .args(["--nonblock", "--no-fork"])
                .arg(path)
                .args(["sh", "-c", "echo held; exec sleep 600"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "held\n");
            Self(child)
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn one_holds_it_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(is_free(&path).unwrap() && !path.exists());
        let held = LockFile::try_lock(&path, 0o600).unwrap().unwrap();
        held.file().write_all(b"mine").unwrap();
        assert!(LockFile::try_lock(&path, 0o600).unwrap().is_none());
        assert!(!is_free(&path).unwrap());
        drop(held);
        assert!(is_free(&path).unwrap());
        let again = LockFile::try_lock(&path, 0o600).unwrap().unwrap();
        assert_eq!(std::fs::read(again.path()).unwrap(), b"mine");
        let flags = rustix::io::fcntl_getfd(again.as_fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn another_process_holds_it_until_it_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let holder = Holder::new(&path);
        assert!(!is_free(&path).unwrap());
        assert!(LockFile::try_lock(&path, 0o600).unwrap().is_none());
        drop(holder);
        assert!(LockFile::try_lock(&path, 0o600).unwrap().is_some());
    }

    #[test]
    fn a_sole_lock_ends_whoever_has_inherited_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = LockFile::try_lock(&path, 0o600).unwrap().unwrap();
        // As a forked child has it; here, as a program that was given it.
        let inherited = lock.file().try_clone().unwrap();
        let mut heir = Command::new("sleep").arg("600").stdin(Stdio::from(inherited)).spawn().unwrap();
        let sole = lock.sole();
        assert!(!is_free(&path).unwrap());
        drop(sole);
        let freed = is_free(&path).unwrap();
        heir.kill().unwrap();
        heir.wait().unwrap();
        assert!(freed);
    }

    #[test]
    fn what_another_process_has_taken_stays_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = LockFile::try_lock(&path, 0o600).unwrap().unwrap();
        let parents = lock.file().try_clone().unwrap();
        // As it is found in a child: the process is another one.
        let mut sole = lock.sole();
        sole.process = 0;
        drop(sole);
        assert!(!is_free(&path).unwrap());
        drop(parents);
        assert!(is_free(&path).unwrap());
    }

    #[test]
    fn asking_does_not_keep_others_from_locking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        drop(LockFile::try_lock(&path, 0o600).unwrap().unwrap());
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| (0..200).for_each(|_| _ = is_free(&path).unwrap()));
            for _ in 0..200 {
                assert!(LockFile::try_lock(&path, 0o600).unwrap().is_some());
            }
            asking.join().unwrap();
        });
    }

    #[test]
    fn a_folder_is_locked_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let held = LockFile::try_lock_folder(folder.path()).unwrap().unwrap();
        let other_way = folder.path().join("../").join(folder.path().file_name().unwrap());
        assert!(LockFile::try_lock_folder(&other_way).unwrap().is_none());
        assert!(!is_free(folder.path()).unwrap());
        // What lies in it is another matter.
        std::fs::create_dir(folder.path().join("global")).unwrap();
        assert!(LockFile::try_lock_folder(&folder.path().join("global")).unwrap().is_some());
        drop(held);
        assert!(is_free(folder.path()).unwrap());
        assert!(LockFile::try_lock_folder(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("lock")).unwrap();
        assert!(LockFile::try_lock(&folder.path().join("lock"), 0o600).is_err());
        assert!(!folder.path().join("elsewhere").exists());
    }
}
