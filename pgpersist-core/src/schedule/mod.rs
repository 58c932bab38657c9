//! The calendar: when something is due, and what became of it.
//!
//! [`cron::CronSchedule`] knows the moments, [`timetable::Timetable`] adds jitter and repetition, and
//! [`record::JobRecord`] is what is remembered of a job from one process to the next.

pub mod cron;
pub mod record;
pub mod timetable;

/// The job that makes dumps.
pub const DUMP: &str = "dump";
/// The job that brings the other stores up to date.
pub const SYNC: &str = "sync";
/// The job that makes physical backups.
pub const BACKUP: &str = "backup";
/// The job that applies retention.
pub const PRUNE: &str = "prune";
/// The job that proves that dumps come back.
pub const RESTORE_DRILL: &str = "restore_drill";
