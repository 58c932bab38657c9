//! A data directory on a local or network file system of this machine.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::data_directory::own_folder::OwnFolder;
use crate::data_directory::placement::{self, Placement};
use crate::data_directory::state::State;
use crate::data_directory::{Claim, DataDirectory, DiskUsage, staging};
use crate::error::{Error, Result};
use crate::fs::lock_file::{self, LockFile, SoleLock};
use crate::fs::os_user::OsUser;
use crate::fs::{boot, hand_over, lock_holders, space, walk};
use crate::workers;

/// The folder in a cluster's files whose own inode a server locks, besides our lock file: it is the same however the
/// directory is mounted. The claim locks the data directory's inode.
pub(crate) const INSIDE_SERVER_LOCK: &str = "global";

/// A folder on a volume.
#[derive(Debug, Clone)]
pub struct LocalDataDirectory {
    path: PathBuf,
    own: OwnFolder,
    /// As the caller named it. Root judges each link on the way before it hands over where they lead to.
    named: PathBuf,
    /// For whom root makes the directory.
    user: Option<OsUser>,
}

impl LocalDataDirectory {
    /// Names a directory, which need not exist. Nothing is created.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that cannot be a data directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_for(path, None)
    }

    /// The same for a process that is root in place of this user, whom the server runs as: a directory that is missing, or is
    /// root's and empty, is made this user's when it is claimed, if root can trust the way to it (see
    /// [`hand_over::prepare`]). Who is not root is nobody's stand-in.
    ///
    /// # Errors
    /// As [`LocalDataDirectory::open`].
    pub fn open_for(path: impl AsRef<Path>, user: Option<OsUser>) -> Result<Self> {
        let path = path.as_ref();
        let absolute = std::path::absolute(path).map_err(|e| Error::file("resolve", path, e))?;
        // PostgreSQL records the resolved path in postmaster.pid, so we speak of the same one.
        let named = absolute.clone();
        let path = match absolute.canonicalize() {
            Ok(resolved) => resolved,
            Err(_) => match (absolute.parent().and_then(|parent| parent.canonicalize().ok()), absolute.file_name()) {
                (Some(parent), Some(name)) => parent.join(name),
                _ => absolute,
            },
        };
        if path.exists() && !path.is_dir() {
            return Err(Error::invalid(
                format!("{} is a file, not a directory", path.display()),
                "name the directory that holds, or is to hold, the cluster",
            ));
        }
        let user = user.filter(|_| rustix::process::geteuid().is_root());
        let own = OwnFolder::locate_for(&path, user.as_ref())?;
        Ok(Self { path, own, named, user })
    }

    /// What stands there now, for blocking code.
    ///
    /// # Errors
    /// As [`DataDirectory::state`].
    pub fn state_now(&self) -> Result<State> {
        State::of(&self.path, &self.own)
    }

    /// Makes the directory its user's where we are root (see [`LocalDataDirectory::open_for`]), and says early when its files
    /// belong to somebody else: an image with another number for the same name is the usual reason. Only a cluster is worth to
    /// be handed over; what else may stand there is named. Blocking.
    ///
    /// # Errors
    /// As [`hand_over::prepare`]; `Denied` with the command that mends it; [`State::into_cluster`]'s for foreign files.
    pub fn hand_over(&self) -> Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        hand_over::prepare(&self.named, user)?;
        let Ok(metadata) = fs::metadata(&self.path) else { return Ok(()) };
        if metadata.uid() == user.uid || !metadata.is_dir() {
            return Ok(());
        }
        let state = self.state_now()?;
        if let State::Foreign { .. } = state {
            return state.into_cluster(&self.path).map(drop);
        }
        let command = format!("hand it over with `chown -R {}:{} {}` while no server uses it", user.uid, user.gid, self.path.display());
        Err(Error::denied(
            format!("{} belongs to user id {}, and `{}` has {}", self.path.display(), metadata.uid(), user.name, user.uid),
            if metadata.uid() == 0 { command } else { format!("set `[cluster] os_user` to its owner, or {command}") },
        ))
    }

    fn claim_now(&self) -> Result<Claim> {
        self.hand_over()?;
        let folder = self.claim_inode()?;
        self.refuse_unseen_server()?;
        // Only now: a folder of ours that appears in the directory is where all others look from then on.
        self.own.create()?;
        let path = self.own.supervisor_lock();
        let Some(lock) = LockFile::try_lock(&path, 0o600)? else {
            return Err(held(&self.path, &path));
        };
        // Told to whoever finds the lock taken. It need not survive anything, so it is not durable.
        let mut file = lock.file();
        let holder = format!("process {} on {}, boot {}\n", std::process::id(), hostname(), boot::boot_id().unwrap_or_default());
        let _ = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(holder.as_bytes()));
        Ok(Claim::new((folder, lock.sole())))
    }

    /// The claim on the directory itself, where it exists. Two who reach it through different mounts have different folders
    /// of ours, and only this in common.
    fn claim_inode(&self) -> Result<Option<SoleLock>> {
        if !self.path.is_dir() {
            return Ok(None);
        }
        match LockFile::try_lock_folder(&self.path)? {
            Some(folder) => Ok(Some(folder.sole())),
            None => Err(held(&self.path, &self.own.supervisor_lock())),
        }
    }

    /// Refuses while a server holds its lock on the directory but not on our lock file: it was started through another mount.
    fn refuse_unseen_server(&self) -> Result<()> {
        let inside = self.path.join(INSIDE_SERVER_LOCK);
        // The file first: a server that ends lets go of it before.
        if !lock_file::is_free(&self.own.server_lock())? || lock_file::is_free(&inside)? {
            return Ok(());
        }
        let holders: Vec<String> = lock_holders::of(&inside).iter().map(ToString::to_string).collect();
        let holders = if holders.is_empty() { "which is not seen from here".to_owned() } else { holders.join(", ") };
        Err(Error::conflict(
            format!("a server that was started through another mount of {} still runs and holds its lock: {holders}", self.path.display()),
            "stop that server or its container first; let all containers mount the volume in the same way",
        ))
    }
}

