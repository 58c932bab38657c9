//! Crash-safe file operations; blocking; knows nothing of PostgreSQL.

pub mod boot;
pub mod durable;
pub mod forked;
pub mod hand_over;
pub mod leftovers;
pub mod lock_file;
pub mod lock_holders;
pub mod mounts;
pub mod on_behalf;
pub mod os_user;
pub mod secret_file;
pub mod space;
pub mod walk;
