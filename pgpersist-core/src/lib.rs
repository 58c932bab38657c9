//! pgpersist makes a PostgreSQL cluster outlive the machine it runs on.

pub mod clock;
pub mod data_directory;
pub mod error;
pub mod fs;
pub mod init;
pub mod migrate;
pub mod pg;
pub mod progress;
pub mod secret;
pub mod server;
pub mod workers;
