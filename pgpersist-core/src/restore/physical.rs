//! [`restore`]: a backup becomes a data directory: staged, made durable, published as a whole, with `pg_control` last.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::data_directory::state::State;
use crate::data_directory::{DataDirectory, staging};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable;
use crate::progress::{Event, ProgressSink};
use crate::repo::contents::Contents;
use crate::repo::entry::{Entry, EntryKind};
use crate::repo::manifest::Manifest;
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::restore::recovery::{self, AUTO_CONF, RECOVERY_SIGNAL, Target};
use crate::restore::tree;
use crate::workers;

/// How a backup is restored.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// How many files are written at once.
    pub at_once: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { at_once: std::thread::available_parallelism().map_or(2, |count| count.get().min(8)) }
    }
}

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreReport {
    /// The backup.
    pub name: String,
    /// Where it is now.
    pub data_directory: PathBuf,
    /// The length of all files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// How long it took.
    pub duration_s: f64,
    /// Every byte was held against its hash.
    pub verified: bool,
    /// Settings of another recovery that were taken out of `postgresql.auto.conf`.
    pub settings_removed: Vec<String>,
}

/// The newest backup: by the position of the log where it ends on the youngest timeline, since clocks can go back.
///
/// # Errors
/// `NotFound` when there is none; `Denied` when no key at hand opens one that may be newer; what the store says.
pub async fn newest(repository: &Repository) -> Result<RunName> {
    let mut newest: Option<(u32, crate::pg::lsn::Lsn, RunName)> = None;
    let mut closed: Option<(RunName, Error)> = None;
    for backup in repository.backups().await? {
        let manifest = match repository.manifest(backup).await {
            Err(error) if repository.is_closed(&error) => {
                closed = Some((backup, error));
                continue;
            }
            manifest => manifest?,
        };
        let stop = manifest.wal.stop_lsn.parse().unwrap_or_default();
        newest = newest.max(Some((manifest.wal.timeline, stop, backup)));
    }
    // Older ones may be closed to today's key. What is newer must not be passed over in silence; its name is all that tells.
    if let Some((closed, error)) = closed
        && newest.as_ref().is_none_or(|(.., newest)| *newest < closed)
    {
        return Err(error);
    }
    newest
        .map(|(.., backup)| backup)
        .ok_or_else(|| Error::not_found(format!("there is no backup in {}", repository.store()), "make one with `pgpersist backup`"))
}

/// Restores a backup into an absent or empty data directory, ready to be started. The caller holds the claim.
///
/// # Errors
/// `Unsafe` when the directory holds anything; `Damaged` when something in the repository is not what was written; [`Error::File`]; what the
/// store says. The directory is as it was then, but for a staging folder that the next run removes.
pub async fn restore(
    repository: &Repository,
    backup: RunName,
    directory: &dyn DataDirectory,
    options: &RestoreOptions,
    progress: &dyn ProgressSink,
) -> Result<RestoreReport> {
    let began = Instant::now();
    refuse_occupied(directory).await?;
    let manifest = repository.manifest(backup).await.map_err(|error| missing(backup, error))?;
    // Before anything is made: who has public keys only reads names, and no file.
    repository.require_data(backup).await?;
    if !manifest.tablespaces.is_empty() {
        return Err(Error::invalid("the backup has tablespaces", "restore it with a pgpersist that can place them"));
    }
    let entries: Arc<[Entry]> = Contents::new(repository).all_entries(&manifest).await?.into();
    let own = directory.own_folder().clone();
    let made = own.clone();
    workers::run(move || staging::begin(&made)).await?;
    progress.event(Event::Step(format!("restoring {backup} to {}", directory.path().display())));
    let done = Arc::new(AtomicU64::new(0));
    let staged = own.staging();
    let writing = tree::write(repository, Arc::clone(&entries), &staged, options.at_once, Arc::clone(&done));
    tokio::pin!(writing);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let written = loop {
        tokio::select! {
            written = &mut writing => break written,
            _ = ticks.tick() => progress.event(Event::Bytes { done: done.load(Ordering::Relaxed), total: Some(manifest.sizes.bytes) }),
        }
    };
    let (path, told) = (directory.path().to_owned(), manifest.clone());
    let settings_removed = workers::run(move || {
        let finished = written.and_then(|()| make_recoverable(&told, &own.staging()));
        match finished {
            Ok(removed) => staging::publish(&path, &own, "restore").map(|()| removed),
            Err(error) => {
                // The error is what matters; what cannot be removed now, the next run removes.
                let _ = staging::recover(&path, &own);
                Err(error)
            }
        }
    })
    .await?;
    let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File(_))).count() as u64;
    Ok(RestoreReport {
        name: backup.to_string(),
        data_directory: directory.path().to_owned(),
        bytes: manifest.sizes.bytes,
        files,
        duration_s: began.elapsed().as_secs_f64(),
        verified: true,
        settings_removed,
    })
}

fn missing(backup: RunName, error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::not_found(format!("there is no backup {backup}"), "see `pgpersist list` for those that there are")
    } else {
        error
    }
}

async fn refuse_occupied(directory: &dyn DataDirectory) -> Result<()> {
    match directory.state().await? {
        State::Absent | State::Empty | State::HalfMade { .. } => Ok(()),
        _ => Err(Error::refused(format!("{} is not empty", directory.path().display()), "restore into an absent or empty directory")),
    }
}

/// Label, settings and signal: without the label a server would recover from a checkpoint that is too late.
fn make_recoverable(manifest: &Manifest, staging: &Path) -> Result<Vec<String>> {
    durable::write(&staging.join("backup_label"), manifest.backup_label.as_bytes(), 0o600)?;
    let auto_conf = staging.join(AUTO_CONF);
    let before = match fs::read_to_string(&auto_conf) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::file("read", &auto_conf, error)),
    };
    let settings = recovery::settings(&Target::Immediate, manifest.wal.timeline);
    let (text, removed) = recovery::auto_conf(&before, &settings);
    durable::write(&auto_conf, text.as_bytes(), 0o600)?;
    durable::write(&staging.join(RECOVERY_SIGNAL), b"", 0o600)?;
    Ok(removed)
}
