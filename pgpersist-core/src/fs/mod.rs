//! Crash-safe file operations; blocking; knows nothing of PostgreSQL.

pub mod boot;
pub mod durable;
pub mod lock_file;
pub mod lock_holders;
pub mod mounts;
pub mod space;
pub mod walk;
