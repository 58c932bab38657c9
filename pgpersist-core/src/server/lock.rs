//! The server's lock: held by the server and by all its processes, through descriptors that they inherit.
//!
//! It lies on two files: on our `server.lock`, and on the folder `global` in the data directory itself. Where our own
//! folder lies depends on how the directory is mounted (see `data_directory/own_folder.rs`): of two containers, one that
//! mounts the volume and one that mounts only the data directory, neither sees the other's `server.lock`. The folder in
//! the data directory is the same for both. A claim takes the data directory's own inode in the same way, so the two
//! locks do not get into each other's way.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::data_directory::DataDirectory;
use crate::data_directory::local::INSIDE_SERVER_LOCK;
use crate::error::{Error, Result};
use crate::fs::lock_file::{self, LockFile};
use crate::fs::lock_holders::{self, Holder};
use crate::server::cluster::Cluster;
use crate::server::process::{self, ServerRecord};
use crate::workers;

/// The server's lock, held until the last process that inherited it has ended.
#[derive(Debug)]
pub struct ServerLock {
    file: LockFile,
    /// None while there is no cluster yet.
    folder: Option<LockFile>,
}

impl ServerLock {
    /// What a process must inherit to hold it.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.file.as_fd()).chain(self.folder.as_ref().map(AsFd::as_fd))
    }

    /// Takes it, waiting no longer than `grace`: the backends of a killed postmaster hold it until they have noticed its
    /// death.
    ///
    /// # Errors
    /// `Conflict` that names the holder.
    pub(crate) async fn take(cluster: &Cluster, grace: Duration) -> Result<Self> {
        let deadline = Instant::now() + grace;
        loop {
            let directory = cluster.directory().clone();
            if let Some(lock) = workers::run(move || Self::try_take(directory.as_ref())).await? {
                return Ok(lock);
            }
            if Instant::now() > deadline {
                // Free by now means that somebody held it until this moment.
                return Err(refusal(cluster, &look(cluster).await?));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn try_take(directory: &dyn DataDirectory) -> Result<Option<Self>> {
        let Some(file) = LockFile::try_lock(&directory.own_folder().server_lock(), 0o600)? else {
            return Ok(None);
        };
        let inside = directory.path().join(INSIDE_SERVER_LOCK);
        if !inside.is_dir() {
            return Ok(Some(Self { file, folder: None }));
        }
        Ok(LockFile::try_lock_folder(&inside)?.map(|folder| Self { file, folder: Some(folder) }))
    }
}

/// Who holds the server's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nobody.
    Free,
    /// Processes of a server, as far as they are seen; none where they are in another container.
    ByServer(Vec<Holder>),
    /// Only programs that a server started and that outlive it, such as a background child of an `archive_command`.
    ByLeftover(Vec<Holder>),
}

/// Looks who holds it. A process that nobody may look at counts as a server.
pub(crate) async fn look(cluster: &Cluster) -> Result<Held> {
    let directory = cluster.directory().clone();
    workers::run(move || {
        if !is_held(directory.as_ref())? {
            return Ok(Held::Free);
        }
        let holders = holders(directory.as_ref());
        let leftover = !holders.is_empty() && !holders.iter().any(|holder| process::is_called_postgres(&holder.name));
        Ok(if leftover { Held::ByLeftover(holders) } else { Held::ByServer(holders) })
    })
    .await
}

/// Whether anybody holds it, seen through whichever mount. Blocking.
pub(crate) fn is_held(directory: &dyn DataDirectory) -> Result<bool> {
    let inside = directory.path().join(INSIDE_SERVER_LOCK);
    Ok(!lock_file::is_free(&directory.own_folder().server_lock())? || !lock_file::is_free(&inside)?)
}

/// The processes that are seen to hold it. Blocking.
pub(crate) fn holders(directory: &dyn DataDirectory) -> Vec<Holder> {
    let mut holders = lock_holders::of(&directory.own_folder().server_lock());
    for holder in lock_holders::of(&directory.path().join(INSIDE_SERVER_LOCK)) {
        if !holders.contains(&holder) {
            holders.push(holder);
        }
    }
    holders
}

/// Names some processes, for people.
pub(crate) fn named(holders: &[Holder]) -> String {
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join(", ")
}

/// Why nothing may be done while it is held.
pub(crate) fn refusal(cluster: &Cluster, held: &Held) -> Error {
    let directory = cluster.path().display();
    match held {
        Held::ByLeftover(holders) => Error::conflict(
            format!("the server of {directory} has ended, but {} still holds its lock: it was started by that server", named(holders)),
            format!(
                "end it (`kill {}`), or wait until it has ended",
                holders.iter().map(|h| h.pid.to_string()).collect::<Vec<_>>().join(" ")
            ),
        ),
        Held::Free | Held::ByServer(_) => Error::conflict(
            format!(
                "processes of another server of {directory} still run and hold its lock, perhaps in another container on this machine{}",
                Who { held, record: ServerRecord::read(&cluster.directory().own_folder().server_record()) }
            ),
            "stop that server or its container first; the lock is free once its last process has ended",
        ),
    }
}

/// What is known of a server that is not ours to see.
struct Who<'a> {
    held: &'a Held,
    record: Option<ServerRecord>,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Held::ByServer(holders) = self.held
            && !holders.is_empty()
        {
            write!(f, ": {}", named(holders))?;
        }
        let Some(record) = &self.record else { return Ok(()) };
        let at = OffsetDateTime::from_unix_timestamp(record.spawned_at).map_or_else(|_| record.spawned_at.to_string(), |at| at.to_string());
        write!(f, "; the server that was started last is process {} of its container, of {at}", record.pid.trim())
    }
}
