//! pgpersist makes a PostgreSQL cluster outlive the machine it runs on.

pub mod clock;
pub mod config;
pub mod data_directory;
pub mod drill;
pub mod error;
pub mod fs;
pub mod init;
pub mod logical;
pub mod migrate;
pub mod pg;
pub mod progress;
pub mod retention;
pub mod secret;
pub mod server;
pub mod store;
pub mod temporary;
pub mod workers;
