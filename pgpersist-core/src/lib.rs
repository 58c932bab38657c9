//! Makes a PostgreSQL cluster outlive the machine it runs on: puts it onto a volume that survives, starts it there after
//! every crash, dumps it and loads it back, and proves that nothing acknowledged is lost.
//!
//! A service that brings its own database along, run by the user `postgres`:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use pgpersist_core::init::ready::{InitOptions, make_ready};
//! use pgpersist_core::server::start::{StartOptions, start};
//! use pgpersist_core::{Cluster, ClusterOptions, InitWishes, InstallationSearch, LocalDataDirectory, ProgressSink, Silent};
//!
//! #[tokio::main]
//! async fn main() -> pgpersist_core::Result<()> {
//!     let directory = Arc::new(LocalDataDirectory::open("/app/pgdata")?);
//!     let cluster = Cluster::new(directory, InstallationSearch::from_environment(None), ClusterOptions::default());
//!     let (databases, wishes) = (vec!["customerInvoice".to_owned()], InitWishes::default());
//!     let options = InitOptions { cluster_name: "main".into(), databases, superuser: "postgres".into(), wishes };
//!     let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
//!     make_ready(&cluster, None, &options, &progress).await?; // adopts, creates, or refuses; never overwrites
//!     let server = start(&cluster, &StartOptions::default()).await?.status; // it runs on when we end
//!     println!("PostgreSQL listens in {:?} on port {:?}", server.socket_directory, server.port);
//!     Ok(())
//! }
//! ```
//!
//! # The main types
//!
//! A [`Cluster`] is a data directory, the PostgreSQL programs that fit it, and its settings. Where its files live is a
//! [`DataDirectory`]: [`LocalDataDirectory`] is a folder, also one that is itself a mount point. Before anything else,
//! [`init::ready::make_ready`] makes the directory ready, after [`init::plan::InitPlan`] has decided what that means:
//! adopt what is there, create a cluster where none was ever known, restore one, or refuse. [`server::start::start`] and
//! [`server::stop::stop`] are what they say; [`Cluster::status`] looks without touching. [`migrate::run::migrate`] moves a
//! cluster to another directory.
//!
//! Backups are objects in a [`BackupStore`], such as a [`LocalBackupStore`]. A [`Shelf`] is one cluster's dumps in a store:
//! [`logical::dump_cluster::dump_cluster`] adds to it, [`logical::load::load`] makes a database of one, all or nothing, and
//! [`Shelf::prune_plan`] tells what a [`Retention`] lets go.
//!
//! A [`HealthCheck`] is one question with a bounded answer time; [`health::report::run`] asks many at once, yours among
//! them. [`drill::crash::run`] kills a server under load and looks for every commit that it had acknowledged;
//! [`drill::restore::run`] loads the newest dumps and sees what comes back. A [`TemporaryCluster`] is a real PostgreSQL for a test, there in the time of a function call and gone with its handle.
//!
//! [`report::gather::overview`] looks at all of this at once, and [`report::html`] and [`report::markdown`] make a page of it.
//!
//! An [`agent::run::Agent`] stays with a server as long as its process lives: it starts it again, and answers probes, health,
//! metrics and a status page over HTTP where [`HttpOptions`](agent::http::options::HttpOptions) say; a service with a port of its own answers
//! its [`Pages`](agent::http::pages::Pages) there. Whom it tells of failures and
//! recoveries is a [`Hook`](agent::hooks::Hook).
//!
//! A program that is configured rather than programmed has all of these made of the file, the environment and the keys that the
//! program `pgpersist` knows, too: [`configured`].
//!
//! Operations take an options struct and a [`ProgressSink`], return a report that serialises, and fail with an [`Error`]:
//! its [`ErrorKind`] says what the caller can do, its [`remedy`](Error::remedy) is the next step. Nothing here prints, and
//! no handle destroys anything when it is dropped, except a [`TemporaryCluster`] what it made itself.
//!
//! With the feature `testing` come conformance suites for implementors of the traits, and a store that fails on purpose.

pub mod agent;
pub mod backup;
pub mod clock;
pub mod config;
pub mod configured;
pub mod data_directory;
pub mod drill;
pub mod encryption;
pub mod error;
pub mod export;
pub mod fs;
pub mod health;
pub mod init;
pub mod key_ring;
pub mod logical;
pub mod migrate;
pub mod pg;
pub mod progress;
pub mod quantity;
pub mod repo;
pub mod report;
pub mod restore;
pub mod retention;
pub mod schedule;
pub mod secret;
pub mod server;
pub mod store;
pub mod temporary;
pub mod web_url;
pub mod wording;
pub mod workers;

pub use crate::data_directory::DataDirectory;
pub use crate::data_directory::local::LocalDataDirectory;
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::health::HealthCheck;
pub use crate::init::plan::InitWishes;
pub use crate::logical::shelf::Shelf;
pub use crate::progress::{ProgressSink, Silent};
pub use crate::retention::Retention;
pub use crate::server::cluster::{Cluster, ClusterOptions};
pub use crate::server::installation::InstallationSearch;
pub use crate::store::BackupStore;
pub use crate::store::local::LocalBackupStore;
pub use crate::temporary::cluster::{TemporaryCluster, TemporaryOptions};
