//! What the benches share: a place, a real server, runs that are measured, and tables.

pub(crate) mod arguments;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod pgbackrest;
pub(crate) mod place;
pub(crate) mod server;
pub(crate) mod store_server;
pub(crate) mod table;
