//! Past drills, kept as JSON on the volume beside the cluster they were asked for, and those of restores also beside the
//! backups: the newest hundred of each kind.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::data_directory::own_folder::OwnFolder;
use crate::drill::report::CrashReport;
use crate::drill::restore_report::RestoreReport;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable;
use crate::logical::drill_records::{self, DrillKind};
use crate::logical::shelf::Shelf;
use crate::workers;

/// How many reports of each kind are kept.
pub const KEPT: usize = 100;

/// Keeps a report, durably, and forgets the oldest beyond [`KEPT`]. Returns its file. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn keep(own: &OwnFolder, report: &CrashReport) -> Result<PathBuf> {
    let name = DrillKind::Crash.file_name(&report.started_at, &report.seed.to_string());
    keep_on_volume(own, DrillKind::Crash, &name, &document(report)?)
}

/// Keeps the report of a restore drill in the store and, where the cluster's volume is at hand, there too; forgets the oldest
/// beyond [`KEPT`], where it may. One place that cannot be written does not keep the report from the other. May be repeated.
///
/// # Errors
/// What the first place says that could not be written.
pub async fn keep_restore(report: &RestoreReport, own: Option<&OwnFolder>, shelf: &Shelf) -> Result<()> {
    let name = DrillKind::Restore.file_name(&report.started_at, &report.id);
    let document = document(report)?;
    let on_volume = match own.cloned() {
        Some(own) => {
            let (name, document) = (name.clone(), document.clone());
            workers::run(move || keep_on_volume(&own, DrillKind::Restore, &name, &document).map(drop)).await
        }
        None => Ok(()),
    };
    let in_store = async {
        let store = shelf.store().as_ref();
        store.put(&drill_records::key_in_store(shelf.cluster(), &name)?, document).await?;
        let reports = drill_records::in_store(store, shelf.cluster()).await?;
        for old in reports.iter().rev().skip(KEPT) {
            match store.delete(old).await {
                // Who may not delete keeps them all.
                Err(error) if error.kind() == ErrorKind::Denied => break,
                deleted => deleted?,
            }
        }
        Ok(())
    };
    in_store.await.and(on_volume)
}

fn document(report: &impl Serialize) -> Result<Bytes> {
    let text = serde_json::to_string_pretty(report).map_err(|e| Error::Bug(format!("could not write a report: {e}")))?;
    Ok(format!("{text}\n").into())
}

fn keep_on_volume(own: &OwnFolder, kind: DrillKind, name: &str, document: &[u8]) -> Result<PathBuf> {
    own.create()?;
    let folder = own.drills();
    durable::create_directory(&folder, 0o700)?;
    let path = folder.join(name);
    durable::write(&path, document, 0o600)?;
    for old in drill_records::on_volume(own, kind)?.iter().rev().skip(KEPT) {
        durable::remove_file(old)?;
    }
    Ok(path)
}

/// All reports that are kept on a volume, newest first. One that cannot be read is left out with its path among the second.
/// Blocking.
///
/// # Errors
/// [`Error::File`] when the folder cannot be listed.
pub fn list(own: &OwnFolder) -> Result<(Vec<Value>, Vec<PathBuf>)> {
    let (mut reports, mut unreadable) = (Vec::new(), Vec::new());
    for kind in [DrillKind::Crash, DrillKind::Restore] {
        for path in drill_records::on_volume(own, kind)? {
            match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                Some(report) => reports.push(report),
                None => unreadable.push(path),
            }
        }
    }
    newest_first(&mut reports);
    Ok((reports, unreadable))
}

/// The reports of restore drills in a store that are not among these, added to them. Returns the names of those that are no
/// reports.
///
/// # Errors
/// What the store says.
pub async fn add_from_store(reports: &mut Vec<Value>, shelf: &Shelf) -> Result<Vec<String>> {
    let mut unreadable = Vec::new();
    for key in drill_records::in_store(shelf.store().as_ref(), shelf.cluster()).await? {
        match serde_json::from_slice::<Value>(&shelf.store().get(&key).await?) {
            Ok(report) if reports.iter().any(|known| known["id"] == report["id"] && known["started_at"] == report["started_at"]) => {}
            Ok(report) => reports.push(report),
            Err(_) => unreadable.push(key.to_string()),
        }
    }
    newest_first(reports);
    Ok(unreadable)
}

fn newest_first(reports: &mut [Value]) {
    // RFC 3339 in UTC orders as text, and so do the identifiers of one second.
    let text = |report: &Value, field: &str| report[field].as_str().unwrap_or_default().to_owned();
    reports.sort_by_key(|report| std::cmp::Reverse((text(report, "started_at"), text(report, "id"))));
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drill::restore_report::tests::report;
    use crate::store::BackupStore;
    use crate::store::faulty::{Calls, Effect, FaultPlan, FaultyStore, Operation};
    use crate::store::memory::MemoryBackupStore;

    #[tokio::test]
    async fn without_the_right_to_delete_all_reports_stay_and_new_ones_come() {
        let plan = FaultPlan::one(Operation::Delete, Calls::From(1), Effect::Fail(ErrorKind::Denied));
        let memory: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let shelf = Shelf::new(Arc::new(FaultyStore::new(memory.clone(), plan)), "main", Vec::new());
        for number in 0..KEPT + 2 {
            keep_restore(&RestoreReport { id: format!("{number:08x}"), ..report() }, None, &shelf).await.unwrap();
        }
        assert_eq!(drill_records::in_store(memory.as_ref(), "main").await.unwrap().len(), KEPT + 2);
        // Whose credentials may forgets them.
        keep_restore(&RestoreReport { id: "ffffffff".into(), ..report() }, None, &Shelf::new(memory.clone(), "main", Vec::new()))
            .await
            .unwrap();
        assert_eq!(drill_records::in_store(memory.as_ref(), "main").await.unwrap().len(), KEPT);
    }
}
