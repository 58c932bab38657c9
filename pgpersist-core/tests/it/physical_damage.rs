//! Pages that are really damaged on the disk: told with file, block and hash; known ones make no damaged backup, as long as they stay what they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pgpersist_core::backup::physical::BackupOptions;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::repo::manifest::KnownDamage;
use pgpersist_core::restore::physical::newest;
use pgpersist_core::store::memory::MemoryBackupStore;

use crate::physical::{backup, repository};
use crate::support::server::{BIN, TestServer};

/// A server whose pages have checksums, and the file of a table of some pages: where it is, and what a backup calls it.
async fn server_with_checksums() -> (TestServer, PathBuf, String) {
    let server = TestServer::start_with(Path::new(BIN), &["--data-checksums"], "", "").await;
    let table = "CREATE TABLE public.orders AS SELECT g AS id, pg_catalog.md5(g::text) AS note FROM pg_catalog.generate_series(1, 5000) g";
    server.run("postgres", table).await;
    server.run("postgres", "VACUUM public.orders").await;
    server.run("postgres", "CHECKPOINT").await;
    let relative = server.text("postgres", "SELECT pg_catalog.pg_relation_filepath('public.orders')").await;
    let path = server.path("data").join(&relative);
    (server, path, relative)
}

/// Changes a byte in the middle of a page, as a disk does.
fn rot(path: &Path, block: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, block * 8192 + 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], block * 8192 + 5000).unwrap();
}

/// The first half of the page's SHA-256, by other programs.
fn sha256sum(path: &Path, block: u64) -> String {
    let pipe = format!("dd if='{}' bs=8192 skip={block} count=1 status=none | sha256sum", path.display());
    let output = Command::new("sh").args(["-c", &pipe]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..32].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_is_told_each_time_until_somebody_says_that_it_is_known() {
    let (server, path, relative) = server_with_checksums().await;
    let repository = repository(Arc::new(MemoryBackupStore::new()), &server).await;
    let good = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    assert_eq!(good.damaged, Vec::new());
    rot(&path, 7);
    // Its times tell that it was written to; the third one has only the damage to go by.
    for _ in 0..2 {
        let report = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
        let [page] = &report.damaged[..] else { panic!("{report:?}") };
        assert_eq!((page.path.as_str(), page.block, page.known), (relative.as_str(), 7, false));
        assert_eq!(page.sha256, sha256sum(&path, 7));
        assert_eq!(newest(&repository).await.unwrap().to_string(), good.name, "a damaged one is never the latest");
    }
    let known: KnownDamage = format!("{relative}:7:{}", sha256sum(&path, 7)).parse().unwrap();
    let options = BackupOptions { known_damage: vec![known], ..BackupOptions::default() };
    let report = backup(&server, &repository, &options).await.unwrap();
    assert!(report.damaged.len() == 1 && report.damaged[0].known, "{report:?}");
    assert_eq!(newest(&repository).await.unwrap().to_string(), report.name, "it is as good as it can be");

    // The same page, damaged otherwise, is another damage; so is another page.
    rot(&path, 9);
    let other = backup(&server, &repository, &options).await.unwrap();
    assert_eq!(other.damaged.iter().map(|page| (page.block, page.known)).collect::<Vec<_>>(), [(7, true), (9, false)]);
    assert_eq!(newest(&repository).await.unwrap().to_string(), report.name);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"something else", 7 * 8192 + 6000).unwrap();
    let other = backup(&server, &repository, &options).await.unwrap();
    assert_eq!(other.damaged.iter().map(|page| (page.block, page.known)).collect::<Vec<_>>(), [(7, false), (9, false)]);
}

#[test]
fn what_names_no_damaged_page_is_refused() {
    for wrong in [
        "",
        "base/5/16384",
        "base/5/16384:7",
        "base/5/16384:7:0f",
        "base/5/16384:x:0123456789abcdef0123456789abcdef",
        ":7:0123456789abcdef0123456789abcdef",
    ] {
        let error = wrong.parse::<KnownDamage>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
        assert!(error.remedy().unwrap().contains("FILE:BLOCK:HASH"), "{error}");
    }
}
