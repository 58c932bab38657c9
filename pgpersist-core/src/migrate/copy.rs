//! Copying a cluster's files in parallel, hashed as they are read, and comparing the copies with what was read.
//!
//! The base copy, its continuation after a kill and the final catch-up are one and the same pass: a file is kept only when
//! its copy is journalled as durable and nothing about the original has changed since well before that copy began.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::Advice;
use sha2::{Digest, Sha256};

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::on_behalf::as_owner;
use crate::fs::walk::Walk;
use crate::migrate::journal::{Copied, Journal};
use crate::migrate::source_tree::{SourceFile, SourceTree, file_mode};
use crate::progress::{Event, ProgressSink};

/// Bytes that one worker holds: this, times the number of workers, is all the memory that copying takes besides the
/// list of files.
const BUFFER: usize = 1 << 20;
/// A batch is made durable and journalled as one: so much at most is copied again after a kill.
const BATCH_BYTES: u64 = 128 << 20;
const BATCH_FILES: usize = 512;
/// The kernel notes a write's time before its data is there to be read, and by a coarse clock: a file that changed less
/// than this before its copy began may have been copied as it was before the change.
const DOUBT: i64 = 2_000_000_000;

/// Copies one source to one folder.
#[derive(Debug, Clone)]
pub(crate) struct Copier {
    /// The folder that gets the copy.
    pub(crate) target: PathBuf,
    /// Who is to own the copy, where we are root.
    pub(crate) owner: Option<(u32, u32)>,
    /// Whether the source's file system tells times by this machine's clock.
    pub(crate) times_are_ours: bool,
    /// How many files are copied at once.
    pub(crate) workers: usize,
    /// Who is told about it.
    pub(crate) progress: Arc<dyn ProgressSink>,
}

impl Copier {
    /// Copies what is missing or may have changed. Afterwards the copy is durable and journalled.
    ///
    /// # Errors
    /// [`Error::File`]; what is journalled by then is kept by the next pass.
    pub(crate) fn pass(&self, tree: &SourceTree, journal: &mut Journal) -> Result<()> {
        as_owner(&self.target, || tree.folders.iter().try_for_each(|(folder, mode)| self.folder(folder, *mode)))?;
        let pending: Vec<&SourceFile> = tree.files.iter().filter(|file| !self.is_current(file, journal)).collect();
        let total = pending.iter().map(|file| file.metadata.len()).sum();
        let mut done = 0;
        let mut rest = &pending[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let length = rest
                .iter()
                .take(BATCH_FILES)
                .take_while(|file| {
                    let fits = bytes < BATCH_BYTES;
                    bytes += file.metadata.len();
                    fits
                })
                .count();
            let (batch, after) = rest.split_at(length);
            let copied: Vec<_> =
                as_owner(&self.target, || in_parallel(batch, self.workers, |file| self.file(file)))?.into_iter().flatten().collect();
            durable::sync_files(&self.target, copied.iter().map(|(path, _)| path.as_path()))?;
            journal.append(copied)?;
            done += batch.iter().map(|file| file.metadata.len()).sum::<u64>();
            self.progress.event(Event::Bytes { done, total: Some(total) });
            rest = after;
        }
        Ok(())
    }

