//! A report for people, for programs, for Prometheus and for Nagios.

pub mod json;
pub mod nagios;
pub mod prometheus;
pub mod text;
