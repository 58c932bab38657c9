//! Backups by WAL summaries, on each version that writes them: only changed blocks are read, and the backup is what a full read gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::backup::physical::{BackupOptions, BackupReport};
use pgpersist_core::backup::summarized::SummaryUse;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::contents::Contents;
use pgpersist_core::repo::entry::{EntryKind, EntryPath, FileEntry};
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, verify};
use pgpersist_core::restore::physical::{RestoreOptions, restore};
use pgpersist_core::store::memory::MemoryBackupStore;

use crate::physical::{Restored, backup, repository};
use crate::support::installation::Installation;
use crate::support::server::TestServer;
use crate::support::skip::absent;

/// With the log of hint bits a server at rest has one content for each page; without it a summary may leave hints out, which are no matter.
const SETTINGS: &str = "summarize_wal = on\nwal_log_hints = on\nautovacuum = off\n";

/// Everything that is told apart from the rest of the log.
const CHANGES: &str = "UPDATE public.orders SET note = 'another' WHERE id % 5000 = 0;
    INSERT INTO public.orders SELECT g, 'new' FROM pg_catalog.generate_series(200001, 210000) g;
    TRUNCATE public.emptied; INSERT INTO public.emptied SELECT g FROM pg_catalog.generate_series(1, 500) g;
    DROP TABLE public.dropped;
    CREATE TABLE public.made AS SELECT g AS id FROM pg_catalog.generate_series(1, 5000) g;
    UPDATE public.rewritten SET id = id + 1;
    DELETE FROM public.shortened WHERE id > 100;
    CREATE UNLOGGED TABLE public.second_cache AS SELECT 1 AS id";

fn installations() -> Vec<Installation> {
    let found: Vec<Installation> = Installation::all().into_iter().filter(|installation| installation.version.major >= 17).collect();
    if found.is_empty() {
        absent("PostgreSQL 17", "no version here writes WAL summaries; name one in PGPERSIST_TEST_BINDIRS");
    }
    found
}

fn every_file() -> BackupOptions {
    BackupOptions { full_read_days: 0, compaction_percent: 0, ..BackupOptions::default() }
}

fn what_changed() -> BackupOptions {
    BackupOptions { compaction_percent: 0, ..BackupOptions::default() }
}

async fn files(repository: &Repository, backup: &BackupReport) -> BTreeMap<EntryPath, FileEntry> {
    let manifest = repository.manifest(backup.name.parse().unwrap()).await.unwrap();
    let entries = Contents::new(repository).all_entries(&manifest).await.unwrap();
    let file = |kind| if let EntryKind::File(file) = kind { Some(file) } else { None };
    entries.into_iter().filter_map(|entry| Some((entry.path, file(entry.kind)?))).collect()
}

/// The sums of all tables that the changes were about.
async fn sums(text: impl AsyncFn(&str, &str) -> String) -> Vec<String> {
    let mut sums = Vec::new();
    for table in ["orders", "emptied", "made", "rewritten", "shortened", "placed"] {
        let sum = format!("SELECT pg_catalog.md5(pg_catalog.string_agg(t::text, '' ORDER BY t::text)) FROM public.{table} t");
        sums.push(text("shop", &sum).await);
    }
    for database in ["by_copy", "by_log"] {
        sums.push(text(database, "SELECT pg_catalog.count(*) FROM public.orders").await);
    }
    sums
}

