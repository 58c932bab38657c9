//! A PostgreSQL server: its programs, its process, a session with it. Never speaks to a store.

pub mod arguments;
pub mod clients;
pub mod cluster;
pub mod connection;
pub mod continue_as;
pub mod create;
pub mod installation;
pub mod lock;
pub mod log_file;
pub mod os_user;
pub(crate) mod postmaster;
pub mod process;
pub mod program;
pub mod recovery;
pub mod restart;
pub(crate) mod room;
pub mod same_cluster;
pub mod session;
pub mod settings;
pub mod single_user;
pub mod socket;
pub mod spawn;
pub mod stale;
pub mod start;
pub mod stop;
pub mod supervisor;
