//! A PostgreSQL server: its programs, its process, a session with it. Never speaks to a store.

pub mod connection;
pub mod continue_as;
pub mod os_user;
pub mod program;
pub mod session;
