//! [`BackupSummary`] and [`BackupDetails`]: what a listing tells of a backup, and what is told of one alone.

use futures_util::future::BoxFuture;
use serde::Serialize;
use time::OffsetDateTime;

use crate::error::{Error, ErrorKind, Result};
use crate::pg::lsn::Lsn;
use crate::repo::manifest::{DamagedPage, Manifest, Tablespace};
use crate::repo::names::RunName;
use crate::repo::repository::Repository;
use crate::repo::tombstone::Tombstones;

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
    /// How many pages were damaged on the disk, those not among them that are known.
    pub damaged_pages: usize,
    /// How many damaged pages somebody knew of.
    pub known_damaged_pages: usize,
    /// Whether retention has dropped it. It can be restored until its time of grace is over.
    pub dropped: bool,
}

/// Everything that is known of a backup without reading what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupDetails {
    /// What a listing tells.
    #[serde(flatten)]
    pub summary: BackupSummary,
    /// The backup that it was compared with. It does not need it.
    pub parent: Option<RunName>,
    /// How many files it has.
    pub files: u64,
    /// The cluster.
    pub system_identifier: String,
    /// The server's version.
    pub server_version: String,
    /// Its major version.
    pub major: u32,
    /// Whether pages have checksums; else damage of theirs cannot be told.
    pub data_checksums: bool,
    /// Bytes of a segment of the log.
    pub wal_segment_size: u32,
    /// Where each tablespace lay.
    pub tablespaces: Vec<Tablespace>,
    /// The pages that were damaged on the disk.
    pub damaged: Vec<DamagedPage>,
}

impl From<Manifest> for BackupSummary {
    fn from(manifest: Manifest) -> Self {
        let damaged_pages = manifest.unknown_damage();
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
            damaged_pages,
            known_damaged_pages: manifest.damaged_pages.len() - damaged_pages,
            dropped: false,
        }
    }
}

/// One backup, by its name.
///
/// # Errors
/// `NotFound`; `Damaged`; `Invalid` when a newer pgpersist made it; what the store says.
pub fn show<'a>(repository: &'a Repository, backup: RunName) -> BoxFuture<'a, Result<BackupDetails>> {
    Box::pin(async move {
        let manifest = match repository.manifest(backup).await {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::not_found(format!("there is no backup {backup}"), "see `pgpersist list` for those that there are"));
            }
            Err(error) => return Err(error),
        };
        let dropped = Tombstones::read(repository).await?.buried().backups.contains(&backup);
        let told = manifest.clone();
        Ok(BackupDetails {
            summary: BackupSummary { dropped, ..BackupSummary::from(manifest) },
            parent: told.parent,
            files: told.sizes.files,
            system_identifier: told.cluster.system_identifier,
            server_version: told.cluster.server_version,
            major: told.cluster.major,
            data_checksums: told.cluster.data_checksums,
            wal_segment_size: told.cluster.wal_segment_size,
            tablespaces: told.tablespaces,
            damaged: told.damaged_pages,
        })
    })
}

/// All backups, newest first by their place in the log, since clocks can go back; and what is wrong with those that cannot be told of: they
/// are damaged, or no key at hand opens them.
///
/// # Errors
/// What the store says, but for damage.
pub fn list<'a>(repository: &'a Repository) -> BoxFuture<'a, Result<(Vec<BackupSummary>, Vec<Error>)>> {
    Box::pin(async move {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        let buried = Tombstones::read(repository).await?.buried().backups;
        for backup in repository.backups().await?.into_iter().rev() {
            match repository.manifest(backup).await {
                Ok(manifest) => found.push(BackupSummary { dropped: buried.contains(&backup), ..BackupSummary::from(manifest) }),
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
    })
}
