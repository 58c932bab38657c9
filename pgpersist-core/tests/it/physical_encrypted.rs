//! Physical backups into an encrypted repository: what shows, who reads, who only writes, and what becomes of tampering.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use pgpersist_core::backup::physical::{BackupOptions, BackupReport, back_up};
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::own_folder::OwnFolder;
use pgpersist_core::encryption::key_file;
use pgpersist_core::encryption::recipient::Recipient;
use pgpersist_core::encryption::settings::EncryptionSettings;
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::health::{HealthCheck, Status};
use pgpersist_core::key_ring::memory::KeyMemory;
use pgpersist_core::key_ring::ring::KeyRing;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::catalog;
use pgpersist_core::repo::frame::Compression;
use pgpersist_core::repo::keys::RepositoryKeys;
use pgpersist_core::repo::repository::Repository;
use pgpersist_core::repo::verify::{Depth, RepositoryReport, verify};
use pgpersist_core::restore::delta::journey;
use pgpersist_core::restore::physical::{RestoreOptions, newest, restore};
use pgpersist_core::restore::survey::Survey;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey, ObjectMeta};
use time::OffsetDateTime;

use crate::health_backups::check_of;
use crate::support::server::TestServer;

const MARKER: &str = "canary in the coal mine";
const WORDS: &str = "correct horse battery staple";

/// A server with a table, a store, and a folder of keys and of what the machine remembers.
struct Ground {
    server: TestServer,
    store: Arc<dyn BackupStore>,
    files: tempfile::TempDir,
}

impl Ground {
    async fn new(rows: u32) -> Self {
        let server = TestServer::start("", "").await;
        server.session("postgres").await.create_database("shop").await.unwrap();
        let fill = format!(
            "CREATE TABLE public.orders (id bigint PRIMARY KEY, note text NOT NULL);
             INSERT INTO public.orders SELECT g, '{MARKER} ' || pg_catalog.md5(g::text) FROM pg_catalog.generate_series(1, {rows}) g; CHECKPOINT"
        );
        server.run("shop", &fill).await;
        Self { server, store: Arc::new(MemoryBackupStore::new()), files: tempfile::tempdir().unwrap() }
    }

    fn key(&self, name: &str) -> Recipient {
        key_file::create(&self.file(name), OffsetDateTime::UNIX_EPOCH).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn words(&self, text: &str) -> EncryptionSettings {
        let file = self.file("words");
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes()).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        EncryptionSettings { passphrase_file: Some(file), ..EncryptionSettings::default() }
    }

    /// For a machine that remembers what it made in a folder of this name, or that has none.
    fn keys(&self, settings: &EncryptionSettings, memory: Option<&str>) -> Arc<RepositoryKeys> {
        let ring = KeyRing::new(Arc::clone(&self.store), ".pgpersist/main/keys".parse().unwrap());
        let memory = memory.map(|name| {
            std::fs::create_dir_all(self.file(name)).unwrap();
            KeyMemory::new(OwnFolder::locate(&self.file(name).join("data")).unwrap())
        });
        Arc::new(RepositoryKeys::new(ring, settings.clone(), memory))
    }

    fn folder() -> ObjectKey {
        ".pgpersist/main/repository".parse().unwrap()
    }

    async fn to_write(&self, settings: &EncryptionSettings, memory: Option<&str>) -> Result<Repository> {
        let system_identifier = self.server.session("postgres").await.system_identifier().await.unwrap();
        let (store, keys) = (Arc::clone(&self.store), self.keys(settings, memory));
        Repository::open_or_make_with(store, Self::folder(), system_identifier, keys, SystemClock.now()).await
    }

    async fn back_up(&self, settings: &EncryptionSettings, memory: Option<&str>) -> BackupReport {
        let repository = self.to_write(settings, memory).await.unwrap();
        let options =
            BackupOptions { label: Some(MARKER.to_owned()), compression: Compression::Plain, workers: 1, ..BackupOptions::default() };
        let connection = self.server.connection("postgres");
        back_up(&connection, &self.server.path("data"), &repository, &options, &SystemClock, &Silent).await.unwrap()
    }

    async fn to_read(&self, settings: &EncryptionSettings, memory: Option<&str>) -> Repository {
        self.opened(settings, memory).await.unwrap()
    }

    async fn opened(&self, settings: &EncryptionSettings, memory: Option<&str>) -> Result<Repository> {
        let found = Repository::open(Arc::clone(&self.store), Self::folder()).await?;
        Ok(found.unwrap().with_keys(self.keys(settings, memory)))
    }

    async fn verify(&self, settings: &EncryptionSettings, memory: Option<&str>) -> RepositoryReport {
        verify(&self.to_read(settings, memory).await, None, Depth::Full, &Silent).await.unwrap()
    }

