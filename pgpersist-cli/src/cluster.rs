//! The cluster that the configuration names, and why its server let nobody in.

use std::collections::BTreeMap;

use crate::context::Context;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::server::cluster::Cluster;

/// Opens the configured cluster; touches nothing.
pub(crate) fn open(context: &Context) -> Result<Cluster> {
    configured::cluster::open(context.config()?, BTreeMap::new())
}

/// Where the server let nobody in, tells why a password that the user knows of was not used.
pub(crate) fn explain_denial(error: &Error, context: &Context) {
    if let (ErrorKind::Denied, Ok(sources)) = (error.kind(), context.sources()) {
        sources.warnings.iter().for_each(|warning| context.progress.warn(warning));
    }
}
