//! A copy that is encrypted, and a primary store that is not.

use std::io::{Cursor, Read};
use std::path::PathBuf;

use super::*;
use crate::encryption::decryptor::Decryptor;
use crate::encryption::key_file;
use crate::encryption::settings::EncryptionSettings;
use crate::logical::name::{SIDE_FILE_SUFFIX, plain};
use crate::logical::side_file::SideFile;

/// A key, and the settings of a copy that is encrypted to it.
struct Key {
    file: PathBuf,
    settings: EncryptionSettings,
    _folder: tempfile::TempDir,
}

impl Key {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.txt");
        let recipient = key_file::create(&file, NOW).unwrap();
        let settings = EncryptionSettings { recipients: vec![recipient], ..EncryptionSettings::default() };
        Self { file, settings, _folder: folder }
    }

    /// The dumps of a store that is encrypted to it, for a machine that can read them, or cannot.
    fn shelf(&self, store: &Arc<dyn BackupStore>, reads: bool) -> Shelf {
        let settings = self.settings.clone().with_identity_file(reads.then(|| self.file.clone()));
        shelf(store.clone()).encrypted(settings).unwrap()
    }

    fn request(&self, primary: &Arc<dyn BackupStore>, copy: &Arc<dyn BackupStore>, reads: bool) -> SyncRequest {
        let copy = CopyShelf { shelf: self.shelf(copy, reads), retention: Retention::default() };
        SyncRequest { shelf: shelf(primary.clone()).with_copies(vec![copy]), ..request(primary, &[]) }
    }

    async fn sync(&self, primary: &Arc<dyn BackupStore>, copy: &Arc<dyn BackupStore>, reads: bool) -> StoreSync {
        self.request(primary, copy, reads).carry_out(&Silent).await.unwrap().stores.remove(0)
    }

    fn open(&self, bytes: &Bytes) -> Vec<u8> {
        let identities =
            EncryptionSettings { identity_file: Some(self.file.clone()), ..EncryptionSettings::default() }.identities().unwrap();
        let mut content = Vec::new();
        Decryptor::open(Cursor::new(bytes.clone()), &identities).unwrap().read_to_end(&mut content).unwrap();
        content
    }

    /// Whether the copy can be restored from as it is: what is there is encrypted, whole, and its side file is its own.
    async fn assert_restorable(&self, copy: &Arc<dyn BackupStore>, what: &str) {
        let report = verify_all(&self.shelf(copy, true), None, None, Depth::Full, &Silent).await.unwrap();
        assert!(report.damaged.is_empty() && report.unreadable.is_empty() && report.unopened.is_empty(), "{what}: {report:?}");
        assert!(self.shelf(copy, true).list().await.unwrap().iter().all(|entry| entry.encrypted && entry.is_good()), "{what}");
    }

    /// Whether the copy has everything that the primary store has, each the same once it is opened, and its side file besides.
    async fn assert_whole(&self, primary: &Arc<dyn BackupStore>, copy: &Arc<dyn BackupStore>, what: &str) {
        let there = objects(copy.as_ref()).await;
        for (name, bytes) in objects(primary.as_ref()).await.into_iter().filter(|(name, _)| !name.starts_with('.')) {
            match name.strip_suffix(SIDE_FILE_SUFFIX) {
                None => assert_eq!(self.open(&there[&format!("{name}.age")]), bytes, "{what}: {name}"),
                Some(dump) => {
                    let (here_key, there_key) = (key(&name), key(&format!("{dump}.age{SIDE_FILE_SUFFIX}")));
                    let ours = SideFile::parse(&here_key, &bytes).unwrap();
                    let theirs = SideFile::parse(&there_key, &there[there_key.as_str()]).unwrap();
                    let sealed = &there[&format!("{dump}.age")];
                    let expected = (sealed.len() as u64, hexadecimal(&Sha256::digest(sealed)));
                    assert_eq!((theirs.size_bytes, theirs.sha256.clone()), expected, "{what}: {name}");
                    assert_eq!(theirs.encryption.as_ref().unwrap().recipients, self.settings.recipients);
                    assert!(ours.tells_of_the_same(&theirs) && theirs.tells_of_the_same(&ours), "{what}: {name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_copy_is_encrypted_on_its_way_by_a_machine_that_cannot_read_it() {
    let (here, there, key) = (primary().await, memory(), Key::new());
    let first = key.sync(&here, &there, false).await;
    assert_eq!((first.copied, first.behind, first.error.error, first.conflicts), (6, Some(0), None, Vec::new()));
    key.assert_whole(&here, &there, "at first").await;
    key.assert_restorable(&there, "at first").await;
    let plain_names = objects(there.as_ref()).await.into_keys().filter(|name| name.contains("sql.gz") && !name.contains(".age"));
    assert_eq!(plain_names.collect::<Vec<_>>(), [""; 0]);
    let before = objects(there.as_ref()).await;
    let again = key.sync(&here, &there, false).await;
    assert_eq!((again.copied, again.bytes, again.behind), (0, 0, Some(0)));
    assert_eq!(objects(there.as_ref()).await, before);
    dump(here.as_ref(), "20260204", "4\n").await;
    assert_eq!(key.sync(&here, &there, false).await.copied, 2);
    key.assert_whole(&here, &there, "after one more").await;
}

fn memory() -> Arc<dyn BackupStore> {
    Arc::new(MemoryBackupStore::new())
}

#[tokio::test]
async fn a_large_object_is_encrypted_in_parts() {
    let (here, there, key) = (memory(), memory(), Key::new());
    let bytes: Bytes = (0..9 << 20).map(|place: u32| place.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    put(here.as_ref(), "backup_20260201_000000.sql.gz", bytes.clone()).await;
    assert_eq!(key.sync(&here, &there, false).await.copied, 1);
    let sealed = there.get(&super::key("backup_20260201_000000.sql.gz.age")).await.unwrap();
    assert!(key.open(&sealed) == bytes);
}

/// Every call of every kind, of either store, fails once, or loses its answer, or tears.
#[tokio::test]
async fn interrupted_at_any_call_the_encrypted_copy_is_good_and_the_next_run_completes_it() {
    let (here, key) = (primary().await, Key::new());
    let mut failed = 0;
    for (operation, at_the_copy) in OPERATIONS.into_iter().flat_map(|operation| [(operation, true), (operation, false)]) {
        let mut nth = 1;
        loop {
            let mut is_hit = false;
            for effect in [Effect::Fail(ErrorKind::Unavailable), Effect::LoseAnswer(ErrorKind::Unavailable), Effect::Tear(10)] {
                if effect == Effect::Tear(10) && operation != Operation::Upload {
                    continue;
                }
                let there = memory();
                let faulty = FaultyStore::new(
                    if at_the_copy { there.clone() } else { here.clone() },
                    FaultPlan::one(operation, Calls::Nth(nth), effect),
                );
                let store: Arc<dyn BackupStore> = Arc::new(faulty.clone());
                let what = format!("{operation:?} {nth} {effect:?}, at the copy: {at_the_copy}");
                let (from, to) = if at_the_copy { (&here, &store) } else { (&store, &there) };
                let first = key.request(from, to, true).carry_out(&Silent).await;
                is_hit |= faulty.calls(operation) >= nth;
                failed += usize::from(first.as_ref().is_ok_and(|report| report.trouble().is_some()) || first.is_err());
                key.assert_restorable(&there, &what).await;
                let second = key.sync(&here, &there, true).await;
                assert_eq!((second.error.error, second.behind), (None, Some(0)), "{what}");
                key.assert_whole(&here, &there, &what).await;
            }
            if !is_hit {
                break;
            }
            nth += 1;
        }
    }
    assert!(failed > 60, "only {failed} runs were hit: the sweep sweeps nothing");
}

#[tokio::test]
async fn without_its_side_file_a_sealed_dump_is_looked_into_where_that_can_be() {
    let (here, there, key) = (primary().await, memory(), Key::new());
    key.sync(&here, &there, false).await;
    let whole = objects(there.as_ref()).await;
    let name = "backup_20260203_000000.sql.gz.age";
    there.delete(&super::key(&format!("{name}{SIDE_FILE_SUFFIX}"))).await.unwrap();
    let blind = key.sync(&here, &there, false).await;
    assert_eq!((blind.copied, blind.conflicts.len(), blind.error.error), (0, 0, None));
    assert_eq!(objects(there.as_ref()).await.len() + 1, whole.len());
    assert_eq!(key.sync(&here, &there, true).await.copied, 1);
    key.assert_whole(&here, &there, "with a key").await;
    // Somebody else's dump under this name is told, and stays.
    there.delete(&super::key(&format!("{name}{SIDE_FILE_SUFFIX}"))).await.unwrap();
    put(there.as_ref(), name, whole["backup_20260202_000000.sql.gz.age"].clone()).await;
    let told = key.sync(&here, &there, true).await;
    assert_eq!((told.copied, told.damaged.len() + told.conflicts.len()), (0, 1), "{told:?}");
    assert_eq!(objects(there.as_ref()).await[name], whole["backup_20260202_000000.sql.gz.age"]);
}

#[tokio::test]
async fn damage_on_the_way_is_found_before_it_is_sealed() {
    let (here, key) = (primary().await, Key::new());
    let mut damaged = 0;
    for nth in 1..=12 {
        let fault = Fault { operation: Operation::GetRange, calls: Calls::Nth(nth), effect: Effect::Corrupt };
        let faulty: Arc<dyn BackupStore> = Arc::new(FaultyStore::new(here.clone(), FaultPlan { seed: nth, faults: vec![fault] }));
        let there = memory();
        damaged += key.sync(&faulty, &there, false).await.damaged.len();
        let of_databases = self::shelf(there.clone()).list().await.unwrap();
        for entry in of_databases {
            let original = here.get(&super::key(plain(&entry.name))).await.unwrap();
            assert_eq!(key.open(&there.get(&entry.name).await.unwrap()), original, "{nth}");
        }
    }
    assert!(damaged > 2, "only {damaged} were damaged");
}

#[tokio::test]
async fn a_dump_with_two_names_is_one_dump() {
    let (here, there, key) = (primary().await, memory(), Key::new());
    key.sync(&here, &there, false).await;
    here.delete(&super::key("backup_20260203_000000.sql.gz")).await.unwrap();
    let both = key.request(&here, &there, true).shelf;
    let all = AllStores::look(&both, &Silent).await.unwrap();
    let listed: Vec<_> = all.list_with_places().into_iter().map(|(entry, places)| (entry.name.as_str(), places)).collect();
    assert_eq!(
        listed,
        [
            ("backup_20260203_000000.sql.gz.age", vec![2]),
            ("backup_20260202_000000.sql.gz", vec![1, 2]),
            ("backup_20260201_000000.sql.gz", vec![1, 2])
        ]
    );
    for name in ["backup_20260203_000000.sql.gz", "backup_20260203_000000.sql.gz.age", "latest"] {
        assert_eq!(all.find(name, None).unwrap().name.as_str(), "backup_20260203_000000.sql.gz.age", "{name}");
    }
    let newest = all.newest_globals(Shelf::accepts);
    let names: Vec<_> = newest.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["globals_20260203_000000.sql.gz", "globals_20260203_000000.sql.gz.age"]);
    // What the copy has may go here, by the rules of this store.
    let last = Retention { keep_last: Some(1), ..Retention::default() };
    let plan = PruneRequest::new(both.clone(), last).plan(NOW).await.unwrap();
    assert!(plan.dropped.iter().any(|dropped| dropped.name.as_str() == "backup_20260201_000000.sql.gz"), "{plan:?}");
    // Damage here is told with the copy that is whole there, under its other name.
    put(here.as_ref(), "backup_20260202_000000.sql.gz", "cut off").await;
    let report = verify_all(&both, None, None, Depth::Full, &Silent).await.unwrap();
    assert_eq!((report.damaged.len(), report.damaged[0].whole_in.len()), (1, 1), "{report:?}");
}

#[tokio::test]
async fn dumps_that_were_copied_before_the_copy_was_encrypted_stay_as_they_are() {
    let (here, there, key) = (primary().await, memory(), Key::new());
    sync(&here, std::slice::from_ref(&there)).await;
    dump(here.as_ref(), "20260204", "4\n").await;
    let later = key.sync(&here, &there, false).await;
    assert_eq!((later.copied, later.conflicts.len()), (2, 0), "{later:?}");
    let shelf = key.shelf(&there, true);
    assert_eq!(shelf.list().await.unwrap().iter().filter(|entry| entry.encrypted).count(), 1);
    assert_eq!(shelf.refuse_downgrade(&super::key("backup_20260203_000000.sql.gz")).unwrap_err().kind(), ErrorKind::Unsafe);
}
