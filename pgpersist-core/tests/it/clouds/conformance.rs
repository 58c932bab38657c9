//! Every promise of `BackupStore`, kept on every server that keeps its own.

use futures_util::TryStreamExt;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::store::conformance::{Violation, violations};

use crate::clouds::opened;
use crate::support::stores::{StoreServer, azurite, gcs, moto, s3s};

/// What s3s-fs does not keep by itself: it looks at a condition before it writes and not while, reads files in the making, and its
/// keys are paths of a file system, where none is both a file and a folder.
const BEYOND_S3S: &[&str] = &[
    "of_concurrent_put_if_absent_exactly_one_wins",
    "of_concurrent_uploads_exactly_one_wins",
    "a_reader_sees_the_old_or_the_new_object_whole",
    "what_does_not_exist_is_not_found",
    "odd_keys_are_kept_as_they_are",
    "a_backslash_is_kept_or_refused",
    "long_keys_are_kept_as_they_are",
    "delete_may_be_repeated",
];

async fn broken(server: &StoreServer, options: &str) -> Vec<Violation> {
    // The whole bucket, emptied for each promise: the longest keys leave no room for a prefix.
    let url = format!("{}{options}", server.url(""));
    violations(|| async {
        let store = opened(&url);
        let left: Vec<_> = store.list("").try_collect().await.unwrap();
        for meta in left {
            store.delete(&meta.key).await.unwrap();
        }
        store
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn moto_keeps_the_contract() {
    let Some(server) = moto::start() else { return };
    assert_eq!(broken(&server, "").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn azurite_keeps_the_contract() {
    let Some(server) = azurite::start() else { return };
    assert_eq!(broken(&server, "").await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn google_keeps_the_contract() {
    let Some(server) = gcs::start() else { return };
    assert_eq!(broken(&server, "").await, []);
}

/// Azure alone has a reason to refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backslash_is_refused_by_azure_alone() {
    let key = "back\\slash".parse().unwrap();
    for server in [moto::start(), gcs::start()].into_iter().flatten() {
        opened(&server.url("names")).put(&key, "kept".into()).await.unwrap();
        assert_eq!(opened(&server.url("names")).get(&key).await.unwrap(), "kept");
    }
    let Some(server) = azurite::start() else { return };
    assert_eq!(opened(&server.url("names")).put(&key, "kept".into()).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3s_keeps_what_a_file_system_can() {
    let Some(server) = s3s::start() else { return };
    let mut broken = broken(&server, "&deadline=15s").await;
    broken.retain(|violation| !BEYOND_S3S.contains(&violation.promise));
    assert_eq!(broken, []);
}
