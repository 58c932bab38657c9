//! What a configuration says, as the library's values: for programs that are configured rather than programmed.
//!
//! The program `pgpersist` is one of them, so a service that embeds the library and reads the same file, the same environment
//! and the same keys gets the very same cluster. One file a concept; only [`dump::remember_room`] writes anything.
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use pgpersist_core::config::{load::Config, sources::Sources};
//! use pgpersist_core::{ProgressSink, Result, Silent, clock, configured, init, server};
//!
//! async fn serve() -> Result<()> {
//!     let config = Config::load(&Sources::gather(None, std::env::vars_os(), Path::new("/app"), Vec::new())?)?;
//!     let cluster = configured::cluster::open(&config, BTreeMap::new())?;
//!     let (shelf, init) = (configured::stores::shelf_if_any(&config)?, configured::init::options(&config, false)?);
//!     let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
//!     init::ready::make_ready(&cluster, shelf.as_ref(), &init, &progress).await?;
//!     server::start::start(&cluster, &server::start::StartOptions::default()).await?;
//!     let clock: Arc<dyn clock::Clock> = Arc::new(clock::SystemClock);
//!     configured::dump::request(&config, Vec::new())?.carry_out(&clock, progress.as_ref()).await?; // as `pgpersist dump`
//!     Ok(())
//! }
//! ```
//!
//! [`agent::options`] is all that `pgpersist run` makes of a configuration, for an [`Agent`](crate::agent::run::Agent) in a
//! process of one's own. A program that has a [`BackupStore`](crate::store::BackupStore) of its own gives it to the configuration,
//! with [`Config::with_own_store`](crate::config::load::Config::with_own_store).

pub mod agent;
pub mod backup;
pub mod cluster;
pub mod drill;
pub mod dump;
pub mod health;
mod hooks;
pub mod init;
mod jobs;
pub mod load;
pub mod os_user;
pub mod report;
pub mod stores;