/// The name of this machine, pod or container. Blocking.
pub(crate) fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn held(directory: &Path, lock: &Path) -> Error {
    let holder = fs::read_to_string(lock).unwrap_or_default();
    let holder = holder.trim();
    Error::conflict(
        format!("{} is in use by another pgpersist{}{holder}", directory.display(), if holder.is_empty() { "" } else { ": " }),
        "wait until it has finished, or stop it; `pgpersist status` shows the server",
    )
}

#[async_trait]
impl DataDirectory for LocalDataDirectory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn own_folder(&self) -> &OwnFolder {
        &self.own
    }

    async fn state(&self) -> Result<State> {
        let this = self.clone();
        workers::run(move || this.state_now()).await
    }

    async fn claim(&self) -> Result<Claim> {
        let this = self.clone();
        workers::run(move || this.claim_now()).await
    }

    async fn prepare(&self, _claim: &Claim) -> Result<State> {
        let this = self.clone();
        workers::run(move || {
            staging::recover(&this.path, &this.own)?;
            this.state_now()
        })
        .await
    }

    async fn placement(&self) -> Result<Placement> {
        let path = self.path.clone();
        workers::run(move || placement::of(&path)).await
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        let path = self.path.clone();
        workers::run(move || {
            let tree = walk::tree_size(&path)?;
            let space = space::Space::of(&path)?;
            Ok(DiskUsage {
                used_bytes: tree.bytes,
                files: tree.files,
                free_bytes: space.free_bytes,
                total_bytes: space.total_bytes,
                free_inodes: space.free_inodes.unwrap_or(0),
            })
        })
        .await
    }
}
