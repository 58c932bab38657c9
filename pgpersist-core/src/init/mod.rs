//! Making a data directory ready: adopt what is there, create a cluster, restore one, or refuse.

pub mod plan;
pub mod ready;
