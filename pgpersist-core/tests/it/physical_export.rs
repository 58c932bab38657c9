//! Physical backups that leave the repository: exported, with `pg_verifybackup` as the judge, and restored by `restore.py`, with the library's own
//! restore as the measure.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgpersist_core::backup::physical::{BackupOptions, back_up};
use pgpersist_core::clock::SystemClock;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::export::physical::{Destination, ExportReport, export};
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::frame::Compression;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::restore::physical::{RestoreOptions, newest, restore};
use pgpersist_core::store::local::LocalBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey};
use time::OffsetDateTime;

use crate::support::installation::server_user;
use crate::support::server::{BIN, TestServer};
use crate::support::tree::Tree;

fn folder() -> ObjectKey {
    ".pgpersist/main/repository".parse().unwrap()
}

/// A repository in a folder beside the server.
async fn repository(server: &TestServer) -> Repository {
    let store: Arc<dyn BackupStore> = Arc::new(LocalBackupStore::open(server.path("store")).unwrap());
    let system_identifier = server.session("postgres").await.system_identifier().await.unwrap();
    Repository::open_or_make(store, folder(), system_identifier, OffsetDateTime::UNIX_EPOCH).await.unwrap()
}

async fn backup(server: &TestServer, repository: &Repository, compression: Compression) -> RunName {
    let options = BackupOptions { compression, ..BackupOptions::default() };
    back_up(&server.connection("postgres"), &server.path("data"), repository, &options, &SystemClock, &Silent).await.unwrap();
    newest(repository).await.unwrap()
}

/// Two databases with things of several kinds.
async fn server() -> TestServer {
    let server = TestServer::start("", "").await;
    for database in ["shop", "Другая база"] {
        server.session("postgres").await.create_database(database).await.unwrap();
        let fill = "CREATE TABLE public.orders (id bigint PRIMARY KEY, note text NOT NULL);
            INSERT INTO public.orders SELECT g, pg_catalog.md5(g::text) FROM pg_catalog.generate_series(1, 5000) g;
            CREATE UNLOGGED TABLE public.cache AS SELECT g AS id FROM pg_catalog.generate_series(1, 100) g;
            CREATE TABLE public.empty ();";
        server.run(database, fill).await;
    }
    server
}

/// Makes a folder that belongs to whom the one above it belongs to.
fn folder_of_the_server(server: &TestServer, name: &str) -> PathBuf {
    let path = server.path(name);
    std::fs::create_dir(&path).unwrap();
    if let Some(user) = server_user() {
        std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).unwrap();
    }
    path
}

/// Makes a tablespace with a table in it.
async fn with_tablespace(server: &TestServer) {
    let path = folder_of_the_server(server, "tablespace");
    server.run("shop", &format!("CREATE TABLESPACE fast LOCATION '{}'", path.display())).await;
    server
        .run("shop", "CREATE TABLE public.fast TABLESPACE fast AS SELECT g AS id FROM pg_catalog.generate_series(1, 5000) g; CHECKPOINT")
        .await;
}

async fn exported(repository: &Repository, backup: RunName, destination: Destination) -> ExportReport {
    export(repository, backup, destination, &Silent).await.unwrap()
}

/// What PostgreSQL's judge says of an export.
fn judged(export: &Path) -> Output {
    Command::new(Path::new(BIN).join("pg_verifybackup")).arg(export).output().unwrap()
}

