//! [`BaseBackup`]: the server's part of a base backup: it begins with a checkpoint, is held open by a session, and ends with a label.
//!
//! Source: *Making a Base Backup Using the Low Level API*, PostgreSQL 14 (`pg_start_backup`) and 17 (`pg_backup_start`). Never in exclusive mode, which
//! writes into the live data directory.

use serde::{Deserialize, Serialize};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use crate::error::{Error, Result};
use crate::pg::backup_label::BackupLabel;
use crate::pg::lsn::Lsn;
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::server::session::Session;

/// How the checkpoint that a backup begins with is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpoint {
    /// At once, as fast as the disk can.
    #[default]
    Fast,
    /// Spread over `checkpoint_completion_target`, which may take minutes and disturbs nobody.
    Spread,
}

/// A base backup that has begun. It is void when its session ends, so it holds it.
#[derive(Debug)]
pub struct BaseBackup {
    session: Session,
    version: ServerVersion,
    start: Lsn,
}

/// How a base backup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedBackup {
    /// Where the cluster is consistent.
    pub stop: Lsn,
    /// What the label says.
    pub label: BackupLabel,
    /// The label, byte for byte.
    pub label_text: String,
    /// The map of tablespaces, where there are any.
    pub tablespace_map: Option<String>,
}

impl BaseBackup {
    /// Begins: keeps the log from here on by a temporary replication slot of the session, then has the server make its checkpoint.
    ///
    /// # Errors
    /// `Unsafe` when the server writes too little log (`wal_level = minimal`); `Sql`, such as without the rights or a free slot.
    pub async fn start(session: Session, label: &str, slot: &str, checkpoint: Checkpoint) -> Result<Self> {
        let version = session.version().await?;
        if session.setting("wal_level").await?.as_deref() == Some("minimal") {
            return Err(Error::refused(
                "the server's wal_level is minimal: what it writes to its log does not make a backup whole",
                "set wal_level = replica and restart the server",
            ));
        }
        // It says nothing while files are read, for as long as that takes.
        session.execute("keep the session open", "SET idle_session_timeout = 0").await?;
        // Before the checkpoint, which may remove the very log that the backup begins with.
        let reserve = format!("SELECT pg_catalog.pg_create_physical_replication_slot({}, true, true)", quote::literal(slot));
        session.text("keep the log by a replication slot", &reserve).await?;
        let (label, fast) = (quote::literal(label), checkpoint == Checkpoint::Fast);
        let begin = if version.major >= 15 {
            format!("SELECT pg_catalog.pg_backup_start({label}, {fast})")
        } else {
            format!("SELECT pg_catalog.pg_start_backup({label}, {fast}, false)")
        };
        let answer = session.text("begin the backup", &begin).await?.unwrap_or_default();
        let start = answer.parse().map_err(|_| Error::damaged(format!("the server says the backup begins at `{answer}`"), ""))?;
        Ok(Self { session, version, start })
    }

    /// Where the log begins that the backup needs.
    pub fn start_lsn(&self) -> Lsn {
        self.start
    }

    /// The session that holds it open.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Ends. The log up to [`EndedBackup::stop`] is kept as long as `self` lives in the caller's hands again.
    ///
    /// # Errors
    /// `Sql`, as when the session broke: the backup is void then. `Damaged` when the answer cannot be understood.
    pub async fn stop(self) -> Result<(EndedBackup, Session)> {
        // Never the server's own wait for its archive: behind an archive_command that fails it lasts for ever.
        let end = if self.version.major >= 15 {
            "SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_backup_stop(false)"
        } else {
            "SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_stop_backup(false, false)"
        };
        let rows = self.session.client().simple_query(end).await.map_err(not_ended)?;
        let row = rows.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
        let column = |at: usize| row.and_then(|row| row.get(at)).unwrap_or_default().to_owned();
        let (stop, label_text, map) = (column(0), column(1), column(2));
        let strange = |what: &str| Error::damaged(format!("the server ended the backup with a {what} that cannot be understood"), "");
        let stop = stop.parse().map_err(|_| strange("position"))?;
        let label = BackupLabel::parse(&label_text).ok_or_else(|| strange("label"))?;
        let tablespace_map = Some(map).filter(|map| !map.trim().is_empty());
        Ok((EndedBackup { stop, label, label_text, tablespace_map }, self.session))
    }
}

/// A standby that was promoted meanwhile says so; the other ways to this state are a restarted server and a broken session.
fn not_ended(error: tokio_postgres::Error) -> Error {
    let said =
        error.as_db_error().filter(|said| said.code() == &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE).map(|said| said.message().to_owned());
    match said {
        Some(said) => Error::unavailable(format!("the backup is void: the server says `{said}`"), "run the backup again"),
        None => Error::sql("end the backup", error),
    }
}
