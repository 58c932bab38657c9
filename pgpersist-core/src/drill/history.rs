//! Past drills, kept as JSON on the volume beside the cluster they were asked for: the newest hundred.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use crate::data_directory::own_folder::OwnFolder;
use crate::drill::report::CrashReport;
use crate::error::{Error, Result};
use crate::fs::durable;

/// How many reports are kept.
pub const KEPT: usize = 100;

/// The folder of a data directory's drills.
pub fn folder(own: &OwnFolder) -> PathBuf {
    own.path().join("drills")
}

/// Keeps a report, durably, and forgets the oldest beyond [`KEPT`]. Returns its file. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn keep(own: &OwnFolder, report: &CrashReport) -> Result<PathBuf> {
    own.create()?;
    let folder = folder(own);
    durable::create_directory(&folder, 0o700)?;
    let compact: String = report.started_at.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let path = folder.join(format!("crash_{compact}_{}.json", report.seed));
    let text = serde_json::to_string_pretty(report).map_err(|e| Error::Bug(format!("could not write a report: {e}")))?;
    durable::write(&path, format!("{text}\n").as_bytes(), 0o600)?;
    let mut names = names(own)?;
    names.reverse();
    for old in names.iter().skip(KEPT) {
        durable::remove_file(old)?;
    }
    Ok(path)
}

/// All kept reports, newest first. One that cannot be read is left out with its path among the second. Blocking.
///
/// # Errors
/// [`Error::File`] when the folder cannot be listed.
pub fn list(own: &OwnFolder) -> Result<(Vec<Value>, Vec<PathBuf>)> {
    let (mut reports, mut unreadable) = (Vec::new(), Vec::new());
    for path in names(own)?.into_iter().rev() {
        match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(report) => reports.push(report),
            None => unreadable.push(path),
        }
    }
    Ok((reports, unreadable))
}

/// Their files, oldest first: the name begins with the time.
fn names(own: &OwnFolder) -> Result<Vec<PathBuf>> {
    let folder = folder(own);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("list", folder, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::file("list", &folder, e))?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("crash_") && name.ends_with(".json")) {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}
