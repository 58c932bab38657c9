//! A backup as it is asked for: of a cluster, into its repository in a store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::backup::physical::{BackupOptions, BackupReport, back_up};
use crate::clock::Clock;
use crate::error::Result;
use crate::logical::cluster_card::{ClusterCard, FOLDER};
use crate::logical::name::folder_of;
use crate::logical::shelf::Shelf;
use crate::progress::ProgressSink;
use crate::repo::keys::RepositoryKeys;
use crate::repo::repository::Repository;
use crate::server::cluster::Cluster;
use crate::server::session::Session;
use crate::store::{BackupStore, ObjectKey};

/// How long opening a session may take.
const CONNECT: Duration = Duration::from_secs(30);

/// What is to be backed up, and where to.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The running cluster.
    pub cluster: Cluster,
    /// Where its repository lies.
    pub store: Arc<dyn BackupStore>,
    /// What the cluster is called in its stores.
    pub cluster_name: String,
    /// With what keys, where the store has encryption; else nothing is encrypted.
    pub keys: Option<Arc<RepositoryKeys>>,
    /// How.
    pub options: BackupOptions,
}

/// Where the repository of a cluster lies in a store.
///
/// # Errors
/// `Invalid` when the name makes no key.
pub fn folder(cluster_name: &str) -> Result<ObjectKey> {
    format!("{FOLDER}/{}/repository", folder_of(cluster_name)).parse()
}

impl BackupRequest {
    /// A backup of a cluster to where its dumps lie, encrypted as they are. The keys are looked for anew by each request.
    ///
    /// # Errors
    /// `Invalid` when the cluster's name is too long for a key.
    pub fn on(cluster: Cluster, shelf: &Shelf, options: BackupOptions) -> Result<Self> {
        let keys = Some(shelf.repository_keys()?);
        Ok(Self { cluster, store: shelf.store().clone(), cluster_name: shelf.cluster().to_owned(), keys, options })
    }

    /// Backs it up. What is dropped half-way is no backup.
    ///
    /// # Errors
    /// As [`back_up`]; `Unsafe` when the store serves another cluster under this name.
    pub fn carry_out<'a>(&'a self, clock: &'a dyn Clock, progress: &'a dyn ProgressSink) -> BoxFuture<'a, Result<BackupReport>> {
        Box::pin(async move {
            let connection = self.cluster.connection("postgres").await?;
            let session = Session::connect(&connection, CONNECT).await?;
            let (system_identifier, version) = (session.system_identifier().await?, session.version().await?);
            drop(session);
            let now = clock.now();
            ClusterCard::new(self.cluster_name.clone(), system_identifier, version, now).claim(self.store.as_ref()).await?;
            let folder = folder(&self.cluster_name)?;
            let store = Arc::clone(&self.store);
            let repository = match &self.keys {
                Some(keys) => Repository::open_or_make_with(store, folder, system_identifier, Arc::clone(keys), now).await?,
                None => Repository::open_or_make(store, folder, system_identifier, now).await?,
            };
            back_up(&connection, self.cluster.path(), &repository, &self.options, clock, progress).await
        })
    }
}
