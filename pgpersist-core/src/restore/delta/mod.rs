//! A restore over a stopped cluster of the same system identifier, which keeps what is already as it should be.
//!
//! Planned first, by [`plan`]: what of the cluster's log no backup holds is given up only by who names its end. Then, by [`journey`], under a
//! marker and without a `pg_control`: see [`crate::data_directory::mixed`].

pub mod journey;
pub mod plan;

pub(crate) mod existing;

mod bring;

mod local_log;
