//! What is kept of drills, on the cluster's volume and beside its backups: where the reports lie, and what health reads of
//! those about restores.
//!
//! A report has one name in both places, and names of one kind order by time.

use std::fs;
use std::io;
use std::path::PathBuf;

use futures_util::stream::TryStreamExt;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::logical::cluster_card::FOLDER;
use crate::logical::name::folder_of;
use crate::store::{BackupStore, ObjectKey};

/// What a drill was about, as the names of reports tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrillKind {
    /// A server was killed. Its reports lie on the volume alone.
    Crash,
    /// Dumps were loaded.
    Restore,
}

impl DrillKind {
    /// How names of this kind begin.
    fn prefix(self) -> &'static str {
        match self {
            Self::Crash => "crash_",
            Self::Restore => "restore_",
        }
    }

    /// The name of a report: the time it tells in RFC 3339, and what sets it apart from another one of that second.
    pub fn file_name(self, started_at: &str, mark: &str) -> String {
        let compact: String = started_at.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{}{compact}_{mark}.json", self.prefix())
    }

    fn is_named(self, name: &str) -> bool {
        name.starts_with(self.prefix()) && name.ends_with(".json") && !name.contains('/')
    }
}

/// The reports of one kind on a volume, oldest first. Blocking.
///
/// # Errors
/// [`Error::File`] when the folder cannot be listed.
pub fn on_volume(own: &OwnFolder, kind: DrillKind) -> Result<Vec<PathBuf>> {
    let folder = own.drills();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("list", folder, error)),
    };
    let mut reports = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::file("list", &folder, e))?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| kind.is_named(name)) {
            reports.push(path);
        }
    }
    reports.sort();
    Ok(reports)
}

/// Where the report of a restore drill lies in a store.
///
/// # Errors
/// `Invalid` when the cluster's name is too long for a key.
pub fn key_in_store(cluster: &str, file_name: &str) -> Result<ObjectKey> {
    format!("{}{file_name}", folder_in_store(cluster)).parse()
}

/// The reports of a cluster's restore drills in a store, oldest first.
///
/// # Errors
/// What the store says.
pub async fn in_store(store: &dyn BackupStore, cluster: &str) -> Result<Vec<ObjectKey>> {
    let folder = folder_in_store(cluster);
    let prefix = format!("{folder}{}", DrillKind::Restore.prefix());
    let (mut listed, mut reports) = (store.list(&prefix), Vec::new());
    while let Some(meta) = listed.try_next().await? {
        if DrillKind::Restore.is_named(meta.key.as_str().get(folder.len()..).unwrap_or_default()) {
            reports.push(meta.key);
        }
    }
    Ok(reports)
}

fn folder_in_store(cluster: &str) -> String {
    format!("{FOLDER}/{}/drills/", folder_of(cluster))
}

/// What the report of a restore drill must tell to count as one. All else in it is ignored here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RestoreRecord {
    /// When the drill began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// `pass` or `fail`, over all of it.
    pub verdict: String,
    /// Why it failed, each with its database where it was about one.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Each database that was to be restored.
    pub databases: Vec<RestoredDatabase>,
}

/// What such a report tells of one database.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RestoredDatabase {
    /// The database.
    pub database: String,
    /// `pass` or `fail`.
    pub verdict: String,
    /// The dump, where there was one.
    pub name: Option<String>,
    /// The system identifier of the cluster that it was made of, where its side file told.
    pub system_identifier: Option<String>,
    /// How old the dump was when the drill began, in seconds.
    pub age_s: Option<f64>,
    /// How long loading took, in seconds.
    pub load_s: Option<f64>,
    /// Why it failed.
    #[serde(default)]
    pub reasons: Vec<String>,
}

impl RestoreRecord {
    /// Reads a report; `None` where the bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl RestoredDatabase {
    /// Whether it came back and passed every check.
    pub fn passed(&self) -> bool {
        self.verdict == "pass"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryBackupStore;

    #[test]
    fn names_order_by_time() {
        let early = DrillKind::Restore.file_name("2026-02-08T09:33:16Z", "ffffffff");
        let late = DrillKind::Restore.file_name("2026-02-08T09:33:17Z", "00000000");
        assert_eq!(early, "restore_20260208T093316Z_ffffffff.json");
        assert!(early < late);
    }

    #[tokio::test]
    async fn a_store_shows_the_reports_of_one_cluster_and_nothing_else() {
        let store = MemoryBackupStore::new();
        let name = DrillKind::Restore.file_name("2026-02-08T09:33:16Z", "1");
        let keys = [key_in_store("main", &name).unwrap(), key_in_store("other", &name).unwrap()];
        assert_eq!(keys[0].as_str(), ".pgpersist/main/drills/restore_20260208T093316Z_1.json");
        let others = [".pgpersist/main/drills/restore_x/y.json", ".pgpersist/main/drills/note.json", ".pgpersist/main/cluster.json"];
        for key in keys.iter().cloned().chain(others.map(|key| key.parse().unwrap())) {
            store.put(&key, "{}".into()).await.unwrap();
        }
        assert_eq!(in_store(&store, "main").await.unwrap(), keys[..1]);
    }

    #[test]
    fn a_record_needs_little_and_bears_more() {
        let text = br#"{"kind": "restore", "verdict": "fail", "started_at": "2026-02-08T09:33:16Z", "more": [1], "databases": [
            {"database": "shop", "verdict": "pass", "name": "a", "age_s": 1.5, "load_s": 2, "checks": []},
            {"database": "b", "verdict": "fail", "name": null, "reasons": ["gone"]}]}"#;
        let record = RestoreRecord::parse(text).unwrap();
        assert!(record.databases[0].passed() && !record.databases[1].passed());
        assert_eq!(RestoreRecord::parse(b"{}"), None);
    }
}
