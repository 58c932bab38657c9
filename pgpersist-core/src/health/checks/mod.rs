//! The checks that come with pgpersist: one file, one question. Looking and judging are apart, so that every judgement is
//! tested without a server, a disk or a clock.

pub mod backups;
pub mod connection;
pub mod data_directory;
pub mod database;
pub mod disk;
pub mod dumps;
pub mod last_drill;
pub mod placement;
pub mod probe;
pub mod recovery_key;
pub mod schedule;
pub mod server;
pub mod settings;
pub mod standard;
pub mod store;
pub mod table;
pub mod transaction_ids;

mod asking;
mod judgement;
pub(in crate::health) mod places;
