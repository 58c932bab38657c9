//! [`Promotion`]: a restored cluster stays on the timeline of its backup until a server has taken it to one of its own. Until then a mark in its
//! data directory says so, and each start sees to it.
//!
//! PostgreSQL removes `recovery.signal` as soon as it has chosen the new timeline, and only the checkpoint that ends the recovery puts that
//! timeline into `pg_control` (`StartupXLOG` in `xlog.c`, PostgreSQL 14 to 18). A server that is killed in between finds neither when it starts
//! again: it goes on on the old timeline, past where the backup ended, and writes over the history that the original goes on with. So does, in one
//! and the same postmaster, a server of which the checkpointer alone is killed, for it begins anew after a crash. So the mark stands in the data
//! directory, where it comes and goes with it; a start that finds it puts signal and settings back, and lets no such server begin anew by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::pg::control_file::{CONTROL_FILE_PATH, ClusterState, ControlFile};
use crate::pg::recovery_settings::{self, AUTO_CONF, RECOVERY_SIGNAL, STANDBY_SIGNAL, Target};

/// The mark's name in the data directory.
pub const FILE_NAME: &str = "pgpersist.recovering.json";

/// The setting that a server has off until its recovery has ended.
pub(crate) const BEGINS_ANEW: &str = "restart_after_crash";

/// What stands out for a restored cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The format of this file; 1.
    format: u32,
    /// The backup that was restored.
    backup: String,
    /// The timeline that it was made on.
    timeline: u32,
    /// Whether recovery ends where the backup is consistent, rather than at the end of the log.
    immediate: bool,
}

impl Promotion {
    /// Of a backup that is recovered to this target.
    pub fn new(backup: String, timeline: u32, target: &Target) -> Self {
        Self { format: 1, backup, timeline, immediate: *target == Target::Immediate }
    }

    /// Writes the mark into a data directory, durably.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, directory: &Path) -> Result<()> {
        let mut bytes = serde_json::to_vec(self).map_err(|error| Error::Bug(format!("could not tell of a recovery: {error}")))?;
        bytes.push(b'\n');
        durable::write(&path(directory), &bytes, 0o600)
    }

    /// Reads the mark of a data directory; nothing where there is none.
    ///
    /// # Errors
    /// [`Error::File`]; `Damaged` when it cannot be understood.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = path(directory);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Error::damaged(
                    format!("{} cannot be read: {error}", path.display()),
                    "restore the backup again; without that file the server could go on on the timeline of its original",
                )
            }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(Error::file("read", path, error)),
        }
    }

    /// Whether the cluster is on a timeline of its own, and stays there whatever happens: by the checkpoint that ended the recovery, or by the
    /// record of its end, where somebody had promoted it.
    pub fn is_over(&self, control: &ControlFile) -> bool {
        control.timeline.max(control.min_recovery_point_timeline) > self.timeline
    }

    /// Where recovery is to end. A cluster that a server has gone on with on the old timeline, as one that was started by hand may have, keeps
    /// all that it has.
    fn target(&self, control: &ControlFile, has_label: bool) -> Target {
        let recovers = matches!(control.state, ClusterState::InArchiveRecovery | ClusterState::ShutDownInRecovery);
        if self.immediate && (has_label || recovers) { Target::Immediate } else { Target::EndOfLog }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

/// Whether a server that starts here, or has started, is to leave the timeline of a backup. Not one that is to follow a primary: who made it a
/// standby promotes it. Blocking.
///
/// # Errors
/// As [`Promotion::read`].
pub(crate) fn is_pending(directory: &Path) -> Result<bool> {
    Ok(Promotion::read(directory)?.is_some() && !directory.join(STANDBY_SIGNAL).exists())
}

/// Before a server starts: puts back what takes it to a timeline of its own, and tells whether that is still to come. The caller holds the server's
/// lock. Blocking.
///
/// # Errors
/// As [`Promotion::read`]; [`Error::File`].
pub(crate) fn prepare(directory: &Path) -> Result<bool> {
    let Some(promotion) = Promotion::read(directory)?.filter(|_| !directory.join(STANDBY_SIGNAL).exists()) else {
        return Ok(false);
    };
    let Some(control) = control_file(directory) else { return Ok(true) };
    if promotion.is_over(&control) {
        durable::remove_file(&path(directory))?;
        return Ok(false);
    }
    let target = promotion.target(&control, directory.join("backup_label").exists());
    let auto_conf = directory.join(AUTO_CONF);
    let before = match fs::read(&auto_conf) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::file("read", auto_conf, error)),
    };
    let settings = recovery_settings::settings(&target, promotion.timeline);
    let (text, _) = recovery_settings::auto_conf(&String::from_utf8_lossy(&before), &settings);
    if text.as_bytes() != before {
        durable::write(&auto_conf, text.as_bytes(), 0o600)?;
    }
    // The signal last: a server that sees it sees the settings.
    let signal = directory.join(RECOVERY_SIGNAL);
    if !signal.exists() {
        durable::write(&signal, b"", 0o600)?;
    }
    Ok(true)
}