async fn filled(installation: &Installation, settings: &str) -> TestServer {
    let server = TestServer::start_with(&installation.bin, &[], "", settings).await;
    server.session("postgres").await.create_database("shop").await.unwrap();
    let space = server.path("space");
    fs::create_dir(&space).unwrap();
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("chown").arg("postgres:").arg(&space).status().unwrap().success());
    }
    server.run("postgres", &format!("CREATE TABLESPACE elsewhere LOCATION '{}'", space.display())).await;
    let tables = "CREATE TABLE public.orders (id bigint PRIMARY KEY, note text NOT NULL);
        INSERT INTO public.orders SELECT g, pg_catalog.md5(g::text) FROM pg_catalog.generate_series(1, 200000) g;
        CREATE TABLE public.emptied AS SELECT g AS id FROM pg_catalog.generate_series(1, 50000) g;
        CREATE TABLE public.dropped AS SELECT g AS id FROM pg_catalog.generate_series(1, 50000) g;
        CREATE TABLE public.rewritten AS SELECT g AS id FROM pg_catalog.generate_series(1, 50000) g;
        CREATE TABLE public.shortened AS SELECT g AS id FROM pg_catalog.generate_series(1, 50000) g;
        CREATE TABLE public.placed TABLESPACE elsewhere AS SELECT g AS id FROM pg_catalog.generate_series(1, 50000) g";
    server.run("shop", tables).await;
    server.run("shop", "VACUUM").await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_changed_blocks_are_read_and_the_backup_is_what_a_full_read_gives() {
    for installation in installations() {
        let server = filled(&installation, SETTINGS).await;
        let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
        let first = backup(&server, &repository, &what_changed()).await.unwrap();
        assert_eq!(first.wal_summaries, SummaryUse::None);
        server.run("shop", CHANGES).await;
        server.run("shop", "VACUUM FULL public.rewritten").await;
        server.run("shop", "VACUUM public.shortened").await;
        server.run("shop", "INSERT INTO public.shortened SELECT g FROM pg_catalog.generate_series(1, 9000) g").await;
        server.run("shop", "UPDATE public.placed SET id = -id WHERE id = 30000").await;
        server.run("postgres", "CREATE DATABASE by_copy TEMPLATE shop STRATEGY file_copy").await;
        server.run("postgres", "CREATE DATABASE by_log TEMPLATE shop STRATEGY wal_log").await;
        server.run("by_copy", "DELETE FROM public.orders WHERE id < 10").await;
        server.run("shop", "VACUUM").await;
        server.run("by_copy", "VACUUM").await;
        let expected = sums(async |database, sql| server.text(database, sql).await).await;
        server.run("postgres", "CHECKPOINT").await;

        let fast = backup(&server, &repository, &what_changed()).await.unwrap();
        let full = backup(&server, &repository, &every_file()).await.unwrap();
        assert_eq!((fast.wal_summaries, full.wal_summaries), (SummaryUse::Used, SummaryUse::None), "{}", installation.version);
        // What the two databases that were made since hold must be read, and half of it is what the first one held.
        assert!(fast.unread_bytes * 5 > first.size_bytes * 2, "{fast:?} after {first:?}");
        let (of_first, of_fast, of_full) =
            (files(&repository, &first).await, files(&repository, &fast).await, files(&repository, &full).await);
        let (mut compared, mut touched) = (0, 0);
        for (path, file) in &of_fast {
            let Some(other) = of_full.get(path).filter(|other| other.stamp == file.stamp && !path.as_bytes().starts_with(b"pg_wal/"))
            else {
                continue;
            };
            assert_eq!((file.size, &file.leaves), (other.size, &other.leaves), "{path:?} on {}", installation.version);
            compared += 1;
            let before = of_first.get(path);
            touched += u32::from(before.is_some_and(|before| before.stamp != file.stamp && file.read_fully.to_string() == first.name));
        }
        // Files that were written to, and of which not all was read.
        assert!(compared * 10 > of_full.len() * 9 && touched >= 3, "{compared} of {}, {touched} touched", of_full.len());

        assert_eq!(verify(&repository, None, Depth::Full, &Silent).await.unwrap().damaged, Vec::new());
        restores(&server, &repository, &installation, &fast, &expected).await;
    }
}

