//! What is told on the page about the configured cluster.

use crate::config::load::Config;
use crate::configured::health;
use crate::error::Result;
use crate::report::gather::OverviewOptions;

/// All that is configured.
///
/// # Errors
/// As [`cluster::open`](crate::configured::cluster::open).
pub fn options(config: &Config) -> Result<OverviewOptions> {
    let mut options = OverviewOptions::new(health::options(config, &[])?);
    options.retention = config.retention;
    Ok(options)
}
