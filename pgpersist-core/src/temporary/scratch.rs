//! The folder of one throw-away cluster, and the process that removes it however its owner ends.
//!
//! Everything that such a cluster leaves anywhere lies in this folder: data, sockets, log, dynamic shared memory. The owner
//! holds a lock on the file `owner` in it as long as it lives. An *undertaker*, a shell that waits at a pipe, outlives the
//! owner, ends the servers that work in the folder, and removes it. Dropping the handle closes the same pipe, so what a
//! crash relies on is used, and thereby tested, at every end.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::error::{Error, Result};
use crate::fs::boot;
use crate::fs::forked::Unshared;
use crate::fs::lock_file::{LockFile, SoleLock};
use crate::fs::on_behalf::as_owner;
use crate::fs::os_user::OsUser;
use crate::server::process;

/// How the name of every scratch folder begins.
pub const PREFIX: &str = "pgpersist-temp-";
/// The file that its owner holds a lock on.
pub(crate) const OWNER: &str = "owner";
/// The data directory in it.
pub(crate) const DATA: &str = "data";

/// What the undertaker does; a text so that it needs nothing but the shell that `initdb` needs too.
const UNDERTAKER: &str = include_str!("undertaker.sh");
/// The longest path of a folder that holds Unix sockets, with room for `/.s.PGSQL.65535`: 107 bytes in all.
const SOCKET_DIRECTORY_MAX: usize = 107 - 16;
/// How long the end may take: the undertaker kills at half of it.
const END: Duration = Duration::from_secs(30);

/// What happens to the files at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Afterwards {
    /// They are removed.
    #[default]
    Remove,
    /// The server is stopped and its files stay, for a look at them.
    Keep,
}

impl Afterwards {
    fn as_argument(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Keep => "keep",
        }
    }
}

/// A scratch folder that vanishes with this handle, or with this process.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    undertaker: Undertaker,
    // Let go after the undertaker has finished: a folder whose owner file is free is everybody's to sweep.
    _owner: SoleLock,
}

impl Scratch {
    /// Makes one below `parent`, else below the system's temporary folder. As root it is root's alone until
    /// [`Scratch::give_to`], and in somebody's folder that somebody's. Blocking.
    pub(crate) fn create(parent: Option<&Path>, os_user: Option<&OsUser>, afterwards: Afterwards) -> Result<Self> {
        let parent = match parent {
            Some(parent) => std::path::absolute(parent).map_err(|e| Error::file("resolve", parent, e))?,
            None => temporary_folder(os_user),
        };
        let path = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        if path.as_os_str().len() > SOCKET_DIRECTORY_MAX {
            return Err(Error::invalid(
                format!("{} is too long a path for a Unix socket", path.display()),
                "choose a shorter folder, such as /tmp",
            ));
        }
        // The undertaker comes first: from here on nothing that we make outlives us.
        let undertaker = Undertaker::engage(&path, afterwards)?;
        let made = as_owner(&parent, || {
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(|e| Error::file("create the directory", &path, e))
        });
        if let Err(error) = made {
            undertaker.dismiss();
            return Err(error);
        }
        let owner = path.join(OWNER);
        let lock = LockFile::try_lock(&owner, 0o600)?
            .ok_or_else(|| Error::Bug(format!("somebody else holds the new lock {}", owner.display())))?;
        say_who(&lock).map_err(|e| Error::file("write", &owner, e))?;
        Ok(Self { path, undertaker, _owner: lock.sole() })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory in it.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Makes it the folder of the user whom the server runs as; nobody else could enter it before, or can afterwards.
    pub(crate) fn give_to(&self, user: Option<&OsUser>) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        std::os::unix::fs::lchown(&self.path, Some(user.uid), Some(user.gid)).map_err(|e| Error::file("set the owner of", &self.path, e))
    }

    /// Ends the servers in it and, unless they are kept, removes the files; returns when that is done. Blocking.
    ///
    /// # Errors
    /// `Deadline` when something could not be ended or removed.
    pub(crate) fn end(mut self) -> Result<()> {
        self.undertaker.bury(&self.path)
    }