/// A server on what is restored of a backup says what is expected.
async fn restores(server: &TestServer, repository: &Repository, installation: &Installation, backup: &BackupReport, expected: &[String]) {
    let place = server.path("restored");
    let directory = LocalDataDirectory::open(&place).unwrap();
    let space = format!("elsewhere={}", server.path("restored_space").display());
    let options = RestoreOptions { tablespaces: vec![space.parse().unwrap()], ..RestoreOptions::default() };
    restore(repository, backup.name.parse().unwrap(), &directory, &options, &Silent).await.unwrap();
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("chown").args(["-R", "postgres:"]).arg(server.path("restored_space")).status().unwrap().success());
    }
    let restored = Restored::start_with(&installation.bin, &place, "f").await;
    assert_eq!(sums(async |database, sql| restored.text(database, sql).await).await, expected, "{}", installation.version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_what_was_committed_is_there() {
    for installation in installations() {
        let server = filled(&installation, "summarize_wal = on\n").await;
        let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
        backup(&server, &repository, &BackupOptions::default()).await.unwrap();
        server.run("postgres", "CREATE DATABASE by_copy TEMPLATE shop STRATEGY file_copy").await;
        server.run("postgres", "CREATE DATABASE by_log TEMPLATE shop STRATEGY wal_log").await;
        server.run("shop", "CREATE TABLE public.made (id bigint)").await;
        let writer = server.session("shop").await;
        let ending = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let committed = Arc::clone(&ending);
        let writing = tokio::spawn(async move {
            for round in 1.. {
                let change = format!(
                    "BEGIN; UPDATE public.orders SET note = 'round {round}' WHERE id = {}; INSERT INTO public.made VALUES ({round}); COMMIT",
                    round * 7919 % 200_000 + 1
                );
                writer.execute("change a row", &change).await.unwrap();
                committed.store(round, std::sync::atomic::Ordering::SeqCst);
            }
        });
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = ending.load(std::sync::atomic::Ordering::SeqCst);
            let report = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
            assert_eq!(report.wal_summaries, SummaryUse::Used, "{report:?}");
            let place = server.path(&report.name);
            let directory = LocalDataDirectory::open(&place).unwrap();
            let space = format!("elsewhere={}", server.path(&format!("space_{}", report.name)).display());
            let options = RestoreOptions { tablespaces: vec![space.parse().unwrap()], ..RestoreOptions::default() };
            restore(&repository, report.name.parse().unwrap(), &directory, &options, &Silent).await.unwrap();
            if rustix::process::geteuid().is_root() {
                let space = server.path(&format!("space_{}", report.name));
                assert!(Command::new("chown").args(["-R", "postgres:"]).arg(space).status().unwrap().success());
            }
            let restored = Restored::start_with(&installation.bin, &place, "f").await;
            let newest: u64 = restored.text("shop", "SELECT pg_catalog.max(id) FROM public.made").await.parse().unwrap();
            assert!(newest >= before, "{before} was committed before the backup, {newest} is there");
            let row = newest * 7919 % 200_000 + 1;
            let note = restored.text("shop", &format!("SELECT note FROM public.orders WHERE id = {row}")).await;
            assert_eq!(note, format!("round {newest}"));
            let all = restored.text("shop", "SELECT pg_catalog.count(*) FROM public.orders").await;
            assert_eq!(all, "200000");
        }
        writing.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_summaries_and_another_history_have_all_files_read() {
    for installation in installations() {
        let server = filled(&installation, SETTINGS).await;
        let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
        backup(&server, &repository, &what_changed()).await.unwrap();
        server.run("shop", "UPDATE public.orders SET note = 'gone' WHERE id = 77; CHECKPOINT").await;
        backup(&server, &repository, &what_changed()).await.unwrap();
        // What the last change is in is put away.
        let summaries = server.path("data/pg_wal/summaries");
        server.run("shop", "UPDATE public.orders SET note = 'seen' WHERE id = 78; CHECKPOINT").await;
        let started = std::time::Instant::now();
        while newest_summary(&summaries).is_none_or(|name| name <= oldest_summary(&summaries).unwrap()) {
            assert!(started.elapsed() < Duration::from_secs(60), "the server writes no summary");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        fs::remove_file(summaries.join(newest_summary(&summaries).unwrap())).unwrap();
        let report = backup(&server, &repository, &what_changed()).await.unwrap();
        assert_eq!(report.wal_summaries, SummaryUse::Incomplete, "{report:?}");

        // The summary that ends where the parent begins looks as if it had been written after the parent.
        for entry in fs::read_dir(&summaries).unwrap() {
            let file = fs::File::options().append(true).open(entry.unwrap().path()).unwrap();
            file.set_modified(std::time::SystemTime::from(SystemClock.now()) + Duration::from_secs(3600)).unwrap();
        }
        let report = backup(&server, &repository, &what_changed()).await.unwrap();
        assert_eq!(report.wal_summaries, SummaryUse::Incomplete, "{report:?}");
        let note = "SELECT note FROM public.orders WHERE id = 78";
        let place = server.path("restored");
        let directory = LocalDataDirectory::open(&place).unwrap();
        let space = format!("elsewhere={}", server.path("restored_space").display());
        let options = RestoreOptions { tablespaces: vec![space.parse().unwrap()], ..RestoreOptions::default() };
        restore(&repository, report.name.parse().unwrap(), &directory, &options, &Silent).await.unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").args(["-R", "postgres:"]).arg(server.path("restored_space")).status().unwrap().success());
        }
        let restored = Restored::start_with(&installation.bin, &place, "f").await;
        assert_eq!(restored.text("shop", note).await, "seen");

        server.run("postgres", "ALTER SYSTEM SET summarize_wal = off").await;
        server.run("postgres", "SELECT pg_catalog.pg_reload_conf()").await;
        let report = backup(&server, &repository, &what_changed()).await.unwrap();
        assert_eq!(report.wal_summaries, SummaryUse::Off, "{report:?}");
    }
}

fn summaries_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".summary") && !name.starts_with("temp")).collect();
    names.sort();
    names
}

fn newest_summary(folder: &Path) -> Option<String> {
    summaries_in(folder).pop()
}

fn oldest_summary(folder: &Path) -> Option<String> {
    summaries_in(folder).into_iter().next()
}
