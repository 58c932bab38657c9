//! PostgreSQL's own formats and words as pure values: functions over bytes and names, no I/O, no async.

pub mod quote;
pub mod version;
