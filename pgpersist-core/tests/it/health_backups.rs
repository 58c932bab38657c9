//! What `health` says of physical backups, real ones of a running server.

use std::sync::Arc;
use std::time::Duration;

use pgpersist_core::backup::physical::{BackupOptions, back_up};
use pgpersist_core::clock::{Clock, ManualClock, SystemClock};
use pgpersist_core::data_directory::own_folder::OwnFolder;
use pgpersist_core::encryption::settings::EncryptionSettings;
use pgpersist_core::health::checks::backups::{BackupsCheck, DEFAULT_MAX_AGE, LastSeen};
use pgpersist_core::health::{Finding, HealthCheck, Status};
use pgpersist_core::logical::cluster_card::ClusterCard;
use pgpersist_core::progress::Silent;
use pgpersist_core::repo::layout;
use pgpersist_core::repo::names::RunName;
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::open::StoreSource;
use pgpersist_core::store::{BackupStore, ObjectKey};

use crate::physical::{backup, repository, server_with};

/// More than what a file must have been left alone for before a backup begins, and than a second, to which names of backups are told.
const QUIET: Duration = Duration::from_millis(2500);

/// A check of what lies in a store, by a machine whose own files lie beside `data`.
pub(crate) fn check_of(store: &Arc<dyn BackupStore>, encryption: &EncryptionSettings, own: OwnFolder) -> BackupsCheck {
    BackupsCheck {
        store: Some(StoreSource::Open(Arc::clone(store))),
        cluster: "main".to_owned(),
        encryption: encryption.clone(),
        own,
        is_planned: true,
        max_age: DEFAULT_MAX_AGE,
        last_seen: LastSeen::default(),
        clock: Arc::new(SystemClock),
        deadline: Duration::from_secs(60),
    }
}

#[track_caller]
fn expect(finding: &Finding, status: Status, words: &str) {
    assert!(finding.status == status && finding.summary.contains(words), "{finding:#?}");
    assert_eq!(finding.remedy.is_some(), status != Status::Pass, "{finding:#?}");
}

async fn flip(store: &Arc<dyn BackupStore>, key: &ObjectKey) {
    let mut bytes = store.get(key).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    store.put(key, bytes.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_backups_that_began_within_one_second_the_log_tells_the_newest() {
    let server = server_with(10).await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let check = check_of(&store, &EncryptionSettings::default(), OwnFolder::locate(&server.path("data")).unwrap());
    let repository = repository(Arc::clone(&store), &server).await;
    let now = ManualClock::new(SystemClock.now());
    let (connection, data, options) = (server.connection("postgres"), server.path("data"), BackupOptions::default());
    // With four, the odds that names alone give the right answer each time are small.
    for _ in 0..4 {
        let made = back_up(&connection, &data, &repository, &options, &now, &Silent).await.unwrap();
        let finding = check.check().await;
        assert_eq!(finding.observed["name"].as_str(), Some(made.name.as_str()), "{finding:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_good_backup_is_told_with_its_age_and_what_was_left_unread_longest() {
    let server = server_with(2_000).await;
    server.run("postgres", "CHECKPOINT").await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let own = OwnFolder::locate(&server.path("data")).unwrap();
    let check = check_of(&store, &EncryptionSettings::default(), own);
    expect(&check.check().await, Status::Warn, "none yet");
    let nobody_wants_any = BackupsCheck { is_planned: false, ..check.clone() };
    expect(&nobody_wants_any.check().await, Status::Pass, "none, and none are planned");

    let repository = repository(Arc::clone(&store), &server).await;
    tokio::time::sleep(QUIET).await;
    let first = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    tokio::time::sleep(QUIET).await;
    let second = backup(&server, &repository, &BackupOptions::default()).await.unwrap();
    assert!(second.unread_bytes > 0, "{second:?}");
    let now = SystemClock.now();
    let later = |days| BackupsCheck { clock: Arc::new(ManualClock::new(now + time::Duration::days(days))), ..check.clone() };
    let finding = later(1).check().await;
    expect(&finding, Status::Pass, &format!("latest {} (", second.name));
    let observed = |name: &str| finding.observed[name].as_u64().unwrap();
    assert_eq!((finding.observed["name"].as_str(), observed("count")), (Some(second.name.as_str()), 2));
    assert_eq!((observed("size_bytes"), observed("stored_bytes")), (second.size_bytes, second.stored_bytes));
    // Files that the second one left unread were read by the first one.
    let began: RunName = first.name.parse().unwrap();
    let read_ago = (now + time::Duration::days(1) - began.began_at()).whole_seconds().unsigned_abs();
    assert_eq!(observed("oldest_full_read_age_s"), read_ago);
    assert!(observed("age_s") < read_ago && observed("age_s") >= 86_400, "{finding:#?}");
    expect(&later(2).check().await, Status::Fail, "is too old (");
    expect(&later(-2).check().await, Status::Warn, "is dated in the future");

    // What is damaged is a failure, and the last good one is told.
    let newest: RunName = second.name.parse().unwrap();
    let lists = repository.key(&layout::pack(repository.manifest(newest).await.unwrap().entries[0].pack)).unwrap();
    let kept = store.get(&lists).await.unwrap();
    store.delete(&lists).await.unwrap();
    let unseen = || BackupsCheck { last_seen: LastSeen::default(), ..check.clone() };
    let finding = unseen().check().await;
    expect(&finding, Status::Fail, &format!("the newest, {}, has lost its list of files: ", second.name));
    assert!(finding.summary.contains(&format!("; the last good one is {} (just now)", first.name)), "{finding:#?}");
    // Who looks again and again reads lists once.
    expect(&check.check().await, Status::Pass, &second.name);
    store.put(&lists, kept).await.unwrap();
    expect(&unseen().check().await, Status::Pass, &second.name);
    flip(&store, &repository.key(&layout::manifest(newest)).unwrap()).await;
    expect(&check.check().await, Status::Fail, "cannot be read: ");
    let finding = unseen().check().await;
    expect(&finding, Status::Fail, &format!("the newest, {}, cannot be read: ", second.name));
    assert_eq!(finding.observed["name"].as_str(), Some(first.name.as_str()));
    let oldest: RunName = first.name.parse().unwrap();
    flip(&store, &repository.key(&layout::manifest(oldest)).unwrap()).await;
    expect(&BackupsCheck { is_planned: false, ..unseen() }.check().await, Status::Fail, "; none is good");

    // After `init --new` they are another cluster's.
    let session = server.session("postgres").await;
    let (identifier, version) = (session.system_identifier().await.unwrap(), session.version().await.unwrap());
    ClusterCard::new("main".to_owned(), identifier + 1, version, now).claim(store.as_ref()).await.unwrap();
    expect(&check.check().await, Status::Warn, "of another cluster");
    expect(&nobody_wants_any.check().await, Status::Pass, "none, and none are planned");
}
