//! The format as it lies in a store, byte for byte: a repository that was written once (`repository/`), what our encoder makes, what our reader and
//! `restore.py` make of it.

pub(crate) mod builder;
mod by_hand;
mod damage;
mod seeds;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::catalog;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::manifest::Manifest;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::rescue::RESCUE_FILES;
use pgpersist_core::repo::trailer::{FOOTER_BYTES, Footer, Trailer};
use pgpersist_core::repo::verify::{Depth, RepositoryReport, verify};
use pgpersist_core::restore::physical::{RestoreOptions, restore};
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey};

use crate::golden::builder::{Objects, page, runs};
use crate::support::tree::Tree;

/// Names a folder where there is none yet: the repository is written there, for a new version of the format. What was written once stays as it is.
const WRITE: &str = "PGPERSIST_TEST_WRITE_GOLDEN";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/repository")
}

/// What was written once.
fn golden() -> Objects {
    let mut objects = Objects::new();
    let mut folders = vec![folder()];
    while let Some(folder_to_read) = folders.pop() {
        for entry in std::fs::read_dir(&folder_to_read).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned();
                objects.insert(key, std::fs::read(&path).unwrap());
            }
        }
    }
    objects
}

/// Writes objects as files.
fn write(objects: &Objects, folder: &Path) {
    for (key, bytes) in objects {
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), bytes).unwrap();
    }
}

/// The objects of a whole repository: with what every repository has for those without pgpersist.
fn with_rescue_files(mut objects: Objects) -> Objects {
    objects.extend(RESCUE_FILES.map(|file| (file.name.to_owned(), file.object())));
    objects
}

fn repository_folder() -> ObjectKey {
    ".pgpersist/main/repository".parse().unwrap()
}

fn key(below: &str) -> ObjectKey {
    repository_folder().join(below).unwrap()
}

/// A store that holds these objects as a repository.
async fn store(objects: &Objects) -> Arc<dyn BackupStore> {
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    for (name, bytes) in objects {
        store.put(&key(name), bytes.clone().into()).await.unwrap();
    }
    store
}

async fn opened(objects: &Objects) -> Repository {
    Repository::open(store(objects).await, repository_folder()).await.unwrap().unwrap()
}

async fn verified(repository: &Repository) -> RepositoryReport {
    verify(repository, None, Depth::Full, &Silent).await.unwrap()
}

/// The tree that a restore of a backup makes.
async fn restored(repository: &Repository, backup: RunName, scratch: &Path) -> Tree {
    let path = scratch.join(backup.to_string());
    let directory = LocalDataDirectory::open(&path).unwrap();
    restore(repository, backup, &directory, &RestoreOptions::default(), &Silent).await.unwrap();
    Tree::read(&path)
}

#[test]
fn the_encoder_writes_what_was_written_once() {
    let built = builder::repository();
    if let Some(new) = std::env::var_os(WRITE) {
        std::fs::create_dir(&new).unwrap();
        write(&built, Path::new(&new));
        return;
    }
    let golden = golden();
    assert_eq!(built.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    assert!(golden.values().map(Vec::len).sum::<usize>() < 64 << 10);
    for (key, golden) in &golden {
        let built = &built[key];
        if golden == built {
            continue;
        }
        // Another version of zstd or lz4 may find other bytes for the same content, and nothing else may differ.
        if key.ends_with(".manifest") {
            assert_eq!(Manifest::parse(key, built), Manifest::parse(key, golden), "{key}");
        } else {
            assert!(key.ends_with("/000001.pack") || key.ends_with("/000002.pack"), "{key} is not what was written once");
            assert_eq!(told(key, built), told(key, golden), "{key}");
        }
    }
}

/// What a pack says of its items.
fn told(key: &str, pack: &[u8]) -> Trailer {
    let footer = Footer::parse(*pack.last_chunk().unwrap()).unwrap();
    let end = pack.len() - FOOTER_BYTES;
    let bytes = &pack[end - footer.trailer_bytes as usize..end];
    footer.verify(key, *pack.first_chunk().unwrap(), bytes).unwrap();
    let mut trailer = Trailer::parse(bytes).unwrap();
    for frame in &mut trailer.frames {
        (frame.stored_bytes, frame.sha256) = (0, [0; 32]);
    }
    trailer
}

#[tokio::test]
async fn the_reader_reads_what_was_written_once() {
    let repository = opened(&with_rescue_files(golden())).await;
    let report = verified(&repository).await;
    assert_eq!(report.damaged, []);
    let (backups, damaged) = catalog::list(&repository).await.unwrap();
    let [first, second, third, _] = runs().map(|run| run.to_string());
    assert_eq!(backups.iter().map(|backup| backup.name.clone()).collect::<Vec<_>>(), [third, second, first]);
    assert_eq!((backups[0].damaged_pages, backups[1].label.as_deref()), (1, Some("before the migration")));
    assert!(damaged.is_empty());
}

#[tokio::test]
async fn what_was_written_once_restores_to_what_it_was_made_of() {
    let repository = opened(&golden()).await;
    let scratch = tempfile::tempdir().unwrap();
    let [first, second, third, _] = runs();
    let (first, second) = (restored(&repository, first, scratch.path()).await, restored(&repository, second, scratch.path()).await);
    let table = |numbers: [u8; 4]| numbers.map(|number| if number == 0 { vec![0; 8192] } else { page(number) }).concat();
    assert_eq!(first.content("base/5/1259"), table([1, 2, 0, 3]));
    assert_eq!(second.content("base/5/1259"), table([1, 6, 0, 3]));
    assert_eq!(first.content("base/5/pg_filenode.map"), &page(4)[..524]);
    assert_eq!((first.content("PG_VERSION"), first.content("base/5/1260")), (&b"15\n"[..], &b""[..]));
    let third = restored(&repository, third, scratch.path()).await;
    let sparse = third.content("base/5/16384");
    let (hole, rest) = sparse.split_at(64 << 20);
    assert!(hole.iter().all(|byte| *byte == 0) && rest == [page(7), vec![0; 8192], page(8)].concat());
    let settings = String::from_utf8(third.content("postgresql.auto.conf").to_vec()).unwrap();
    assert_eq!(
        settings,
        "# Do not edit this file manually!\nwork_mem = '9MB'\n\nrecovery_target = 'immediate'\nrecovery_target_action = 'promote'\n\
         recovery_target_timeline = '2'\nrestore_command = 'false'\n"
    );
    assert!(third.content("recovery.signal").is_empty() && third.content("backup_label").starts_with(b"START WAL LOCATION"));
}

#[tokio::test]
async fn a_newer_version_is_refused_politely() {
    let mut objects = golden();
    objects.insert(layout::DESCRIPTOR.to_owned(), builder::of_the_future(layout::DESCRIPTOR));
    let error = Repository::open(store(&objects).await, repository_folder()).await.unwrap_err();
    assert_eq!(error.kind(), pgpersist_core::ErrorKind::Invalid);
    assert!(error.remedy().unwrap().contains("newer pgpersist"), "{error}");
}
