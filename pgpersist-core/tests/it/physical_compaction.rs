//! Backups move what is left of packs of which little is needed, up to a budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgpersist_core::backup::physical::{BackupOptions, BackupReport};
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::contents::Contents;
use pgpersist_core::repo::dropped::Dropped;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::store::memory::MemoryBackupStore;

use crate::physical::{Restored, backup, repository, restored, server_with};
use crate::support::server::TestServer;

const SUM: &str = "SELECT pg_catalog.md5(pg_catalog.string_agg(note, '' ORDER BY id)) FROM public.orders";

fn moving(compaction_percent: u32) -> BackupOptions {
    BackupOptions { compaction_percent, ..BackupOptions::default() }
}

/// How much a backup uses of the packs of each run, and how much these hold.
async fn used(repository: &Repository, backup: &BackupReport) -> BTreeMap<RunName, (u64, u64)> {
    let manifest = repository.manifest(backup.name.parse().unwrap()).await.unwrap();
    let mut runs: BTreeMap<RunName, (u64, u64)> = BTreeMap::new();
    for record in Contents::new(repository).packs(&manifest).await.unwrap() {
        let (used, bytes) = runs.entry(record.pack.run).or_default();
        (*used, *bytes) = (*used + record.used, *bytes + record.bytes);
    }
    runs
}

async fn is_whole(server: &TestServer, repository: &Repository, name: &str) {
    assert_eq!(verify(repository, None, Depth::Full, &Silent).await.unwrap().damaged, Vec::new());
    let (data, _) = restored(server, repository, name).await.unwrap();
    let restored = Restored::start(&data).await;
    assert_eq!(restored.text("shop", SUM).await, server.text("shop", SUM).await);
    restored.check();
}

/// Pages that change here and there leave little of an old pack in the middle of what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_thinly_in_an_older_pack_is_stored_with_what_is_new() {
    let server = server_with(100_000).await;
    server.run("shop", "ALTER TABLE public.orders SET (autovacuum_enabled = off)").await;
    // Else whoever reads a row first writes on its page that it is there.
    server.run("shop", "VACUUM FREEZE public.orders").await;
    server.run("shop", "CHECKPOINT").await;
    let (thin, moved) =
        (repository(Arc::new(MemoryBackupStore::new()), &server).await, repository(Arc::new(MemoryBackupStore::new()), &server).await);
    for repository in [&thin, &moved] {
        backup(&server, repository, &BackupOptions::default()).await.unwrap();
    }
    // Nine pages in ten of the table, each in its place.
    let change = "UPDATE public.orders SET note = pg_catalog.reverse(note)
        WHERE (ctid::text::point)[0]::bigint % 10 <> 3 AND (ctid::text::point)[1] < 4; CHECKPOINT";
    server.run("shop", change).await;
    let left = backup(&server, &thin, &moving(0)).await.unwrap();
    let less = backup(&server, &moved, &moving(100)).await.unwrap();
    assert_eq!(left.moved_bytes, 0);
    assert!(less.moved_bytes > 20 * 8192 && less.moved_bytes < less.size_bytes / 4, "{less:?}");
    assert!(less.new_bytes > left.new_bytes, "{less:?} and {left:?}");
    let tiny = backup(&server, &thin, &moving(1)).await.unwrap();
    // It ends with the stretch that goes over the budget.
    assert!(tiny.moved_bytes > 0 && tiny.moved_bytes <= less.moved_bytes, "{tiny:?} and {less:?}");
    is_whole(&server, &moved, "moved").await;
    is_whole(&server, &thin, "thin").await;
}

/// What is dropped leaves packs of which hardly anything is needed, though that lies close together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_of_which_no_backup_uses_half_are_emptied() {
    let server = server_with(2_000).await;
    let ballast = "CREATE TABLE public.ballast AS SELECT g AS id, pg_catalog.repeat(pg_catalog.md5(g::text), 40) AS note
        FROM pg_catalog.generate_series(1, 60000) g";
    server.run("shop", ballast).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let options = BackupOptions { workers: 1, ..moving(100) };
    let first = backup(&server, &repository, &options).await.unwrap();
    let of_first: RunName = first.name.parse().unwrap();
    server.run("shop", "DROP TABLE public.ballast; CHECKPOINT").await;
    // What the parent used was everything; how little this one does is known to the next.
    let second = backup(&server, &repository, &options).await.unwrap();
    let (uses, holds) = used(&repository, &second).await[&of_first];
    assert!(uses * 2 < holds && uses > 0, "{uses} of {holds}");
    // The first one uses most of them still, so that they would not go.
    let third = backup(&server, &repository, &BackupOptions { compaction_percent: 0, ..options.clone() }).await.unwrap();
    assert_eq!(third.moved_bytes, 0);
    // As prune does when its day is over.
    Dropped::put(of_first, &repository).await.unwrap();
    let manifest = layout::manifest(of_first);
    repository.store().delete(&repository.key(&manifest).unwrap()).await.unwrap();
    let fourth = backup(&server, &repository, &options).await.unwrap();
    assert!(fourth.moved_bytes >= uses / 2, "{fourth:?}, {uses} of {holds}");
    let fifth = backup(&server, &repository, &options).await.unwrap();
    let of_fifth = used(&repository, &fifth).await;
    assert!(of_fifth.get(&of_first).is_none_or(|(left, _)| left * 2 < uses), "{of_fifth:?}");
    is_whole(&server, &repository, "restored").await;
}
