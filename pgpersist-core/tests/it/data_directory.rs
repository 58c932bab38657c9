//! Every data directory keeps the promises of the trait, and the suite notices one that does not.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pgpersist_core::data_directory::conformance::violations;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::own_folder::OwnFolder;
use pgpersist_core::data_directory::placement::Placement;
use pgpersist_core::data_directory::state::State;
use pgpersist_core::data_directory::{Claim, DataDirectory, DiskUsage};
use pgpersist_core::error::Result;

use crate::support::scratch::Scratch;

/// Scratch folders that live as long as the suite runs.
#[derive(Default)]
struct Places(Mutex<Vec<Scratch>>);

impl Places {
    fn next(&self) -> LocalDataDirectory {
        let scratch = Scratch::new();
        let directory = LocalDataDirectory::open(scratch.join("pgdata")).unwrap();
        self.0.lock().unwrap().push(scratch);
        directory
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_directory_keeps_every_promise() {
    let places = Places::default();
    let broken = violations(|| async { Arc::new(places.next()) as Arc<dyn DataDirectory> }).await;
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Hands out claims that hold nothing, and empties what it prepares.
#[derive(Debug)]
struct Careless(LocalDataDirectory);

#[async_trait]
impl DataDirectory for Careless {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn own_folder(&self) -> &OwnFolder {
        self.0.own_folder()
    }

    async fn state(&self) -> Result<State> {
        self.0.state().await
    }

    async fn claim(&self) -> Result<Claim> {
        Ok(Claim::new(()))
    }

    async fn prepare(&self, _claim: &Claim) -> Result<State> {
        for entry in std::fs::read_dir(self.path()).into_iter().flatten().flatten() {
            std::fs::remove_file(entry.path()).unwrap();
        }
        self.0.state().await
    }

    async fn placement(&self) -> Result<Placement> {
        self.0.placement().await
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        self.0.disk_usage().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_notices_a_careless_one() {
    let places = Places::default();
    let broken = violations(|| async { Arc::new(Careless(places.next())) as Arc<dyn DataDirectory> }).await;
    let promises: Vec<&str> = broken.iter().map(|violation| violation.promise).collect();
    assert_eq!(promises, ["of_two_claims_one_is_refused", "somebody_elses_files_are_foreign_and_survive"]);
}
