//! Restores into places that are not plain: tablespaces, a cluster in the way, no room, a pack that is gone.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pgpersist_core::backup::physical::BackupOptions;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::{DataDirectory, staging};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::manifest::{DamagedPage, Manifest, OutsideFile};
use pgpersist_core::repo::names::{PackName, RunName};
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::restore::newest::Newest;
use pgpersist_core::restore::physical::{RestoreOptions, RestoreReport, newest, plan, restore, restore_surveyed};
use pgpersist_core::restore::survey::Survey;
use pgpersist_core::store::BackupStore;
use pgpersist_core::store::memory::MemoryBackupStore;
use time::OffsetDateTime;

use crate::physical::{Restored, backup, repository, server_with};
use crate::support::server::TestServer;
use crate::support::skip::skip;

const SUM: &str = "SELECT pg_catalog.md5(pg_catalog.string_agg(note, '' ORDER BY id)) FROM public.orders";

/// A folder beside the server's data, of the server's user.
fn folder(server: &TestServer, name: &str) -> PathBuf {
    let path = server.path(name);
    fs::create_dir(&path).unwrap();
    hand_over(&path);
    path
}

fn hand_over(path: &Path) {
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("chown").args(["-R", "postgres:"]).arg(path).status().unwrap().success());
    }
}

/// Restores the newest backup beside the server, in a folder of this name.
async fn restored(server: &TestServer, repository: &Repository, name: &str, options: &RestoreOptions) -> Result<(PathBuf, RestoreReport)> {
    let path = server.path(name);
    let report = restore(repository, newest(repository).await?, &LocalDataDirectory::open(&path)?, options, &Silent).await?;
    Ok((path, report))
}

