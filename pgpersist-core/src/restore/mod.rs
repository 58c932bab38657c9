//! Physical restore: from a repository to a data directory that can start.

pub mod chosen;
pub mod configuration;
pub mod damage;
pub mod delta;
pub mod newest;
pub mod physical;
pub mod plan;
pub mod record;
pub mod request;
pub mod survey;
pub mod tablespaces;
pub mod tree;

mod crew;
mod ground;
mod queue;
mod writer;