/// How far a server is that said it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is no mark.
    Nothing,
    /// It recovers: readers are let in before that is over.
    Recovering,
    /// It is on a timeline of its own, and the mark is gone.
    Done,
}

/// After a server said that it is ready: takes the mark away, once it is on a timeline of its own and writes. Blocking.
///
/// # Errors
/// `Unsafe` when the server writes on the timeline of the backup after all; as [`Promotion::read`]; [`Error::File`].
pub(crate) fn settle(directory: &Path) -> Result<Progress> {
    let Some(promotion) = Promotion::read(directory)? else { return Ok(Progress::Nothing) };
    // Torn while the server writes it; the next look sees more.
    let Some(control) = control_file(directory).filter(|control| control.state == ClusterState::InProduction) else {
        return Ok(Progress::Recovering);
    };
    if promotion.is_over(&control) {
        durable::remove_file(&path(directory))?;
        return Ok(Progress::Done);
    }
    Err(Error::refused(
        format!(
            "the server in {} runs on timeline {}, that of the backup {} which was restored there, and writes over the history of its original",
            directory.display(),
            promotion.timeline,
            promotion.backup
        ),
        "run `pgpersist restart`: that takes it to a timeline of its own, with all that it has; archive nothing of it before",
    ))
}

/// What `pg_control` says. One that cannot be read is the server's to complain of.
fn control_file(directory: &Path) -> Option<ControlFile> {
    ControlFile::parse(&fs::read(directory.join(CONTROL_FILE_PATH)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_mark_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert!(
            !prepare(directory.path()).unwrap()
                && settle(directory.path()).unwrap() == Progress::Nothing
                && !is_pending(directory.path()).unwrap()
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_mark_reads_as_it_was_written_and_one_that_cannot_be_read_lets_nothing_start() {
        let directory = tempfile::tempdir().unwrap();
        let promotion = Promotion::new("20260208T093316Z-0f8e7d6c".to_owned(), 3, &Target::Immediate);
        promotion.write(directory.path()).unwrap();
        assert_eq!(Promotion::read(directory.path()).unwrap(), Some(promotion));
        assert!(is_pending(directory.path()).unwrap());
        durable::write(&directory.path().join(STANDBY_SIGNAL), b"", 0o600).unwrap();
        assert!(!is_pending(directory.path()).unwrap(), "a standby is promoted by who made it one");
        durable::remove_file(&directory.path().join(STANDBY_SIGNAL)).unwrap();
        durable::write(&directory.path().join(FILE_NAME), b"{", 0o600).unwrap();
        assert_eq!(prepare(directory.path()).unwrap_err().kind(), crate::error::ErrorKind::Damaged);
    }
}
