//! [`BackupSummary`]: what a listing tells of a backup.

use serde::Serialize;
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::pg::lsn::Lsn;
use crate::repo::manifest::Manifest;
use crate::repo::repository::Repository;

/// A backup, as far as its manifest tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupSummary {
    /// Its name: what `restore` and `verify` take.
    pub name: String,
    /// What its user called it.
    pub label: Option<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// The earliest moment that it restores to.
    #[serde(with = "time::serde::rfc3339")]
    pub stopped_at: OffsetDateTime,
    /// The length of all its files.
    pub size_bytes: u64,
    /// What it takes in the store, what it shares with others included.
    pub stored_bytes: u64,
    /// What it added.
    pub new_bytes: u64,
    /// The timeline.
    pub timeline: u32,
    /// Where recovery begins.
    pub start_lsn: String,
    /// Where the cluster is consistent.
    pub stop_lsn: String,
    /// How many pages were damaged on the disk.
    pub damaged_pages: usize,
}

impl From<Manifest> for BackupSummary {
    fn from(manifest: Manifest) -> Self {
        Self {
            name: manifest.backup.to_string(),
            label: manifest.label,
            started_at: manifest.started_at,
            stopped_at: manifest.stopped_at,
            size_bytes: manifest.sizes.bytes,
            stored_bytes: manifest.sizes.stored_bytes,
            new_bytes: manifest.sizes.new_bytes,
            timeline: manifest.wal.timeline,
            start_lsn: manifest.wal.start_lsn,
            stop_lsn: manifest.wal.stop_lsn,
            damaged_pages: manifest.damaged_pages.len(),
        }
    }
}

/// All backups, newest first by their place in the log, since clocks can go back; and what is wrong with those that cannot be told of: they
/// are damaged, or no key at hand opens them.
///
/// # Errors
/// What the store says, but for damage.
pub async fn list(repository: &Repository) -> Result<(Vec<BackupSummary>, Vec<Error>)> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for backup in repository.backups().await?.into_iter().rev() {
        match repository.manifest(backup).await {
            Ok(manifest) => found.push(BackupSummary::from(manifest)),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Invalid) => damaged.push(error),
            Err(error) if repository.is_closed(&error) => damaged.push(error),
            // It was removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let place = |backup: &BackupSummary| (backup.timeline, backup.stop_lsn.parse::<Lsn>().unwrap_or_default());
    found.sort_by_key(|backup| std::cmp::Reverse(place(backup)));
    Ok((found, damaged))
}
