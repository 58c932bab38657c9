//! Physical backup: from a running cluster into a repository.

pub mod announced;
pub mod compaction;
mod copying;
pub mod excluded;
pub mod outside;
pub mod pace;
pub mod page_reader;
pub mod parent;
pub mod physical;
pub mod reading;
pub mod request;
pub mod source;
pub mod summarized;
pub mod unchanged;