    /// Removes what the source has no more. Only for the last pass, when nothing changes any longer.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn remove_extra(&self, tree: &SourceTree, journal: &mut Journal) -> Result<()> {
        let files: HashSet<&Path> = tree.files.iter().map(|file| file.relative.as_path()).collect();
        let folders: HashSet<&Path> = tree.folders.iter().map(|(folder, _)| folder.as_path()).collect();
        journal.retain(|path| files.contains(path));
        let mut extra = Vec::new();
        let mut walk = Walk::new(&self.target)?;
        while let Some(entry) = walk.next() {
            let entry = entry?;
            if entry.metadata.is_dir() && !folders.contains(entry.relative.as_path()) {
                extra.push(entry.path);
                walk.skip_folder();
            } else if !entry.metadata.is_dir() && !files.contains(entry.relative.as_path()) {
                extra.push(entry.path);
            }
        }
        extra.iter().try_for_each(|path| durable::remove_tree(path))
    }

    /// Reads the copies back, past the page cache where the kernel lets us, and compares them with what was read from the
    /// source. One that differs, as after a power cut, is forgotten, so that the next pass copies it again.
    ///
    /// # Errors
    /// [`Error::File`] when a copy cannot be read.
    pub(crate) fn compare(&self, journal: &mut Journal) -> Result<Vec<PathBuf>> {
        let list = journal.not_compared();
        let total = list.iter().map(|(_, copied)| copied.size).sum();
        let (mut done, mut differing) = (0, Vec::new());
        for batch in list.chunks(BATCH_FILES) {
            let same = in_parallel(batch, self.workers, |(path, copied)| Ok(read_back(&self.target.join(path))? == copied.sha256))?;
            for ((path, copied), same) in batch.iter().zip(same) {
                done += copied.size;
                if same {
                    journal.mark_compared(path);
                } else {
                    journal.forget(path);
                    differing.push(path.clone());
                }
            }
            self.progress.event(Event::Bytes { done, total: Some(total) });
        }
        Ok(differing)
    }

    /// Whether the journalled copy is what the source's file is now.
    fn is_current(&self, file: &SourceFile, journal: &Journal) -> bool {
        let Some(copied) = journal.get(&file.relative) else { return false };
        let (mtime, ctime) = times(&file.metadata);
        let unchanged = (copied.size, copied.mtime, copied.ctime, copied.inode) == (file.metadata.len(), mtime, ctime, file.metadata.ino());
        let settled = mtime.max(ctime) < copied.started - DOUBT && copied.started <= now();
        let there = fs::symlink_metadata(self.target.join(&file.relative)).is_ok_and(|m| m.is_file() && m.len() == copied.size);
        unchanged && settled && there && self.times_are_ours
    }

    /// The first file that is not what it was when it was copied: changed, new, or gone. `None` when the copy is complete.
    pub(crate) fn first_difference(tree: &SourceTree, journal: &Journal) -> Option<PathBuf> {
        let as_copied = |file: &&SourceFile| {
            let (mtime, ctime) = times(&file.metadata);
            let now = (file.metadata.len(), mtime, ctime, file.metadata.ino());
            journal.get(&file.relative).is_some_and(|copied| (copied.size, copied.mtime, copied.ctime, copied.inode) == now)
        };
        match tree.files.iter().find(|file| !as_copied(file)) {
            Some(file) => Some(file.relative.clone()),
            None => {
                let there: HashSet<&Path> = tree.files.iter().map(|file| file.relative.as_path()).collect();
                journal.not_in(&there)
            }
        }
    }

    /// Sets mode and owner of the copy's own folder.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn root(&self, mode: u32) -> Result<()> {
        as_owner(&self.target, || {
            fs::set_permissions(&self.target, fs::Permissions::from_mode(mode))
                .map_err(|e| Error::file("set the permissions of", &self.target, e))?;
            self.give_away(&self.target)
        })
    }

    fn folder(&self, relative: &Path, mode: u32) -> Result<()> {
        let path = self.target.join(relative);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                durable::remove_file(&path)?;
                return self.folder(relative, mode);
            }
            // Made durable together with the files of the batch.
            Err(_) => fs::create_dir(&path).map_err(|e| Error::file("create the directory", &path, e))?,
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(|e| Error::file("set the permissions of", &path, e))?;
        self.give_away(&path)
    }

    /// Copies one file; `None` when it has vanished meanwhile.
    fn file(&self, file: &SourceFile) -> Result<Option<(PathBuf, Copied)>> {
        let started = now();
        let source = match File::open(&file.path) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &file.path, error)),
        };
        let metadata = source.metadata().map_err(|e| Error::file("look at", &file.path, e))?;
        let (mtime, ctime) = times(&metadata);
        let path = self.target.join(&file.relative);
        if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file()) {
            durable::remove_tree(&path)?;
        }
        let mode = file_mode(&metadata);
        let mut copy = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(|e| Error::file("create", &path, e))?;
        // Where both share their blocks nothing is moved, and what was read is what the copy holds.
        let cloned = metadata.len() > 0 && rustix::fs::ioctl_ficlone(&copy, &source).is_ok();
        let (size, sha256) = if cloned { digest(&mut copy, &path, None)? } else { digest(&mut &source, &file.path, Some((&copy, &path)))? };
        copy.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| Error::file("set the permissions of", &path, e))?;
        self.give_away(&path)?;
        Ok(Some((file.relative.clone(), Copied { size, mtime, ctime, inode: metadata.ino(), started, sha256, compared: false })))
    }

    /// Gives a file or folder to the owner of the source, where we are root and work as root. In somebody's place it is that
    /// somebody's already.
    pub(crate) fn give_away(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.owner.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(|e| Error::file("set the owner of", path, e))
    }
}

/// Hashes what comes, and writes it where that is wanted.
fn digest(from: &mut impl Read, from_path: &Path, to: Option<(&File, &Path)>) -> Result<(u64, String)> {
    let mut buffer = vec![0; BUFFER];
    let (mut size, mut hash) = (0, Sha256::new());
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::file("read", from_path, error)),
        };
        hash.update(&buffer[..length]);
        if let Some((mut file, path)) = to {
            file.write_all(&buffer[..length]).map_err(|e| Error::file("write", path, e))?;
        }
        size += length as u64;
    }
    Ok((size, hexadecimal(&hash.finalize())))
}

fn read_back(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::file("read", path, e))?;
    // It was synced, so the kernel can drop its cached pages; where it does not, only the proof is weaker.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    Ok(digest(&mut file, path, None)?.1)
}

/// SHA-256 of some bytes, as the journal writes it.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn times(metadata: &fs::Metadata) -> (i64, i64) {
    let nanoseconds = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
    (nanoseconds(metadata.mtime(), metadata.mtime_nsec()), nanoseconds(metadata.ctime(), metadata.ctime_nsec()))
}

