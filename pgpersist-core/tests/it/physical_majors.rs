//! A physical backup from beginning to end on every major version found: what the server calls its functions, what lies in its directory and what a
//! page looks like differ between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgpersist_core::backup::physical::BackupOptions;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::restore::physical::newest;
use pgpersist_core::store::memory::MemoryBackupStore;

use crate::physical::{Load, Restored, backup, fill, repository, restored};
use crate::support::installation::Installation;
use crate::support::server::TestServer;

const ROWS: u32 = 20_000;
/// Of a row that nobody changes, and of what lies beside the table.
const SUM: &str = "SELECT pg_catalog.md5(pg_catalog.string_agg(id || note, '' ORDER BY id)) FROM public.kept";

/// A backup under load, and the next one that stores what changed, are verified and restored.
async fn backed_up_and_restored(installation: &Installation) {
    let major = installation.version.major;
    let server = TestServer::start_with(&installation.bin, &["--data-checksums"], "", "").await;
    fill(&server, ROWS).await;
    server.run("shop", "CREATE TABLE public.kept AS SELECT * FROM public.orders").await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    // What was touched less than two seconds before a backup began is read by the next one.
    server.run("postgres", "CHECKPOINT").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let load = Load::begin(&server, ROWS.into()).await;
    let first = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let before = load.committed();
    let second = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let after = load.end().await;
    assert!(first.damaged.is_empty() && second.damaged.is_empty(), "{major}: {first:?} {second:?}");
    assert!(second.new_bytes < first.new_bytes && second.unread_bytes > 0, "{major}: {second:?} after {first:?}");

    let report = verify(&repository, None, Depth::Full, &Silent).await.unwrap();
    assert!(report.damaged.is_empty() && report.unopened.is_empty(), "{major}: {report:?}");
    let manifest = repository.manifest(newest(&repository).await.unwrap()).await.unwrap();
    assert_eq!((manifest.backup.to_string(), manifest.cluster.major), (second.name.clone(), major));
    assert!(manifest.cluster.data_checksums);

    let (data, told) = restored(&server, &repository, "restored").await.unwrap();
    assert_eq!((&told.name, told.bytes), (&second.name, second.size_bytes));
    let restored = Restored::start_with(&server.bin, &data, "f").await;
    Load::judge(&restored, ROWS.into(), before, after).await;
    assert_eq!(restored.text("shop", SUM).await, server.text("shop", SUM).await, "{major}");
    assert_eq!(restored.text("shop", "SELECT pg_catalog.count(*) FROM public.cache").await, "0", "{major}");
    assert_eq!(restored.text("postgres", "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()").await, "2", "{major}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_and_the_next_one_restore_on_every_major() {
    let began = Instant::now();
    let mut majors = Vec::new();
    for installation in Installation::all() {
        backed_up_and_restored(&installation).await;
        majors.push(installation.version.major.to_string());
    }
    println!(
        "proof: physical backup on every major|{} majors: {}|0|-|{:.1}",
        majors.len(),
        majors.join(", "),
        began.elapsed().as_secs_f64()
    );
}
