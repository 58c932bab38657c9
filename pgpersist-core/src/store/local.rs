//! [`LocalBackupStore`]: a folder; the key `a/b` is the file `a/b` in it. Every put is fsynced.
//!
//! Files have mode 0600 and folders 0700. Symbolic links below the root are neither listed nor followed, so no key leads
//! out of the folder; the root itself may be one. That guards against accidents and planted links, not against somebody who
//! changes the folder at the same moment: who may write into a store is trusted with it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use rustix::fs::OFlags;
use time::{Duration, OffsetDateTime};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::{self, NewFile};
use crate::fs::os_user::OsUser;
use crate::fs::walk::Walk;
use crate::fs::{hand_over, leftovers, on_behalf};
use crate::store::{BackupStore, IsOurs, ObjectKey, ObjectMeta, Upload};
use crate::workers;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Objects as files in a folder, which may be a mounted volume.
#[derive(Debug, Clone)]
pub struct LocalBackupStore {
    root: Arc<Root>,
}

/// The folder and all blocking work in it.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// As whom root works in it.
    user: Option<OsUser>,
}

impl LocalBackupStore {
    /// A store in the folder `path`, which need not exist: the first write creates it. A relative path counts from the
    /// current directory of this moment. Blocks for one look at the path; writes nothing.
    ///
    /// # Errors
    /// `Invalid` when the path, or a part of it, is no folder; `Denied` when it cannot be looked at. That it cannot be
    /// written shows in the first write, so that what is read-only can still be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_for(path, None)
    }

    /// The same for a process that is root in place of this user, who then owns the folder, if it is missing or root's and empty,
    /// and all objects. Who is not root is nobody's stand-in.
    ///
    /// # Errors
    /// As [`LocalBackupStore::open`].
    pub fn open_for(path: impl AsRef<Path>, user: Option<OsUser>) -> Result<Self> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(Error::invalid("the path of the store is empty", "name a folder, such as `--store /app/backups/postgres`"));
        }
        let path = std::path::absolute(path).map_err(|e| Error::file("find", path, e))?;
        let root = Root { path, user: user.filter(|_| rustix::process::geteuid().is_root()) };
        root.exists()?;
        Ok(Self { root: Arc::new(root) })
    }

    /// The folder, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.root.path
    }

    /// Does what may make the folder.
    async fn prepare(&self) -> Result<()> {
        let root = Arc::clone(&self.root);
        match root.user {
            Some(_) => workers::run(move || root.user.as_ref().map_or(Ok(()), |user| hand_over::prepare(&root.path, user))).await,
            None => Ok(()),
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Root) -> Result<T> + Send + 'static) -> Result<T> {
        let root = Arc::clone(&self.root);
        workers::run(move || match &root.user {
            Some(_) => on_behalf::as_user(root.user.as_ref(), &root.path, || work(&root)),
            None => work(&root),
        })
        .await
    }
}

impl fmt::Display for LocalBackupStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.path.display().fmt(formatter)
    }
}

