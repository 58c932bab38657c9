//! A restored cluster that goes on beside the one that it came from, with the same system identifier, in the same repository.

use std::path::Path;
use std::sync::Arc;

use pgpersist_core::backup::physical::{BackupOptions, back_up};
use pgpersist_core::clock::SystemClock;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::fs::durable;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::restore::physical::{RestoreOptions, restore};
use pgpersist_core::store::memory::MemoryBackupStore;

use crate::physical::{Restored, backup, repository, restored, server_with};
use crate::support::server::TestServer;

const NOTES: &str = "SELECT pg_catalog.string_agg(note, ' ' ORDER BY id) FROM public.orders WHERE id > 5000";
const TIMELINE: &str = "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()";

async fn backup_of(sibling: &Restored, data: &Path, repository: &Repository) -> String {
    let options = BackupOptions::default();
    back_up(&sibling.connection("postgres"), data, repository, &options, &SystemClock, &Silent).await.unwrap().name
}

/// What a backup holds, by a server that is started on it.
async fn notes_in(server: &TestServer, repository: &Repository, backup: &str) -> String {
    let path = server.path("looked-at");
    let directory = LocalDataDirectory::open(&path).unwrap();
    restore(repository, backup.parse().unwrap(), &directory, &RestoreOptions::default(), &Silent).await.unwrap();
    let notes = {
        let started = Restored::start(&path).await;
        started.check();
        started.text("shop", NOTES).await
    };
    durable::remove_tree(&path).unwrap();
    notes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_sibling_and_its_elder_back_up_into_one_repository_and_keep_apart() {
    let server = server_with(5_000).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let first = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let (data, _) = restored(&server, &repository, "sibling").await.unwrap();
    let sibling = Restored::start(&data).await;
    let id = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    assert_eq!(sibling.text("postgres", id).await, server.text("postgres", id).await);
    assert_ne!(sibling.text("postgres", TIMELINE).await, server.text("postgres", TIMELINE).await);

    // Both change the same pages, each in its own way, and by turns.
    server.run("shop", "INSERT INTO public.orders VALUES (5001, 'elder'); CHECKPOINT").await;
    let elder = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let insert = "INSERT INTO public.orders VALUES (5001, 'younger') RETURNING id::text";
    assert_eq!(sibling.text("shop", insert).await, "5001");
    let younger = backup_of(&sibling, &data, &repository).await;
    server.run("shop", "INSERT INTO public.orders VALUES (5002, 'again'); CHECKPOINT").await;
    let elder_again = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    drop(sibling);

    assert_eq!(verify(&repository, None, Depth::Full, &Silent).await.unwrap().damaged, []);
    for (backup, notes) in [(&first.name, ""), (&elder.name, "elder"), (&younger, "younger"), (&elder_again.name, "elder again")] {
        assert_eq!(notes_in(&server, &repository, backup).await, notes, "{backup}");
    }
    // Each costs what changed: the elder's second one builds on the elder's first, not on what the sibling made in between.
    assert!(elder_again.new_bytes * 5 < first.new_bytes, "{elder_again:?} after {first:?}");
}
