//! What physical backups are made of: files that did not change, configuration that lies elsewhere, a standby in the place of its primary.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgpersist_core::backup::physical::{BackupOptions, BackupReport, back_up};
use pgpersist_core::clock::SystemClock;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::{ErrorKind, Result};
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::contents::Contents;
use pgpersist_core::repo::entry::{EntryKind, EntryPath, FileEntry};
use pgpersist_core::repo::manifest::OutsideFile;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::restore::physical::{RestoreOptions, restore};
use pgpersist_core::store::memory::MemoryBackupStore;

use crate::physical::{Restored, backup, repository, restored, server_with};
use crate::support::server::{BIN, TestServer};

const SUM: &str = "SELECT pg_catalog.md5(pg_catalog.string_agg(note, '' ORDER BY id)) FROM public.orders";
/// More than what a file must have been left alone for before a backup begins.
const QUIET: Duration = Duration::from_millis(2500);

fn every_file() -> BackupOptions {
    BackupOptions { full_read_days: 0, ..BackupOptions::default() }
}

async fn files(repository: &Repository, backup: &BackupReport) -> BTreeMap<EntryPath, FileEntry> {
    let manifest = repository.manifest(backup.name.parse().unwrap()).await.unwrap();
    let entries = Contents::new(repository).all_entries(&manifest).await.unwrap();
    let file = |kind| if let EntryKind::File(file) = kind { Some(file) } else { None };
    entries.into_iter().filter_map(|entry| Some((entry.path, file(entry.kind)?))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_did_not_change_are_left_unread_and_the_backup_is_what_a_full_read_gives() {
    let server = server_with(20_000).await;
    server.run("postgres", "CHECKPOINT").await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    tokio::time::sleep(QUIET).await;
    let first = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    server.run("shop", "UPDATE public.orders SET note = 'another' WHERE id % 500 = 0; CHECKPOINT").await;
    let fast = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let full = backup(&server, &repository, &every_file()).await.unwrap();
    assert_eq!((first.unread_bytes, full.unread_bytes), (0, 0));
    assert!(fast.unread_bytes * 2 > fast.size_bytes && fast.unread_bytes < fast.size_bytes, "{fast:?}");
    // Whatever a server at rest touched between the two, all else lies at the same places.
    let (of_fast, of_full) = (files(&repository, &fast).await, files(&repository, &full).await);
    let mut compared = 0;
    for (path, file) in &of_fast {
        let Some(other) = of_full.get(path).filter(|other| other.stamp == file.stamp && !path.as_bytes().starts_with(b"pg_wal/")) else {
            continue;
        };
        assert_eq!((file.size, &file.leaves), (other.size, &other.leaves), "{path:?}");
        assert_eq!(other.read_fully.to_string(), full.name, "{path:?}");
        compared += 1;
    }
    let kept = of_fast.values().filter(|file| file.read_fully.to_string() == first.name).count();
    assert!(compared * 10 > of_full.len() * 9 && kept * 2 > of_fast.len(), "{compared} and {kept} of {}", of_full.len());

    assert_eq!(verify(&repository, None, Depth::Full, &Silent).await.unwrap().damaged, Vec::new());
    let manifest = repository.manifest(fast.name.parse().unwrap()).await.unwrap();
    let place = server.path("fast");
    let directory = LocalDataDirectory::open(&place).unwrap();
    restore(&repository, manifest.backup, &directory, &RestoreOptions::default(), &Silent).await.unwrap();
    let restored = Restored::start(&place).await;
    assert_eq!(restored.text("shop", SUM).await, server.text("shop", SUM).await);
    restored.check();
}

/// Writes a file anew, of the same length, and sets its time back to what it was.
fn rewrite(path: &Path, text: &str) {
    let before = fs::metadata(path).unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
    assert_eq!(
        (fs::metadata(path).unwrap().modified().unwrap(), fs::metadata(path).unwrap().len()),
        (before.modified().unwrap(), before.len())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_and_has_its_old_time_and_length_is_read() {
    let server = server_with(10).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let (old, new) = (server.path("data/old-notes"), server.path("data/new-notes"));
    File::create(&old).unwrap().write_all(b"one").unwrap();
    tokio::time::sleep(QUIET).await;
    File::create(&new).unwrap().write_all(b"one").unwrap();
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    for path in [&old, &new] {
        rewrite(path, "two");
    }
    let report = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    assert!(report.unread_bytes > 0, "{report:?}");
    let (data, _) = restored(&server, &repository, "restored").await.unwrap();
    for name in ["old-notes", "new-notes"] {
        assert_eq!(fs::read_to_string(data.join(name)).unwrap(), "two", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_that_lies_elsewhere_is_part_of_the_backup() {
    let place = tempfile::Builder::new().prefix("pgpersist-it-").tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let write = |name: &str, text: &str| {
        File::create(place.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
        place.path().join(name).to_str().unwrap().to_owned()
    };
    let hba = write("pg_hba.conf", "# who may come in\nlocal all all trust\n");
    let more = write("more.conf", "work_mem = '7MB'\n");
    let server = TestServer::start("", &format!("hba_file = '{hba}'\ninclude '{more}'")).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let report = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let manifest = repository.manifest(report.name.parse().unwrap()).await.unwrap();
    let file = |setting: &str, location: &str, content: &str| OutsideFile {
        setting: setting.to_owned(),
        location: location.to_owned(),
        content: content.to_owned(),
    };
    let expected = [file("include", &more, "work_mem = '7MB'\n"), file("hba_file", &hba, "# who may come in\nlocal all all trust\n")];
    assert_eq!(manifest.outside, expected);
}

/// A standby of the server, which has replayed all of its orders.
async fn standby_of(server: &TestServer) -> (PathBuf, Restored) {
    let data = server.path("standby");
    let made = Command::new(Path::new(BIN).join("pg_basebackup"))
        .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--username=postgres", "--host"])
        .arg(server.directory.path())
        .arg("--pgdata")
        .arg(&data)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let standby = Restored::start_in(&data, "t").await;
    let began = Instant::now();
    while standby.text("shop", SUM).await != server.text("shop", SUM).await {
        assert!(began.elapsed() < Duration::from_secs(60), "the standby does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (data, standby)
}

async fn backup_of(standby: &Restored, data: &Path, repository: &Repository, options: &BackupOptions) -> Result<BackupReport> {
    back_up(&standby.connection("postgres"), data, repository, options, &SystemClock, &Silent).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_backed_up_like_its_primary_and_a_promotion_makes_that_void() {
    let server = server_with(5_000).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let (data, standby) = standby_of(&server).await;
    let report = backup_of(&standby, &data, &repository, &BackupOptions::default()).await.unwrap();
    let manifest = repository.manifest(report.name.parse().unwrap()).await.unwrap();
    assert!(manifest.backup_label.contains("BACKUP FROM: standby"), "{}", manifest.backup_label);
    let (place, told) = restored(&server, &repository, "restored").await.unwrap();
    assert!(told.settings_removed.contains(&"primary_conninfo".to_owned()), "{told:?}");
    {
        let restored = Restored::start(&place).await;
        assert_eq!(restored.text("shop", SUM).await, server.text("shop", SUM).await);
        restored.check();
    }

    // Slow enough to be promoted meanwhile.
    let slow = BackupOptions { rate_limit: NonZeroU64::new(4 << 20), workers: 1, ..every_file() };
    let promotion = async {
        let slots = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots";
        while standby.text("postgres", slots).await != "1" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(standby.text("postgres", "SELECT pg_catalog.pg_promote()").await, "t");
    };
    let (backed_up, ()) = tokio::join!(backup_of(&standby, &data, &repository, &slow), promotion);
    let error = backed_up.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("void"), "{error}");
    assert_eq!(repository.backups().await.unwrap(), [manifest.backup]);
}
