//! Making a data directory ready: adopt what is there, create a cluster, restore one, or refuse.

pub mod known;
pub mod plan;
pub mod ready;
pub mod restore;

mod outside;
mod vacancy;