#[async_trait]
impl BackupStore for LocalBackupStore {
    async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let key = key.clone();
        self.prepare().await?;
        self.run(move |root| root.put(&key, &bytes)).await
    }

    async fn put_if_absent(&self, key: &ObjectKey, bytes: Bytes) -> Result<()> {
        let key = key.clone();
        self.prepare().await?;
        self.run(move |root| root.put_if_absent(&key, &bytes)).await
    }

    async fn honours_conditions(&self, _taken: &ObjectKey, _bytes: Bytes) -> Result<Option<bool>> {
        // The system gives no name twice.
        Ok(Some(true))
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.get_range(key, 0..u64::MAX).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let key = key.clone();
        self.run(move |root| root.read(&key, &range)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let key = key.clone();
        self.run(move |root| root.open_object(&key).map(|(_, meta)| meta)).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<ObjectMeta>> {
        // Entries still to be told, next one last. One folder of each level is in memory at a time.
        let start = vec![Entry::start(prefix)];
        stream::try_unfold(start, move |mut waiting| async move {
            loop {
                match waiting.pop() {
                    None => return Ok(None),
                    Some(Entry::Object(meta)) => return Ok(Some((meta, waiting))),
                    Some(Entry::Folder(folder)) => {
                        let prefix = prefix.to_owned();
                        waiting.extend(self.run(move |root| root.entries(folder.as_deref(), &prefix)).await?.into_iter().rev());
                    }
                }
            }
        })
        .boxed()
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        let folder = prefix.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let entries = self.run(move |root| root.entries(folder.as_deref(), &prefix)).await?;
        let name = |entry| match entry {
            Entry::Folder(Some(folder)) => folder.rsplit('/').next().map(str::to_owned),
            _ => None,
        };
        Ok(entries.into_iter().filter_map(name).collect())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let key = key.clone();
        self.run(move |root| root.delete(&key)).await
    }

    /// Who writes into a folder clears away what was left there; into that of a run that was killed, nobody writes again. Writers hold
    /// their files locked, so that `idle` matters only where the file system knows no locks.
    async fn remove_unfinished(&self, idle: std::time::Duration, is_ours: &IsOurs<'_>) -> Result<u64> {
        let found = self.run(|root| root.temporaries()).await?;
        let ours: Vec<PathBuf> = found.into_iter().filter(|(key, _)| is_ours(key)).map(|(_, path)| path).collect();
        self.run(move |_| {
            let mut removed = 0;
            for path in &ours {
                removed += u64::from(leftovers::remove_left_over(path, idle)?);
            }
            Ok(removed)
        })
        .await
    }

    async fn upload(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let file = {
            let key = key.clone();
            self.prepare().await?;
            self.run(move |root| root.begin(&key)).await?
        };
        Ok(Box::new(LocalUpload { store: self.clone(), key: key.clone(), file: Some(file) }))
    }
}

/// Dropping it drops the [`NewFile`], which removes what was written.
#[derive(Debug)]
struct LocalUpload {
    store: LocalBackupStore,
    key: ObjectKey,
    file: Option<NewFile>,
}

impl LocalUpload {
    fn take(&mut self) -> Result<NewFile> {
        self.file.take().ok_or_else(|| Error::invalid(format!("the upload of {} failed before", self.key), "begin it again"))
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut file = self.take()?;
        let key = self.key.clone();
        let file = self.store.run(move |root| {
            file.write_all(&bytes).map_err(|e| Error::file("write", root.file(&key), e))?;
            Ok(file)
        });
        self.file = Some(file.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectMeta> {
        let file = self.take()?;
        let key = self.key.clone();
        self.store
            .run(move |root| {
                let metadata = file.file().metadata().map_err(|e| Error::file("look at", root.file(&key), e))?;
                file.publish_new().map_err(|e| root.taken(&key, e))?;
                Ok(meta(key, &metadata))
            })
            .await
    }
}

/// Something in a folder that a listing has to tell or to enter. The root is the folder without a name.
#[derive(Debug)]
enum Entry {
    Folder(Option<String>),
    Object(ObjectMeta),
}

impl Entry {
    /// Where a listing begins: the folder that the prefix names, so that nothing beside it is read.
    fn start(prefix: &str) -> Self {
        Self::Folder(prefix.rsplit_once('/').map(|(folder, _)| folder.to_owned()))
    }
}

impl Root {
    fn file(&self, key: &ObjectKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    /// Whether the folder exists.
    fn exists(&self) -> Result<bool> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => Ok(true),
            Ok(_) => Err(Error::invalid(format!("{} is no folder, so it can be no store", self.path.display()), "name a folder")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::file("open the store", &self.path, error)),
        }
    }

    /// The state of the way to a key: `None` when a folder on it is missing, else what has its name, if anything has.
    fn look(&self, key: &ObjectKey) -> Result<Option<Option<fs::Metadata>>> {
        let mut path = self.path.clone();
        let mut found = None;
        for part in key.parts() {
            // The part before was no folder: nothing can be below it.
            if found.is_some_and(|metadata: fs::Metadata| !metadata.is_dir()) {
                return Err(Error::conflict(format!("{} is a file, so {key} cannot be below it", path.display()), "remove or rename it"));
            }
            path.push(part);
            found = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(Error::denied(
                        format!("{} is a symbolic link, which is not followed in a store", path.display()),
                        "put the file or folder itself in its place, or give its target as the store",
                    ));
                }
                Ok(metadata) => Some(metadata),
                Err(error) if error.kind() == io::ErrorKind::NotFound && path == self.file(key) => return Ok(Some(None)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::file("look at", path, error)),
            };
        }
        Ok(Some(found))
    }

    /// Makes the folders on the way to a key; refuses a key that is itself a folder.
    fn make_way(&self, key: &ObjectKey) -> Result<Way> {
        if !self.exists()? {
            durable::create_directories(&self.path, FOLDER_MODE)?;
        }
        match self.look(key)? {
            Some(Some(metadata)) if metadata.is_file() => Ok(Way::Taken),
            Some(Some(_)) => Err(Error::conflict(format!("{} is no file", self.file(key).display()), "remove or rename it")),
            Some(None) => Ok(Way::Free),
            None => {
                let mut path = self.path.clone();
                for part in key.folder().into_iter().flat_map(|folder| folder.split('/')) {
                    path.push(part);
                    durable::create_directory(&path, FOLDER_MODE)?;
                }
                Ok(Way::Free)
            }
        }
    }

    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.make_way(key)?;
        durable::write(&self.file(key), bytes, FILE_MODE)
    }

    fn put_if_absent(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        // What killed predecessors left here goes, also where the name is taken.
        if let Some(folder) = self.file(key).parent().filter(|folder| folder.is_dir()) {
            leftovers::sweep(folder)?;
        }
        match self.make_way(key)? {
            Way::Taken => Err(self.exists_already(key)),
            Way::Free => durable::write_new(&self.file(key), bytes, FILE_MODE).map_err(|e| self.taken(key, e)),
        }
    }

    /// Begins a new file, and clears away what killed predecessors left in its folder.
    fn begin(&self, key: &ObjectKey) -> Result<NewFile> {
        if let Way::Taken = self.make_way(key)? {
            return Err(self.exists_already(key));
        }
        let path = self.file(key);
        leftovers::sweep(path.parent().unwrap_or(&self.path))?;
        NewFile::create(&path, FILE_MODE)
    }

    fn taken(&self, key: &ObjectKey, error: Error) -> Error {
        if error.kind() == ErrorKind::Conflict { self.exists_already(key) } else { error }
    }

    fn exists_already(&self, key: &ObjectKey) -> Error {
        Error::conflict(format!("{key} exists already in {}", self.path.display()), "")
    }

    fn open_object(&self, key: &ObjectKey) -> Result<(File, ObjectMeta)> {
        let absent = || Error::not_found(format!("{key} is not in {}", self.path.display()), "");
        match self.look(key) {
            Ok(Some(Some(_))) => {}
            Ok(Some(None) | None) => return Err(absent()),
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(absent()),
            Err(error) => return Err(error),
        }
        let path = self.file(key);
        // A FIFO that somebody put here must not make us wait for its writer.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent()),
            Err(error) => return Err(Error::file("read", path, error)),
        };
        let metadata = file.metadata().map_err(|e| Error::file("look at", &path, e))?;
        if metadata.is_file() { Ok((file, meta(key.clone(), &metadata))) } else { Err(absent()) }
    }

    fn read(&self, key: &ObjectKey, range: &Range<u64>) -> Result<Bytes> {
        if range.start > range.end {
            return Err(Error::invalid(format!("the range {}..{} of {key} ends before it starts", range.start, range.end), ""));
        }
        let (mut file, meta) = self.open_object(key)?;
        let end = range.end.min(meta.size_bytes);
        if range.start >= end {
            return Ok(Bytes::new());
        }
        let read = |e| Error::file("read", self.file(key), e);
        file.seek(SeekFrom::Start(range.start)).map_err(read)?;
        let length = usize::try_from(end - range.start).map_err(|_| Error::invalid(format!("{key} does not fit into memory"), ""))?;
        let mut bytes = Vec::with_capacity(length);
        file.take(end - range.start).read_to_end(&mut bytes).map_err(read)?;
        Ok(bytes.into())
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        match self.look(key) {
            Ok(Some(Some(metadata))) if metadata.is_file() => durable::remove_file(&self.file(key)),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All temporary files, with the keys that they were to have.
    fn temporaries(&self) -> Result<Vec<(ObjectKey, PathBuf)>> {
        let mut found = Vec::new();
        if !self.path.is_dir() {
            return Ok(found);
        }
        // What cannot be looked into is somebody else's.
        for entry in Walk::new(&self.path)?.flatten() {
            let name = entry.relative.file_name().and_then(|name| name.to_str()).and_then(leftovers::target_of_temporary);
            let key = name.and_then(|name| entry.relative.with_file_name(name).to_str()?.parse().ok());
            if let Some(key) = key.filter(|_| entry.metadata.is_file()) {
                found.push((key, entry.path));
            }
        }
        Ok(found)
    }

    /// What of a folder a listing has to tell or to enter, in key order.
    fn entries(&self, folder: Option<&str>, prefix: &str) -> Result<Vec<Entry>> {
        let path = match folder {
            None => self.path.clone(),
            Some(folder) => {
                // A prefix is any text: one that is no valid key matches nothing.
                let Ok(key) = folder.parse::<ObjectKey>() else { return Ok(Vec::new()) };
                match self.look(&key) {
                    Ok(Some(Some(metadata))) if metadata.is_dir() => self.file(&key),
                    Ok(_) => return Ok(Vec::new()),
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Denied) => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                }
            }
        };
        let listed = match fs::read_dir(&path) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("list", path, error)),
        };
        let mut found = Vec::new();
        for entry in listed {
            let entry = entry.map_err(|e| Error::file("list", &path, e))?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::file("look at", entry.path(), error)),
            };
            let name = entry.file_name();
            // `lost+found` belongs to root where the store is the mount point of a volume.
            if folder.is_none() && name == "lost+found" {
                continue;
            }
            let key = name.to_str().map(|name| folder.map_or_else(|| name.to_owned(), |folder| format!("{folder}/{name}")));
            let Some(Ok(key)) = key.map(|key| key.parse::<ObjectKey>()) else { continue };
            if metadata.is_dir() {
                // Its objects sort by the name with the slash: `a/x` comes after `a.gz`.
                let below = format!("{key}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    found.push((below, Entry::Folder(Some(key.as_str().to_owned()))));
                }
            } else if metadata.is_file() && key.as_str().starts_with(prefix) {
                found.push((key.as_str().to_owned(), Entry::Object(meta(key, &metadata))));
            }
        }
        found.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }
}

/// Whether a key can be written.
#[derive(Debug, Clone, Copy)]
enum Way {
    Free,
    Taken,
}

fn meta(key: ObjectKey, metadata: &fs::Metadata) -> ObjectMeta {
    // A time that the file system made up must not stop us: it becomes the epoch.
    let modified = OffsetDateTime::from_unix_timestamp(metadata.mtime())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .saturating_add(Duration::nanoseconds(metadata.mtime_nsec()));
    ObjectMeta { key, size_bytes: metadata.len(), modified }
}
