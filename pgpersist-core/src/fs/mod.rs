//! Crash-safe file operations; blocking; knows nothing of PostgreSQL.

pub mod durable;
