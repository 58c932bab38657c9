//! Where a cluster's files live.

pub mod placement;
