//! Export: a backup leaves the repository as PostgreSQL's own tools know one, with a manifest that `pg_verifybackup` accepts.

pub mod archive;
pub mod carry;
pub mod folder;
pub mod physical;
pub mod request;
pub mod sink;
