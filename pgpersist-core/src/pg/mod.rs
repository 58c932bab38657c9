//! PostgreSQL's own formats and words as pure values: functions over bytes and names, no I/O, no async.

pub mod backup_label;
pub mod backup_manifest;
pub mod boolean;
pub mod control_file;
pub mod database_name;
pub mod log_line;
pub mod lsn;
pub mod page;
pub mod postmaster_pid;
pub mod quote;
pub mod recovery_settings;
pub mod relation_file;
pub mod version;
pub mod wal_page;
pub mod wal_record;
pub mod wal_segment;
pub mod wal_summary;