    /// Ends the servers in it and lets the files stay, whatever was wanted first. Blocking.
    ///
    /// # Errors
    /// `Deadline` when a server could not be ended.
    pub(crate) fn keep(mut self) -> Result<PathBuf> {
        self.undertaker.keep(&self.path)?;
        Ok(self.path.clone())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nobody to tell: what could not be removed, the next sweep removes.
        let _ = self.undertaker.bury(&self.path);
    }
}

/// A line for people and for those who wonder: whose folder it is.
pub(crate) fn say_who(lock: &LockFile) -> io::Result<()> {
    let pid = std::process::id();
    let started = i32::try_from(pid).ok().and_then(process::started_at).unwrap_or_default();
    let mut file = lock.file();
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "process {pid}, started {started}, boot {}", boot::boot_id().unwrap_or_default())
}

/// The process that stays when we go.
#[derive(Debug)]
pub(crate) struct Undertaker {
    child: Child,
    /// What it waits at: when the last copy is closed, it begins.
    pipe: Unshared<ChildStdin>,
    done: bool,
}

impl Undertaker {
    /// Engages one for a folder, which need not exist yet.
    pub(crate) fn engage(path: &Path, afterwards: Afterwards) -> Result<Self> {
        let mut search = std::env::var_os("PATH").unwrap_or_default();
        if !search.is_empty() {
            search.push(":");
        }
        search.push("/usr/bin:/bin");
        let mut child = Command::new("/bin/sh")
            .args(["-c", UNDERTAKER, "pgpersist-undertaker"])
            .arg(path)
            .arg(afterwards.as_argument())
            .env_clear()
            .env("PATH", search)
            .current_dir("/")
            // A signal to our whole group, as Ctrl-C or `kill -9 -GROUP` sends it, must not reach the one who cleans up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Error::file("run", "/bin/sh", e))?;
        let pipe = child.stdin.take().ok_or_else(|| Error::Bug("an undertaker has no pipe".to_owned()))?;
        Ok(Self { child, pipe: Unshared::new(pipe), done: false })
    }

    /// Sends it away with nothing to do.
    fn dismiss(mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"leave\n");
        }
        let _ = self.child.wait();
    }

    /// Lets it end the servers and waits for that; the files stay, whatever it was engaged for.
    pub(crate) fn keep(&mut self, path: &Path) -> Result<()> {
        if let Some(written) = self.pipe.with(|pipe| pipe.write_all(b"keep\n")) {
            written.map_err(|e| Error::file("keep", path, e))?;
        }
        self.bury(path)
    }

    /// Lets it do its work and waits for it.
    pub(crate) fn bury(&mut self, path: &Path) -> Result<()> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        drop(self.pipe.take());
        let deadline = Instant::now() + END;
        while self.child.try_wait().map_err(|e| Error::file("wait for the removal of", path, e))?.is_none() {
            if Instant::now() >= deadline {
                return Err(Error::Deadline {
                    what: format!("{} was not removed", path.display()),
                    after: END,
                    remedy: Some("look at the processes that work in it; a later run removes it".to_owned()),
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// `TMPDIR`, where that is short enough for sockets and the server's user can get there; else `/tmp`.
pub(crate) fn temporary_folder(os_user: Option<&OsUser>) -> PathBuf {
    let wanted = std::env::temp_dir();
    // A slash, the prefix and sixteen digits follow.
    let fits = wanted.is_absolute() && wanted.as_os_str().len() + 1 + PREFIX.len() + 16 <= SOCKET_DIRECTORY_MAX;
    if fits && wanted.is_dir() && reachable(&wanted, os_user) { wanted } else { PathBuf::from("/tmp") }
}

/// Whether a user can enter a folder and all above it.
pub(crate) fn reachable(folder: &Path, user: Option<&OsUser>) -> bool {
    let Some(user) = user else { return true };
    folder.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|metadata| {
            let needed = if metadata.uid() == user.uid {
                0o100
            } else if user.groups.contains(&metadata.gid()) {
                0o010
            } else {
                0o001
            };
            metadata.mode() & needed != 0
        })
    })
}
