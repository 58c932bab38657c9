//! Physical restore: from a repository to a data directory that can start.

pub mod physical;
pub mod recovery;
pub mod request;
pub mod tree;
