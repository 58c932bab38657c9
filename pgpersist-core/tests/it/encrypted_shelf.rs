//! An encrypted shelf without a server: a flipped bit or a cut in any of its objects is found and named.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use pgpersist_core::encryption::encryptor::Encryptor;
use pgpersist_core::encryption::key_file;
use pgpersist_core::encryption::settings::EncryptionSettings;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::logical::side_file::{SideEncryption, SideFile};
use pgpersist_core::logical::verify::{Depth, Subject, VerifyReport, verify};
use pgpersist_core::pg::version::ServerVersion;
use pgpersist_core::progress::Silent;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use time::macros::datetime;

const DUMP: &str = "backup_20260208_093316.sql.gz.age";
const GLOBALS: &str = "globals_20260208_093316.sql.gz.age";

/// A store with one encrypted dump, its side file, its roles and its keys; the shelf can read it.
struct Scene {
    store: Arc<dyn BackupStore>,
    shelf: Shelf,
    _folder: tempfile::TempDir,
}

fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

fn sql(rows: usize) -> String {
    let rows: String = (0..rows).map(|row| format!("{row}\t{}\n", row * 7919)).collect();
    format!(
        "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.orders (id int, amount int);\n\
         COPY public.orders (id, amount) FROM stdin;\n{rows}\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

impl Scene {
    async fn new(rows: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.txt");
        let recipient = key_file::create(&file, datetime!(2026-02-08 09:33:16 UTC)).unwrap();
        let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
        let settings = EncryptionSettings { recipients: vec![recipient], passphrase_file: None, identity_file: Some(file) };
        let shelf = Shelf::new(Arc::clone(&store), "main", vec!["shop".to_owned()]).encrypted(settings).unwrap();
        let write_key = shelf.write_key().await.unwrap().unwrap();
        let sealed = |text: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            let mut bytes = Vec::new();
            let mut encryptor = Encryptor::begin(&write_key.all(), &mut bytes).unwrap();
            encryptor.update(&gzip.finish().unwrap(), &mut bytes).unwrap();
            encryptor.finish(&mut bytes).unwrap();
            bytes
        };
        let dump = sealed(&sql(rows));
        let version = ServerVersion { major: 15, minor: 18 };
        let side_file = SideFile {
            format: 1,
            database: "shop".to_owned(),
            cluster: "main".to_owned(),
            system_identifier: 7,
            server_version: version,
            pg_dump_version: version,
            pgpersist_version: "0.1.0".to_owned(),
            started_at: datetime!(2026-02-08 09:33:16 UTC),
            finished_at: datetime!(2026-02-08 09:33:16 UTC),
            size_bytes: dump.len() as u64,
            sha256: Sha256::digest(&dump).iter().map(|byte| format!("{byte:02x}")).collect(),
            uncompressed_bytes: sql(rows).len() as u64,
            tables: BTreeMap::from([("public.orders".to_owned(), rows as u64)]),
            encryption: Some(SideEncryption::from(&write_key)),
            state: None,
        };
        store.put(&key(DUMP), dump.into()).await.unwrap();
        store.put(&key(&format!("{DUMP}.json")), side_file.to_bytes().unwrap()).await.unwrap();
        let globals =
            "--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE app;\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
        store.put(&key(GLOBALS), sealed(globals).into()).await.unwrap();
        Self { store, shelf, _folder: folder }
    }

    async fn verify(&self) -> VerifyReport {
        let dumps = self.shelf.list().await.unwrap();
        let globals = self.shelf.globals().await.unwrap();
        let mut subjects: Vec<_> = dumps.iter().map(Subject::from).chain(globals.into_iter().map(Subject::new)).collect();
        self.shelf.open_subjects(&mut subjects).await.unwrap();
        let mut report = verify(self.store.as_ref(), &subjects, Depth::Full, &Silent).await.unwrap();
        self.shelf.verify_keys(&mut report).await.unwrap();
        assert_eq!((report.unreadable.len(), report.unopened.len()), (0, 0), "{report:?}");
        report
    }

    async fn slot(&self) -> ObjectKey {
        let data_keys = self.shelf.key_ring().unwrap().data_keys().await.unwrap();
        data_keys[0].slots[0].key.clone()
    }

    /// Changes one object and returns what is damaged then.
    async fn damaged_by(&self, name: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let before = self.store.get(name).await.unwrap();
        let mut bytes = before.to_vec();
        change(&mut bytes);
        self.store.put(name, bytes.into()).await.unwrap();
        let report = self.verify().await;
        self.store.put(name, before).await.unwrap();
        report.damaged.into_iter().map(|damaged| damaged.name.to_string()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_flipped_bit_or_a_cut_in_any_object_is_found_and_named(rows in 0_usize..40, which in 0..4, place in any::<prop::sample::Index>(), cut in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new(rows).await;
            assert_eq!(scene.verify().await.damaged, []);
            let (object, named) = match which {
                0 => (key(DUMP), key(DUMP)),
                1 => (key(GLOBALS), key(GLOBALS)),
                // What is damaged then is the dump, of which nothing is known for sure any more.
                2 => (key(&format!("{DUMP}.json")), key(DUMP)),
                _ => (scene.slot().await, scene.slot().await),
            };
            let damaged = scene.damaged_by(&object, |bytes| {
                let bit = place.index(bytes.len() * 8);
                if cut { bytes.truncate(bit / 8) } else { bytes[bit / 8] ^= 1 << (bit % 8) }
            }).await;
            assert_eq!(damaged, [named.to_string()]);
        });
    }
}

#[tokio::test]
async fn a_shelf_of_many_chunks_is_looked_into_to_its_end() {
    let scene = Scene::new(60_000).await;
    assert_eq!(scene.verify().await.damaged, []);
    let size = scene.store.head(&key(DUMP)).await.unwrap().size_bytes as usize;
    assert!(size > 3 * 64 * 1024, "{size}");
    for length in [64 * 1024, size - 1, size - 64 * 1024] {
        assert_eq!(scene.damaged_by(&key(DUMP), |bytes| bytes.truncate(length)).await, [DUMP]);
    }
}

#[tokio::test]
async fn what_is_not_encrypted_is_refused_and_what_no_key_opens_is_told() {
    let scene = Scene::new(8).await;
    let plain = key("backup_20260209_093316.sql.gz");
    assert_eq!(scene.shelf.refuse_downgrade(&plain).unwrap_err().kind(), ErrorKind::Unsafe);
    assert!(scene.shelf.clone().accepting_unencrypted().refuse_downgrade(&plain).is_ok());
    let public = EncryptionSettings { identity_file: None, ..scene.shelf.encryption().unwrap().clone() };
    let blind = Shelf::new(Arc::clone(&scene.store), "main", vec!["shop".to_owned()]).encrypted(public).unwrap();
    let opening = blind.opening(&key(DUMP), None).await.unwrap();
    assert!(opening.lacks_a_key());
    assert_eq!(opening.obstacle.unwrap().into_error().kind(), ErrorKind::Denied);
    let mut subjects = [Subject::new(key(DUMP))];
    blind.open_subjects(&mut subjects).await.unwrap();
    let report = verify(scene.store.as_ref(), &subjects, Depth::Full, &Silent).await.unwrap();
    assert_eq!((report.damaged, report.unopened), (Vec::new(), vec![key(DUMP)]));
}