#[track_caller]
fn accepted(export: &Path) {
    let Output { status, stdout, stderr } = judged(export);
    assert!(status.success(), "{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
}

fn unpacked(archive: &Path, folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let mut tar = Command::new("tar");
    assert!(tar.args(["--extract", "--no-same-owner", "-C"]).arg(folder).arg("-f").arg(archive).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_verifybackup_accepts_a_directory_and_a_tar_and_they_are_the_same() {
    let server = server().await;
    with_tablespace(&server).await;
    let repository = repository(&server).await;
    let backup = backup(&server, &repository, Compression::default()).await;
    let (directory, archive) = (server.path("export"), server.path("export.tar"));
    let report = exported(&repository, backup, Destination::Directory(directory.clone())).await;
    assert_eq!((report.name, report.path.as_deref()), (backup.to_string(), Some(directory.as_path())));
    accepted(&directory);
    exported(&repository, backup, Destination::Archive(archive.clone())).await;
    let unpacked_to = server.path("unpacked");
    unpacked(&archive, &unpacked_to);
    accepted(&unpacked_to);
    let (plain, of_tar) = (Tree::read(&directory), Tree::read(&unpacked_to));
    // The root is whoever's unpacked it.
    let differences: Vec<_> = plain.differences(&of_tar).into_iter().filter(|path| !path.is_empty()).collect();
    assert_eq!(differences, Vec::<std::ffi::OsString>::new());
    let manifest = repository.manifest(backup).await.unwrap();
    assert_eq!(plain.content("backup_label"), manifest.backup_label.as_bytes());
    assert_eq!(plain.content("tablespace_map"), manifest.tablespace_map.clone().unwrap().as_bytes());
    let oid = manifest.tablespaces[0].oid;
    assert!(directory.join(format!("pg_tblspc/{oid}")).symlink_metadata().unwrap().is_dir());
    assert!(!directory.join("recovery.signal").exists());
    // What the judge says means something: it finds a byte that changed, a file that is gone, and log that is missing.
    let table = directory.join("global/1262");
    let file = File::options().read(true).write(true).open(&table).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100).unwrap();
    let found = judged(&directory);
    assert!(!found.status.success() && String::from_utf8_lossy(&found.stderr).contains("global/1262"), "{found:?}");
    for segment in std::fs::read_dir(unpacked_to.join("pg_wal")).unwrap() {
        let segment = segment.unwrap().path();
        if segment.is_file() {
            File::options().write(true).open(segment).unwrap().set_len(0).unwrap();
        }
    }
    assert!(!judged(&unpacked_to).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_fails_leaves_nothing() {
    let server = server().await;
    let repository = repository(&server).await;
    let backup = backup(&server, &repository, Compression::default()).await;
    let manifest = repository.manifest(backup).await.unwrap();
    let pack = repository.key(&layout::pack(manifest.entries[0].pack)).unwrap();
    let scratch = folder_of_the_server(&server, "exports");
    let good = repository.store().get(&pack).await.unwrap();
    let mut bad = good.to_vec();
    bad[100] ^= 1;
    repository.store().put(&pack, bad.into()).await.unwrap();
    for destination in [Destination::Directory(scratch.join("export")), Destination::Archive(scratch.join("export.tar"))] {
        let error = export(&repository, backup, destination, &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
    }
    repository.store().put(&pack, good).await.unwrap();
    // Whoever reads the tar goes away.
    let error = export(&repository, backup, Destination::Stream(Box::new(Broken(1 << 20))), &Silent).await.unwrap_err();
    assert!(error.causes().iter().any(|cause| cause.contains("nobody reads")), "{error}: {:?}", error.causes());
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    let occupied = scratch.join("mine");
    std::fs::create_dir(&occupied).unwrap();
    File::create(occupied.join("mine")).unwrap();
    for destination in [Destination::Directory(occupied.clone()), Destination::Archive(occupied.join("mine"))] {
        let error = export(&repository, backup, destination, &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsafe);
    }
    // Nobody waits any more: what was begun goes.
    let abandoned = scratch.join("abandoned");
    let exporting = export(&repository, backup, Destination::Directory(abandoned.clone()), &Silent);
    let _ = tokio::time::timeout(Duration::from_millis(5), exporting).await;
    exported(&repository, backup, Destination::Directory(scratch.join("whole"))).await;
    accepted(&scratch.join("whole"));
    let began = Instant::now();
    while std::fs::read_dir(&scratch).unwrap().count() > 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "what nobody waits for is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!abandoned.exists());
}

/// Takes so many bytes.
struct Broken(usize);

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => {
                self.0 = left;
                Ok(bytes.len())
            }
            None => Err(std::io::Error::new(std::io::ErrorKind::BrokenPipe, "nobody reads")),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the `restore.py` that lies in the repository.
fn by_hand(server: &TestServer, arguments: &[&str]) -> Output {
    let program = server.path("store/.pgpersist/main/repository/restore.py");
    Command::new("python3").arg("-B").arg(program).args(arguments).output().unwrap()
}

#[track_caller]
fn restored_by_hand(server: &TestServer, backup: RunName, more: &[&str]) -> PathBuf {
    let target = server.path("by_hand");
    let name = backup.to_string();
    let arguments = [&["restore", &name, target.to_str().unwrap()], more].concat();
    let Output { status, stderr, .. } = by_hand(server, &arguments);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    target
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_py_makes_the_tree_that_the_library_makes() {
    let server = server().await;
    let repository = repository(&server).await;
    backup(&server, &repository, Compression::Lz4).await;
    server.run("shop", "UPDATE public.orders SET note = 'another' WHERE id % 100 = 0; CHECKPOINT").await;
    let second = backup(&server, &repository, Compression::default()).await;
    let target = restored_by_hand(&server, second, &[]);
    let measure = server.path("restored");
    let directory = LocalDataDirectory::open(&measure).unwrap();
    restore(&repository, second, &directory, &RestoreOptions::default(), &Silent).await.unwrap();
    let differences = Tree::read(&target).differences(&Tree::read(&measure));
    assert_eq!(differences, Vec::<std::ffi::OsString>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_py_puts_tablespaces_where_it_is_told() {
    let server = server().await;
    with_tablespace(&server).await;
    let repository = repository(&server).await;
    let backup = backup(&server, &repository, Compression::default()).await;
    let manifest = repository.manifest(backup).await.unwrap();
    let oid = manifest.tablespaces[0].oid;
    let untold = by_hand(&server, &["restore", &backup.to_string(), server.path("by_hand").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&untold.stderr).into_owned();
    let location = server.path("tablespace").display().to_string();
    assert!(!untold.status.success() && said.contains(&format!("--tablespace {oid}={location}")), "{said}");
    let place = server.path("moved");
    restored_by_hand(&server, backup, &["--tablespace", &format!("{oid}={}", place.display())]);
    assert_eq!(std::fs::read_link(server.path(&format!("by_hand/pg_tblspc/{oid}"))).unwrap(), place);
    // The same files as in an export, where they stand in place.
    let export = server.path("export");
    exported(&repository, backup, Destination::Directory(export.clone())).await;
    let in_place = Tree::read(&export.join(format!("pg_tblspc/{oid}")));
    let moved = Tree::read(&place);
    assert_eq!(moved.differences(&in_place), Vec::<std::ffi::OsString>::new());
    let mut label = String::new();
    File::open(server.path("by_hand/backup_label")).unwrap().read_to_string(&mut label).unwrap();
    assert_eq!(label, manifest.backup_label);
}
