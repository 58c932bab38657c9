//! Physical backup: from a running cluster into a repository.

pub mod announced;
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
pub mod unchanged;
