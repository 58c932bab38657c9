//! What the tests share: real PostgreSQL programs, and places to put things that vanish afterwards.

pub(crate) mod installation;
pub(crate) mod scratch;
pub(crate) mod server;
pub(crate) mod skip;
pub(crate) mod stores;
pub(crate) mod tree;
