//! What an agent answers over HTTP: to the kubelet whether it lives, has started and is ready, to Prometheus and to people
//! how it is.
//!
//! [`options::HttpOptions`] say where and to whom. `listener` binds and accepts, `connections` decides which connection has to
//! go when there are too many, `connection` speaks HTTP on one of them and sets its limits ([`limits::HttpLimits`]), with
//! `first_line` for the one that hyper does not set. `routes` is the table of pages, `access` tells who sees more than one
//! word, `answers` is what an answer looks like. Behind the pages stand `probes`, `readiness`, `report`, `metrics` and
//! `status_page`; `kept` lets many ask and one find out. `site` is what all of them know. [`pages::Pages`] are
//! the same pages for a program that has an HTTP server of its own.

pub(crate) mod access;
pub(crate) mod answers;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod counts;
pub(crate) mod first_line;
pub(crate) mod kept;
pub mod limits;
pub(crate) mod listener;
pub(crate) mod metrics;
pub mod options;
pub mod pages;
pub(crate) mod probes;
pub(crate) mod readiness;
pub(crate) mod report;
pub(crate) mod routes;
pub(crate) mod site;
pub(crate) mod status_page;
pub mod token;
