//! How the configured data directory is made ready.

use crate::config::load::{Config, WhenMissing as Configured};
use crate::configured::cluster;
use crate::error::Result;
use crate::init::plan::{InitWishes, WhenMissing};
use crate::init::ready::InitOptions;

/// How it is made ready. The other wishes, such as a new history, are nothing that a configuration says.
///
/// # Errors
/// As [`cluster::own_name`].
pub fn options(config: &Config, allow_ephemeral: bool) -> Result<InitOptions> {
    let wishes = InitWishes {
        allow_ephemeral,
        when_missing: match config.cluster.when_missing {
            Configured::Restore => WhenMissing::Restore,
            Configured::Refuse => WhenMissing::Refuse,
        },
        ..InitWishes::default()
    };
    Ok(InitOptions {
        cluster_name: config.cluster.name.clone(),
        databases: config.cluster.databases.clone(),
        superuser: cluster::own_name(config)?,
        wishes,
    })
}