    async fn restored(&self, repository: &Repository, name: &str) -> Result<PathBuf> {
        let path = self.server.path(name);
        let directory = LocalDataDirectory::open(&path)?;
        restore(repository, newest(repository).await?, &directory, &RestoreOptions::default(), &Silent).await?;
        Ok(path)
    }

    /// That the table's file is the same as the server's, which nobody writes to.
    async fn same_table(&self, restored: &Path) {
        let file = self.server.text("shop", "SELECT pg_catalog.pg_relation_filepath('public.orders')").await;
        let (ours, theirs) = (std::fs::read(self.server.path("data").join(&file)), std::fs::read(restored.join(&file)));
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert!(ours == theirs && holds(&ours, MARKER), "{file}");
    }

    async fn objects(&self) -> Vec<ObjectKey> {
        let listed: Vec<ObjectMeta> = self.store.list("").try_collect().await.unwrap();
        listed.into_iter().map(|meta| meta.key).filter(|key| key.as_str().contains("/repository/")).collect()
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn recipients(recipients: &[Recipient]) -> EncryptionSettings {
    EncryptionSettings { recipients: recipients.to_vec(), ..EncryptionSettings::default() }
}

fn names(report: &RepositoryReport) -> Vec<String> {
    report.unopened.iter().map(ToString::to_string).collect()
}

fn denied(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("is encrypted, and n") && error.remedy().unwrap().contains("--identity FILE"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_cluster_shows_and_all_of_it_comes_back_with_the_key() {
    let ground = Ground::new(20_000).await;
    let settings = recipients(&[ground.key("alice.txt")]).with_identity_file(Some(ground.file("alice.txt")));
    let first = ground.back_up(&settings, Some("volume")).await;
    ground.server.run("shop", &format!("UPDATE public.orders SET note = '{MARKER} again' WHERE id = 7; CHECKPOINT")).await;
    let second = ground.back_up(&settings, Some("volume")).await;
    assert!(second.new_bytes * 5 < first.new_bytes, "{second:?} after {first:?}");
    let objects = ground.objects().await;
    assert!(objects.iter().filter(|key| key.as_str().ends_with(".pack")).count() >= 4, "{objects:?}");
    // What says how to restore by hand is the same in every repository.
    for key in objects.iter().filter(|key| !key.as_str().ends_with("/RESTORE.md") && !key.as_str().ends_with("/restore.py")) {
        let bytes = ground.store.get(key).await.unwrap();
        for text in [MARKER, "pg_control", "base/", "PG_VERSION", "listen_addresses", "START WAL LOCATION", "\"entries\"", "server_version"]
        {
            assert!(!holds(&bytes, text), "{text} stands in {key}");
        }
    }
    let repository = ground.to_read(&settings, None).await;
    let restored = ground.restored(&repository, "restored").await.unwrap();
    ground.same_table(&restored).await;
    // And over what is there, of which a page rotted.
    let table = restored.join(ground.server.text("shop", "SELECT pg_catalog.pg_relation_filepath('public.orders')").await);
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[20_000] ^= 1;
    std::io::Write::write_all(&mut std::fs::File::create(&table).unwrap(), &bytes).unwrap();
    let survey = Survey::look(&repository, newest(&repository).await.unwrap(), &Silent).await.unwrap();
    let over = RestoreOptions { delta: true, consent: true, ..RestoreOptions::default() };
    let directory = LocalDataDirectory::open(&restored).unwrap();
    let report = journey::restore(&repository, &survey, &directory, &over, &Silent).await.unwrap();
    assert!(report.kept_bytes > report.written_bytes && report.written_bytes >= Some(8192), "{report:?}");
    ground.same_table(&restored).await;
    let (listed, closed) = catalog::list(&repository).await.unwrap();
    assert_eq!((listed[0].label.as_deref(), listed.len(), closed.len()), (Some(MARKER), 2, 0));
    let report = ground.verify(&settings, None).await;
    assert_eq!((report.damaged, report.unopened), (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_with_public_keys_only_backs_up_what_changed_and_reads_no_file() {
    let ground = Ground::new(20_000).await;
    let public = recipients(&[ground.key("alice.txt")]);
    let first = ground.back_up(&public, Some("volume")).await;
    let second = ground.back_up(&public, Some("volume")).await;
    assert!(second.new_bytes * 5 < first.new_bytes, "{second:?} after {first:?}");
    let repository = ground.to_read(&public, Some("volume")).await;
    let (listed, closed) = catalog::list(&repository).await.unwrap();
    assert_eq!((listed.len(), closed.len()), (2, 0), "names and sizes it reads");
    let report = ground.verify(&public, Some("volume")).await;
    // Both may be of one second, and what tells their names apart is drawn.
    let mut made = vec![first.name.clone(), second.name.clone()];
    made.sort();
    assert_eq!((report.damaged.len(), names(&report)), (0, made));
    denied(&ground.restored(&repository, "refused").await.unwrap_err());
    assert!(!ground.server.path("refused").exists());

    let reader = public.clone().with_identity_file(Some(ground.file("alice.txt")));
    let restored = ground.restored(&ground.to_read(&reader, None).await, "restored").await.unwrap();
    ground.same_table(&restored).await;
    // What it remembers opens no page, and without it a backup begins anew: no key that lies in the store is believed.
    let third = ground.back_up(&public, Some("another_volume")).await;
    assert!(third.new_bytes * 2 > first.new_bytes, "{third:?} after {first:?}");
    let restored = ground.restored(&ground.to_read(&reader, None).await, "restored_again").await.unwrap();
    ground.same_table(&restored).await;
    let (listed, closed) = catalog::list(&ground.to_read(&public, Some("another_volume")).await).await.unwrap();
    assert_eq!((listed.len(), closed.len()), (1, 2));
    closed.iter().for_each(denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_or_with_another_one_nothing_is_read_and_damage_is_found_all_the_same() {
    let ground = Ground::new(500).await;
    let public = recipients(&[ground.key("alice.txt")]);
    let made = ground.back_up(&public, Some("volume")).await;
    ground.key("eve.txt");
    let eve = public.clone().with_identity_file(Some(ground.file("eve.txt")));
    for stranger in [&EncryptionSettings::default(), &public, &eve] {
        let repository = ground.to_read(stranger, None).await;
        denied(&ground.restored(&repository, "refused").await.unwrap_err());
        let (listed, closed) = catalog::list(&repository).await.unwrap();
        assert_eq!((listed.len(), closed.len()), (0, 1));
        let report = ground.verify(stranger, None).await;
        assert_eq!((report.damaged.len(), names(&report)), (0, vec![made.name.clone()]));
        assert!(report.objects >= 4, "{report:?}");
    }
    for key in ground.objects().await {
        let good = ground.store.get(&key).await.unwrap();
        let mut bad = good.to_vec();
        // In a pack, its trailer: of frames nobody knows the digest without a key.
        let at = if key.as_str().ends_with(".pack") { bad.len() - 60 } else { bad.len() / 2 };
        bad[at] ^= 1;
        ground.store.put(&key, bad.into()).await.unwrap();
        match ground.opened(&public, None).await {
            Ok(repository) => {
                let report = verify(&repository, None, Depth::Full, &Silent).await.unwrap();
                assert!(report.damaged.iter().any(|damaged| damaged.name == key), "{key}: {report:?}");
            }
            Err(error) => assert!(key.as_str().ends_with("/repository"), "{key}: {error}"),
        }
        ground.store.put(&key, good).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_changed_cut_or_swapped_object_is_found_and_named() {
    let ground = Ground::new(500).await;
    let settings = recipients(&[ground.key("alice.txt")]).with_identity_file(Some(ground.file("alice.txt")));
    for _ in 0..2 {
        ground.back_up(&settings, Some("volume")).await;
        ground.server.run("shop", "UPDATE public.orders SET note = 'another' WHERE id = 1; CHECKPOINT").await;
    }
    let damaged = async || -> Vec<String> {
        match ground.opened(&settings, None).await {
            Ok(repository) => {
                let report = verify(&repository, None, Depth::Full, &Silent).await.unwrap();
                report.damaged.into_iter().map(|damaged| damaged.name.to_string()).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    };
    assert_eq!(damaged().await, Vec::<String>::new());
    let objects = ground.objects().await;
    for key in &objects {
        let good = ground.store.get(key).await.unwrap();
        let last = good.len() - 1;
        let is_named = |named: &[String]| named.iter().any(|name| name.contains(key.as_str()));
        for at in [0, 4, 9, last / 3, last / 2, last - 60, last] {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            ground.store.put(key, bad.into()).await.unwrap();
            let named = damaged().await;
            assert!(is_named(&named), "byte {at} of {key}: {named:?}");
        }
        ground.store.put(key, good.slice(..last)).await.unwrap();
        assert!(is_named(&damaged().await), "{key} without its last byte");
        if key.as_str().ends_with(".pack") || key.as_str().ends_with(".key") {
            ground.store.delete(key).await.unwrap();
            assert!(is_named(&damaged().await), "{key} is gone");
        }
        // In its place what lies under another name of the same kind.
        let kind = key.as_str().rsplit('.').next();
        if let Some(other) = objects.iter().find(|other| *other != key && other.as_str().rsplit('.').next() == kind) {
            let others = ground.store.get(other).await.unwrap();
            ground.store.put(key, others).await.unwrap();
            assert!(is_named(&damaged().await), "{other} in the place of {key}");
        }
        ground.store.put(key, good).await.unwrap();
    }
    assert_eq!(damaged().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passphrase_alone_writes_and_reads_and_needs_no_memory() {
    let ground = Ground::new(20_000).await;
    let settings = ground.words(WORDS);
    let first = ground.back_up(&settings, None).await;
    let second = ground.back_up(&settings, None).await;
    assert!(second.new_bytes * 5 < first.new_bytes, "{second:?} after {first:?}");
    let restored = ground.restored(&ground.to_read(&settings, None).await, "restored").await.unwrap();
    ground.same_table(&restored).await;
    // Another passphrase: what comes is a backup of its own, and the newest one is what it opens.
    let settings = ground.words("other words than these");
    denied(&ground.restored(&ground.to_read(&settings, None).await, "refused").await.unwrap_err());
    let third = ground.back_up(&settings, None).await;
    assert!(third.new_bytes * 2 > first.new_bytes, "{third:?} after {first:?}");
    let repository = ground.to_read(&settings, None).await;
    assert_eq!(newest(&repository).await.unwrap().to_string(), third.name);
    let restored = ground.restored(&repository, "restored_again").await.unwrap();
    ground.same_table(&restored).await;
    let settings = ground.words(WORDS);
    denied(&newest(&ground.to_read(&settings, None).await).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_added_to_the_data_keys_reads_what_was_written_before() {
    let ground = Ground::new(500).await;
    let public = recipients(&[ground.key("alice.txt")]);
    ground.back_up(&public, Some("volume")).await;
    let bob = ground.key("bob.txt");
    let reader = recipients(&[]).with_identity_file(Some(ground.file("bob.txt")));
    denied(&ground.restored(&ground.to_read(&reader, None).await, "refused").await.unwrap_err());
    let alice = public.clone().with_identity_file(Some(ground.file("alice.txt"))).identities().unwrap();
    let ring = KeyRing::new(Arc::clone(&ground.store), ".pgpersist/main/keys".parse().unwrap());
    ring.add(&[bob], None, &alice).await.unwrap();
    let restored = ground.restored(&ground.to_read(&reader, None).await, "restored").await.unwrap();
    ground.same_table(&restored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_encrypted_or_it_is_not() {
    let ground = Ground::new(10).await;
    let settings = recipients(&[ground.key("alice.txt")]);
    let plain = EncryptionSettings::default();
    ground.back_up(&plain, None).await;
    let error = ground.to_write(&settings, Some("volume")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");
    let error = ground.to_read(&settings, None).await.refuse_downgrade().unwrap_err();
    assert!(error.kind() == ErrorKind::Unsafe && error.remedy().unwrap().contains("--unencrypted"), "{error}");
    ground.to_read(&plain, None).await.refuse_downgrade().unwrap();

    let ground = Ground { store: Arc::new(MemoryBackupStore::new()), ..ground };
    ground.back_up(&settings, Some("volume")).await;
    let error = ground.to_write(&plain, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");
    ground.to_read(&settings, None).await.refuse_downgrade().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_opens_backups_with_what_wrote_them_and_does_not_know_where_nothing_does() {
    let ground = Ground::new(500).await;
    let public = recipients(&[ground.key("alice.txt")]);
    let made = ground.back_up(&public, Some("volume")).await;
    let check = |settings: &EncryptionSettings, memory: &str| {
        std::fs::create_dir_all(ground.file(memory)).unwrap();
        check_of(&ground.store, settings, OwnFolder::locate(&ground.file(memory).join("data")).unwrap())
    };
    let alice = public.clone().with_identity_file(Some(ground.file("alice.txt")));
    // The machine that wrote it has no key that opens pages, and need not have one.
    for (settings, memory) in [(&public, "volume"), (&alice, "elsewhere")] {
        let finding = check(settings, memory).check().await;
        assert!(finding.status == Status::Pass && finding.summary.contains(&made.name), "{finding:?}");
        assert!(finding.observed["oldest_full_read_age_s"].is_u64(), "{finding:?}");
    }
    for stranger in [&EncryptionSettings::default(), &public] {
        let finding = check(stranger, "elsewhere").check().await;
        assert_eq!((finding.status, finding.observed["error"].as_str()), (Status::Unknown, Some("denied")), "{finding:?}");
        assert!(finding.remedy.is_some(), "{finding:?}");
    }
}