fn mapped(mapping: &str, place: &Path) -> RestoreOptions {
    let tablespaces = vec![format!("{mapping}={}", place.display()).parse().unwrap()];
    RestoreOptions { tablespaces, ..RestoreOptions::default() }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Publishes the newest backup once more, under another name and with something changed.
async fn published_again(repository: &Repository, change: impl FnOnce(&mut Manifest)) -> RunName {
    let mut manifest = repository.manifest(newest(repository).await.unwrap()).await.unwrap();
    manifest.backup = RunName::new(OffsetDateTime::UNIX_EPOCH, [9; 4]);
    change(&mut manifest);
    repository.publish(&manifest).await.unwrap();
    manifest.backup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tablespace_is_restored_to_another_place_and_never_over_anything() {
    let server = server_with(5_000).await;
    let space = folder(&server, "space");
    server.run("postgres", &format!("CREATE TABLESPACE fast LOCATION '{}'", space.display())).await;
    server.run("shop", "CREATE TABLE public.elsewhere TABLESPACE fast AS SELECT * FROM public.orders").await;
    server.run("shop", "CREATE INDEX ON public.elsewhere (id) TABLESPACE fast").await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();

    // Where it was is where it is.
    let error = restored(&server, &repository, "restored", &RestoreOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsafe && error.remedy().unwrap().contains("--tablespace fast="), "{error}");
    let error = restored(&server, &repository, "restored", &mapped("slow", &space)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(!server.path("restored").exists() && !server.path(".pgpersist").exists());

    let place = server.path("other/space");
    let (data, report) = restored(&server, &repository, "restored", &mapped("fast", &place)).await.unwrap();
    assert_eq!((report.tablespaces.len(), &report.tablespaces[0].to, &report.tablespaces[0].from), (1, &place, &space));
    let link = data.join("pg_tblspc").join(report.tablespaces[0].oid.to_string());
    assert_eq!(fs::read_link(link).unwrap(), place);
    assert!(!data.join("tablespace_map").exists());
    let inside = names(&place);
    assert!(inside.len() == 1 && inside[0].starts_with("PG_"), "{inside:?}");
    hand_over(&place);
    let restored = Restored::start(&data).await;
    let sum = SUM.replace("orders", "elsewhere");
    assert_eq!(restored.text("shop", &sum).await, server.text("shop", &sum).await);
    assert_eq!(
        restored.text("shop", "SELECT pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace WHERE spcname = 'fast'").await,
        place.display().to_string()
    );
    restored.check();
    drop(restored);

    // A server that goes on writes there, and not where it was.
    assert_eq!(names(&space).len(), 1);
    assert_eq!(server.text("shop", "SELECT pg_catalog.count(*) FROM public.elsewhere").await, "5000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_restore_takes_its_tablespaces_away_and_nothing_else() {
    let server = server_with(500).await;
    let space = folder(&server, "space");
    server.run("postgres", &format!("CREATE TABLESPACE fast LOCATION '{}'", space.display())).await;
    server.run("shop", "CREATE TABLE public.elsewhere TABLESPACE fast AS SELECT * FROM public.orders").await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(Arc::clone(&store), &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let survey = Survey::look(&repository, newest(&repository).await.unwrap(), &Silent).await.unwrap();
    // Frames that cannot be read, found when all else was found good.
    for number in 0..=survey.manifest.entries[0].pack.number {
        let key = repository.key(&layout::pack(PackName { run: survey.backup, number })).unwrap();
        let Ok(bytes) = store.get(&key).await else { continue };
        if bytes[5] == 1 {
            let mut bytes = bytes.to_vec();
            bytes[100] ^= 1;
            store.put(&key, bytes.into()).await.unwrap();
        }
    }
    let place = folder(&server, "place");
    let directory = LocalDataDirectory::open(server.path("restored")).unwrap();
    let error = restore_surveyed(&repository, &survey, &directory, &mapped("fast", &place), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(names(&place).is_empty() && !server.path("restored").exists());
    assert!(directory.own_folder().path().exists() && !staging::recover(directory.path(), directory.own_folder()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_makes_room_only_on_consent_and_is_kept_whole() {
    let server = server_with(5_000).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let (data, _) = restored(&server, &repository, "restored", &RestoreOptions::default()).await.unwrap();
    File::create(data.join("only_in_the_old_one")).unwrap();

    let refused = restored(&server, &repository, "restored", &RestoreOptions::default()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Unsafe && refused.remedy().unwrap().contains("--in-place"), "{refused}");
    let unasked = RestoreOptions { in_place: true, ..RestoreOptions::default() };
    let error = restored(&server, &repository, "restored", &unasked).await.unwrap_err();
    let Error::ConsentNeeded { plan, .. } = &error else { panic!("{error}") };
    assert!(plan.iter().any(|step| step.contains("restored.before_restore_")), "{plan:?}");
    let asked = RestoreOptions { consent: true, ..unasked };
    let running = restored(&server, &repository, "data", &asked).await.unwrap_err();
    assert_eq!(running.kind(), ErrorKind::Conflict, "{running}");
    assert!(data.join("only_in_the_old_one").exists());

    let (data, report) = restored(&server, &repository, "restored", &asked).await.unwrap();
    let aside = report.kept_aside.unwrap();
    assert!(aside.join("only_in_the_old_one").exists() && aside.join("global/pg_control").exists());
    assert!(!data.join("only_in_the_old_one").exists());
    for data in [data, aside] {
        let restored = Restored::start(&data).await;
        assert_eq!(restored.text("shop", SUM).await, server.text("shop", SUM).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_directory_never_makes_room() {
    let (server, other) = (server_with(10).await, server_with(10).await);
    let (ours, theirs) =
        (repository(Arc::new(MemoryBackupStore::new()), &server).await, repository(Arc::new(MemoryBackupStore::new()), &other).await);
    backup(&server, &ours, &BackupOptions::default()).await.unwrap();
    backup(&other, &theirs, &BackupOptions::default()).await.unwrap();
    restored(&server, &theirs, "restored", &RestoreOptions::default()).await.unwrap();
    let asked = RestoreOptions { in_place: true, consent: true, ..RestoreOptions::default() };
    let error = restored(&server, &ours, "restored", &asked).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsafe && error.to_string().contains("system identifier"), "{error}");
}

/// A small file system in memory, unmounted with its handle.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where nothing can be mounted.
    fn mounted(options: &CStr) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("pgpersist-it-").tempdir().unwrap();
        match rustix::mount::mount("tmpfs", folder.path(), "tmpfs", rustix::mount::MountFlags::NOSUID, Some(options)) {
            Ok(()) => Some(Self(folder)),
            Err(refusal) => {
                skip("mount", refusal);
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_room_nothing_is_begun() {
    let Some(small) = Small::mounted(c"size=20m,mode=755") else { return };
    let server = server_with(10).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let directory = LocalDataDirectory::open(small.0.path().join("data")).unwrap();
    let error =
        restore(&repository, newest(&repository).await.unwrap(), &directory, &RestoreOptions::default(), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("bytes) are free there"), "{error}");
    assert!(names(small.0.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_mount_point_the_old_cluster_is_kept_in_our_own_folder() {
    let Some(mount) = Small::mounted(c"size=400m,mode=775") else { return };
    let server = server_with(1_000).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let (data, named) = (mount.0.path(), newest(&repository).await.unwrap());
    let directory = || LocalDataDirectory::open(data).unwrap();
    restore(&repository, named, &directory(), &RestoreOptions::default(), &Silent).await.unwrap();
    File::create(data.join("only_in_the_old_one")).unwrap();
    let asked = RestoreOptions { in_place: true, consent: true, ..RestoreOptions::default() };
    let report = restore(&repository, named, &directory(), &asked, &Silent).await.unwrap();
    let aside = report.kept_aside.unwrap();
    assert!(aside.starts_with(data.join(".pgpersist")) && aside.join("only_in_the_old_one").exists());
    assert!(aside.join("global/pg_control").exists() && !data.join("only_in_the_old_one").exists());
    let restored = Restored::start(data).await;
    assert_eq!(restored.text("shop", SUM).await, server.text("shop", SUM).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_that_is_gone_is_told_with_its_files_before_anything_is_made() {
    let server = server_with(500).await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(Arc::clone(&store), &server).await;
    backup(&server, &repository, &BackupOptions { workers: 1, ..BackupOptions::default() }).await.unwrap();
    let survey = Survey::look(&repository, newest(&repository).await.unwrap(), &Silent).await.unwrap();
    let run = survey.backup;
    for number in 0.. {
        let key = repository.key(&layout::pack(PackName { run, number })).unwrap();
        if store.get(&key).await.unwrap()[5] == 1 {
            store.delete(&key).await.unwrap();
            break;
        }
    }
    let error = restored(&server, &repository, "restored", &RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    let told = error.to_string();
    assert!(told.contains("cannot be restored whole") && told.contains(".pack") && told.contains("files are touched"), "{told}");
    assert!(!server.path("restored").exists() && !server.path(".pgpersist").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_damaged_pages_is_taken_only_by_its_name() {
    let server = server_with(10).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let good = backup(&server, &repository, &BackupOptions::default()).await.unwrap().name;
    let damaged = published_again(&repository, |manifest| {
        manifest.wal.stop_lsn = "FF/0".to_owned();
        manifest.damaged_pages =
            vec![DamagedPage { path: "base/5/1259".to_owned(), block: 7, stored: 1, computed: 2, sha256: String::new(), known: false }];
    })
    .await;
    let found = Newest::find(&repository).await.unwrap();
    assert_eq!(found.backup.to_string(), good);
    assert!(found.passed_over.len() == 1 && found.passed_over[0].contains(&damaged.to_string()), "{found:?}");
    let survey = Survey::look(&repository, damaged, &Silent).await.unwrap();
    let directory = LocalDataDirectory::open(server.path("restored")).unwrap();
    let plan = plan(&survey, &directory, &RestoreOptions::default()).await.unwrap();
    assert!(plan.warnings[0].contains("block 7 of base/5/1259"), "{:?}", plan.warnings);
    assert!(plan.bytes > 1 << 20 && plan.requires.at_least["max_connections"] == 100, "{plan:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_lay_outside_is_in_force_in_the_data_directory() {
    let server = server_with(10).await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    let outside = |setting: &str, location: &str, content: &str| OutsideFile {
        setting: setting.to_owned(),
        location: location.to_owned(),
        content: content.to_owned(),
    };
    let named = published_again(&repository, |manifest| {
        manifest.outside = vec![
            outside("hba_file", "/etc/pgpersist-none/pg_hba.conf", "local all @everybody trust\n"),
            outside("include", "/etc/pgpersist-none/everybody", "postgres\n"),
        ];
    })
    .await;
    let data = server.path("restored");
    let directory = LocalDataDirectory::open(&data).unwrap();
    let report = restore(&repository, named, &directory, &RestoreOptions::default(), &Silent).await.unwrap();
    assert_eq!(report.configuration, ["everybody", "pg_hba.conf"]);
    let mode = fs::metadata(data.join("everybody")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let restored = Restored::start(&data).await;
    assert_eq!(restored.text("shop", "SELECT pg_catalog.count(*) FROM public.orders").await, "10");
}

/// The first pack of pages of the newest backup, by its key in the store.
async fn pack_of_pages(repository: &Repository, store: &Arc<dyn BackupStore>) -> pgpersist_core::store::ObjectKey {
    let run = newest(repository).await.unwrap();
    for number in 0.. {
        let key = repository.key(&layout::pack(PackName { run, number })).unwrap();
        if store.get(&key).await.unwrap()[5] == 1 {
            return key;
        }
    }
    unreachable!("a backup has a pack of pages")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_pack_is_told_with_its_relations_and_with_the_other_backups_that_need_it() {
    let server = server_with(500).await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(Arc::clone(&store), &server).await;
    let first = backup(&server, &repository, &BackupOptions { workers: 1, ..BackupOptions::default() }).await.unwrap().name;
    let key = pack_of_pages(&repository, &store).await;
    let second = backup(&server, &repository, &BackupOptions::default()).await.unwrap().name;
    store.delete(&key).await.unwrap();
    let error = restored(&server, &repository, "restored", &RestoreOptions::default()).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains(&second) && told.contains(&format!("these backups need them, too: {first}")), "{told}");
    assert!(told.contains("(relation ") && told.contains(", blocks "), "{told}");
    assert!(error.remedy().unwrap().contains("--without-damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_a_damaged_backup_is_restored_on_request_and_what_is_lost_is_told() {
    let server = server_with(20_000).await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let repository = repository(Arc::clone(&store), &server).await;
    backup(&server, &repository, &BackupOptions { workers: 1, ..BackupOptions::default() }).await.unwrap();
    let (whole, _) = restored(&server, &repository, "whole", &RestoreOptions::default()).await.unwrap();
    let table = server.text("shop", "SELECT pg_catalog.pg_relation_filepath('public.orders')").await;
    let relation: u32 = table.rsplit('/').next().unwrap().parse().unwrap();
    // The page of the table in the middle is gone, with the frame that it lies in.
    let survey = Survey::look(&repository, newest(&repository).await.unwrap(), &Silent).await.unwrap();
    let mut contents = pgpersist_core::repo::contents::Contents::new(&repository);
    let entry = survey.entries.iter().find(|entry| entry.path.as_bytes() == table.as_bytes()).unwrap();
    let pgpersist_core::repo::entry::EntryKind::File(file) = &entry.kind else { panic!("{entry:?}") };
    let first = contents.leaf(file.leaves[0]).await.unwrap().stretches()[0].place.unwrap();
    let pack = contents.pack(first.pack).await.unwrap();
    let frame = pack.frame_of(first.item + 50).unwrap().stored.clone();
    let key = repository.key(&layout::pack(first.pack)).unwrap();
    let mut bytes = store.get(&key).await.unwrap().to_vec();
    bytes[frame.start as usize + 20] ^= 1;
    store.put(&key, bytes.into()).await.unwrap();

    let error = restored(&server, &repository, "restored", &RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    let unasked = RestoreOptions { without_damaged: true, ..RestoreOptions::default() };
    let error = restored(&server, &repository, "restored", &unasked).await.unwrap_err();
    assert!(matches!(error, Error::ConsentNeeded { .. }) && !server.path("restored").exists(), "{error}");
    let asked = RestoreOptions { consent: true, ..unasked };
    let (data, report) = restored(&server, &repository, "restored", &asked).await.unwrap();
    assert!(!report.verified);
    let lost = report.damaged.iter().find(|file| file.relation == Some(relation)).unwrap();
    assert!(lost.path == table && lost.blocks.iter().any(|[from, to]| (*from..=*to).contains(&50)), "{lost:?}");
    // All else is as it should be, and what is lost is zero.
    let told: Vec<&str> = report.damaged.iter().map(|file| file.path.as_str()).collect();
    let differ = crate::support::tree::Tree::read(&data).differences(&crate::support::tree::Tree::read(&whole));
    assert!(differ.iter().all(|name| told.contains(&name.to_str().unwrap())), "{differ:?} and {told:?}");
    let (now, before) = (fs::read(data.join(&table)).unwrap(), fs::read(whole.join(&table)).unwrap());
    for (block, (now, before)) in now.chunks(8192).zip(before.chunks(8192)).enumerate() {
        let is_lost = lost.blocks.iter().any(|[from, to]| (*from..=*to).contains(&(block as u64)));
        assert!(if is_lost { now.iter().all(|byte| *byte == 0) } else { now == before }, "block {block}");
    }
    // A pack that is gone is known before, and told by the plan.
    store.delete(&key).await.unwrap();
    let survey = Survey::look_with(&repository, survey.backup, asked.tolerance(), &Silent).await;
    match survey {
        // Where it holds the control file as well, nothing can be salvaged.
        Err(error) => assert!(error.to_string().contains("no server starts"), "{error}"),
        Ok(survey) => assert!(survey.damage.unwrap().files.iter().any(|file| file.path == table)),
    }
}
