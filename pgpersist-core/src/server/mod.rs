//! A PostgreSQL server: its programs, its process, a session with it. Never speaks to a store.

pub mod cluster;
pub mod connection;
pub mod create;
pub mod installation;
pub mod log_file;
pub mod os_user;
pub mod process;
pub mod session;
pub mod settings;
pub mod spawn;
pub mod start;
pub mod stop;
