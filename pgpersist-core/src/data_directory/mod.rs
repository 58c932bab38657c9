//! Where a cluster's files live, and what may be done to them.

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;

use async_trait::async_trait;
use serde::Serialize;

use crate::data_directory::own_folder::OwnFolder;
use crate::data_directory::placement::Placement;
use crate::data_directory::state::State;
use crate::error::Result;

pub mod ballast;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod fence;
pub mod identity;
pub mod local;
pub mod mixed;
pub mod own_folder;
pub mod placement;
pub mod staged_tablespaces;
pub mod staging;
pub mod state;

mod replaced;

/// A place where one cluster's files live.
///
/// # Contract
/// - No method destroys or overwrites a cluster. [`DataDirectory::prepare`] finishes or undoes what an interrupted run of
///   ours left, and touches nothing else.
/// - [`DataDirectory::state`] tells from files alone; it never asks a process and never waits for a lock.
/// - The suite in `data_directory/conformance.rs` (feature `testing`) asks for what can be asked within one process.
/// - At most one [`Claim`] exists at a time, on this node whatever the PID and IPC namespaces; it ends when it is dropped
///   and when its process dies. A child that was forked from that process has no part in it, if it calls [`let_go`](crate::fs::forked::let_go);
///   else the claim outlives the process with that child, though not the drop.
#[async_trait]
pub trait DataDirectory: Debug + Send + Sync {
    /// The path that PostgreSQL gets as its data directory.
    fn path(&self) -> &Path;

    /// The folder of our own files for it.
    fn own_folder(&self) -> &OwnFolder;

    /// What stands there now.
    ///
    /// # Errors
    /// `Invalid` when the path is a file; `Denied` when it may not be looked at.
    async fn state(&self) -> Result<State>;

    /// Takes the sole right to change the directory.
    ///
    /// # Errors
    /// `Conflict` when somebody else holds it; the error names the holder.
    async fn claim(&self) -> Result<Claim>;

    /// Finishes or undoes our own interrupted work and returns the state after it. Repeatable.
    ///
    /// # Errors
    /// `Damaged` when the leftovers contradict each other; nothing was removed then.
    async fn prepare(&self, claim: &Claim) -> Result<State>;

    /// Will what is written here survive the machine? With the evidence.
    ///
    /// # Errors
    /// `Unavailable` when the mount table cannot be read.
    async fn placement(&self) -> Result<Placement>;

    /// How much room the cluster takes, and how much is left.
    ///
    /// # Errors
    /// `NotFound` when there is nothing to measure.
    async fn disk_usage(&self) -> Result<DiskUsage>;
}

/// The sole right to change a data directory, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    _holds: Box<dyn Holds>,
}

trait Holds: Any + Debug + Send + Sync {}
impl<T: Any + Debug + Send + Sync> Holds for T {}

impl Claim {
    /// A claim that lasts as long as `holds` lives: a lock, a lease.
    pub fn new(holds: impl Any + Debug + Send + Sync) -> Self {
        Self { _holds: Box::new(holds) }
    }
}

/// Room taken and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskUsage {
    /// Bytes of all files of the cluster.
    pub used_bytes: u64,
    /// How many files these are.
    pub files: u64,
    /// Bytes that are still free for us on its file system.
    pub free_bytes: u64,
    /// Bytes of the whole file system.
    pub total_bytes: u64,
    /// Inodes that are still free, 0 where the file system does not count them.
    pub free_inodes: u64,
}
