//! Bad input: each test sees the message and the exit code, and that nothing changed.
//!
//! "Nothing changed" compares every file's hash, mode and owner before and after. Our own lock files are left out where a
//! command takes the claim before it can know; they are empty, or name the process that held them last.

mod as_root;
mod backups;
mod clock;
mod clusters;
mod configuration;
mod databases;
mod dumps;
mod environment;
mod lost_store;
mod mounts;
mod moves;
mod occupied;
mod other_directory;
mod outliving;
mod places;
mod restart;
mod servers;
mod stores;