fn now() -> i64 {
    i64::try_from(SystemClock.now().unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

/// Does the same to each item on several threads; the results come in the order of the items. The first error ends it.
fn in_parallel<T: Sync, R: Send>(items: &[T], workers: usize, work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let one_worker = || {
        let mut results = Vec::new();
        while let Some((at, item)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).map(|item| (at, item))
        } {
            match work(item) {
                Ok(result) => results.push((at, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(results)
    };
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.clamp(1, items.len().max(1))).map(|_| scope.spawn(one_worker)).collect();
        let mut all = Vec::with_capacity(items.len());
        for thread in threads {
            all.extend(thread.join().map_err(|_| Error::Bug("a copying thread panicked".into()))??);
        }
        Ok::<_, Error>(all)
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    struct Place {
        _folder: tempfile::TempDir,
        source: PathBuf,
        copier: Copier,
        journal: PathBuf,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::create_dir_all(source.join("base/5")).unwrap();
        fs::create_dir(&target).unwrap();
        let journal = folder.path().join("journal");
        let copier = Copier { target, owner: None, times_are_ours: true, workers: 2, progress: Arc::new(Silent) };
        Place { _folder: folder, source, copier, journal }
    }

    impl Place {
        fn write(&self, name: &str, bytes: &[u8]) {
            File::create(self.source.join(name)).unwrap().write_all(bytes).unwrap();
        }

        fn pass(&self) -> Journal {
            let mut journal = Journal::open(&self.journal).unwrap();
            let tree = SourceTree::read(&self.source).unwrap();
            self.copier.pass(&tree, &mut journal).unwrap();
            self.copier.remove_extra(&tree, &mut journal).unwrap();
            journal
        }

        fn copy(&self, name: &str) -> Vec<u8> {
            fs::read(self.copier.target.join(name)).unwrap()
        }
    }

    #[test]
    fn a_file_is_kept_only_when_it_was_settled_before_its_copy_began() {
        let place = place();
        place.write("base/5/1", b"one");
        let old = fs::metadata(place.source.join("base/5/1")).unwrap();
        let mut journal = place.pass();
        let relative = Path::new("base/5/1");
        let file = SourceFile { relative: relative.into(), path: place.source.join(relative), metadata: old };
        // It changed just before it was copied, so nothing proves that the change was seen.
        assert!(!place.copier.is_current(&file, &journal));
        let mut copied = journal.get(relative).unwrap().clone();
        copied.started += DOUBT + 1_000_000_000;
        journal.append(vec![(relative.into(), Copied { started: copied.started.min(now()), ..copied.clone() })]).unwrap();
        let settled = Copied { started: copied.mtime.max(copied.ctime) + DOUBT + 1, ..copied };
        journal.append(vec![(relative.into(), settled.clone())]).unwrap();
        // A copy that began in the future was journalled under another clock.
        assert!(!place.copier.is_current(&file, &journal));
        std::thread::sleep(std::time::Duration::from_nanos(DOUBT as u64));
        assert!(place.copier.is_current(&file, &journal));
        for other in [Copied { size: 4, ..settled.clone() }, Copied { inode: 0, ..settled.clone() }, Copied { ctime: 0, ..settled.clone() }]
        {
            journal.append(vec![(relative.into(), other)]).unwrap();
            assert!(!place.copier.is_current(&file, &journal));
        }
        journal.append(vec![(relative.into(), settled)]).unwrap();
        fs::remove_file(place.copier.target.join(relative)).unwrap();
        assert!(!place.copier.is_current(&file, &journal));
    }

    #[test]
    fn a_second_pass_brings_the_copy_up_to_date() {
        let place = place();
        place.write("base/5/1", b"one");
        place.write("base/5/2", &vec![7; BUFFER * 2 + 1]);
        place.pass();
        place.write("base/5/1", b"changed");
        fs::remove_file(place.source.join("base/5/2")).unwrap();
        place.write("3", b"");
        let mut journal = place.pass();
        assert_eq!((place.copy("base/5/1"), place.copy("3")), (b"changed".to_vec(), Vec::new()));
        assert!(!place.copier.target.join("base/5/2").exists());
        assert_eq!(place.copier.compare(&mut journal).unwrap(), Vec::<PathBuf>::new());
        assert!(journal.not_compared().is_empty());
    }

    #[test]
    fn a_copy_that_rotted_is_found_and_made_again() {
        let place = place();
        place.write("base/5/1", b"one");
        let mut journal = place.pass();
        File::create(place.copier.target.join("base/5/1")).unwrap().write_all(b"0ne").unwrap();
        assert_eq!(place.copier.compare(&mut journal).unwrap(), [PathBuf::from("base/5/1")]);
        let tree = SourceTree::read(&place.source).unwrap();
        place.copier.pass(&tree, &mut journal).unwrap();
        assert!(place.copier.compare(&mut journal).unwrap().is_empty());
        assert_eq!(place.copy("base/5/1"), b"one");
    }

    #[test]
    fn the_first_error_ends_all() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(in_parallel(&items, 3, |n| Ok(n * 2)).unwrap()[999], 1998);
        let result = in_parallel(&items, 3, |n| if *n == 7 { Err(Error::Bug("seven".into())) } else { Ok(()) });
        assert!(result.unwrap_err().to_string().contains("seven"));
    }
}
