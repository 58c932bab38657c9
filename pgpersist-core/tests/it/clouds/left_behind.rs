//! Writers that were killed: what they left is removed by a prune, and what a living one is at stays.

use std::time::{Duration, Instant};

use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::error::ErrorKind;
use pgpersist_core::logical::prune::{Consent, PruneRequest};
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::retention::Retention;
use pgpersist_core::store::ObjectKey;

use crate::clouds::{Store, key, keys, opened, pattern, through};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::rclone::Rclone;
use crate::support::stores::{BUCKET, StoreServer, azurite, gcs, moto, s3s};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DUMP: &str = "backup_20260101_000000.sql.gz";
/// Where a store whose names are given by copies has what has none yet.
const HIDDEN: &str = "prefix/.pgpersist/uploads";

fn is_dump(key: &ObjectKey) -> bool {
    key.file_name().starts_with("backup_")
}

/// Whole seconds is all that servers tell of their time.
async fn a_moment_passes() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Begins an upload of which a part arrives, and leaves it as a process does that is killed.
async fn begin_and_die(server: &StoreServer) {
    let (store, proxy) = through(server, "prefix", "");
    let mut upload = store.upload(&key(DUMP)).await.unwrap();
    upload.write(pattern(17 << 20)).await.unwrap();
    let begun = Instant::now();
    while !proxy.seen().iter().any(|seen| seen.request.is_part() && seen.status == 200) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no part arrives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::mem::forget(upload);
    a_moment_passes().await;
}

/// Begins an upload by a plain request, and sends nothing.
fn begin(server: &StoreServer, name: &str) {
    let answer = server.plain("POST", &format!("/{BUCKET}/{name}?uploads"), &[], "");
    assert!(answer.contains("UploadId"), "{answer}");
}

async fn goes_when_it_is_old(server: Option<StoreServer>) {
    let (Some(server), Some(rclone)) = (server, Rclone::find()) else { return };
    let rclone = rclone.of(&server);
    begin_and_die(&server).await;
    assert_eq!(rclone.unfinished_uploads(), 1);
    let store = opened(&server.url("prefix"));
    // The writer may live.
    assert_eq!(store.remove_unfinished(DAY, &is_dump).await.unwrap(), 0);
    assert_eq!(rclone.unfinished_uploads(), 1);
    // Nor is a neighbour's work ours.
    assert_eq!(opened(&server.url("pre")).remove_unfinished(Duration::ZERO, &is_dump).await.unwrap(), 0);
    assert_eq!(store.remove_unfinished(Duration::ZERO, &is_dump).await.unwrap(), 1);
    assert_eq!(rclone.unfinished_uploads(), 0);
    assert_eq!(store.remove_unfinished(Duration::ZERO, &is_dump).await.unwrap(), 0);
    assert!(rclone.list("").is_empty(), "{:?}", rclone.list(""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parts_of_a_killed_writer_go_when_they_are_old_on_s3() {
    goes_when_it_is_old(moto::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parts_of_a_killed_writer_go_when_they_are_old_on_google() {
    goes_when_it_is_old(gcs::start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_none_of_ours_stays() {
    let (Some(server), Some(rclone)) = (moto::start(), Rclone::find()) else { return };
    begin(&server, "prefix/movie.mkv");
    begin(&server, &format!("elsewhere/{DUMP}"));
    begin(&server, &format!("prefix-of-others/{DUMP}"));
    begin(&server, &format!("prefix/shop/{DUMP}"));
    begin(&server, &format!("prefix/a%26b%20%C3%BC/{DUMP}"));
    let store = opened(&server.url("prefix"));
    assert_eq!(store.remove_unfinished(Duration::ZERO, &is_dump).await.unwrap(), 2);
    assert_eq!(rclone.of(&server).unfinished_uploads(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_read_to_its_end() {
    let (Some(server), Some(rclone)) = (gcs::start(), Rclone::find()) else { return };
    for number in 0..20 {
        begin(&server, &format!("{HIDDEN}/{number:032x}.pgpersist-tmp"));
    }
    begin(&server, &format!("prefix/{DUMP}"));
    a_moment_passes().await;
    let store = opened(&server.url("prefix"));
    assert_eq!(store.remove_unfinished(DAY, &is_dump).await.unwrap(), 0);
    assert_eq!(store.remove_unfinished(Duration::ZERO, &is_dump).await.unwrap(), 20);
    // No upload of ours has its place there.
    assert_eq!(rclone.of(&server).unfinished_uploads(), 1);
}

/// Where a name is given by a copy, a whole object may be left that nobody sees.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_never_got_its_name_goes_as_well() {
    let (Some(server), Some(rclone)) = (gcs::start(), Rclone::find()) else { return };
    for name in [format!("{HIDDEN}/{:032x}.pgpersist-tmp", 7), format!("{HIDDEN}/cluster.json"), format!("prefix/{DUMP}")] {
        assert!(server.plain("PUT", &format!("/{BUCKET}/{name}"), &[], "bytes").starts_with("HTTP/1.1 200"));
    }
    a_moment_passes().await;
    let store = opened(&server.url("prefix"));
    assert_eq!(keys(&store).await.unwrap(), [".pgpersist/uploads/cluster.json", DUMP]);
    assert_eq!(store.remove_unfinished(DAY, &is_dump).await.unwrap(), 0);
    assert_eq!(store.remove_unfinished(Duration::ZERO, &is_dump).await.unwrap(), 1);
    assert_eq!(rclone.of(&server).list("prefix"), [".pgpersist/uploads/cluster.json", DUMP]);
}

/// Azure forgets by itself, and tells nobody.
#[tokio::test(flavor = "multi_thread")]
async fn azure_has_nothing_to_remove() {
    let Some(server) = azurite::start() else { return };
    assert_eq!(opened(&server.url("prefix")).remove_unfinished(Duration::ZERO, &is_dump).await.unwrap(), 0);
}

/// Three dumps, of which retention keeps one.
async fn with_dumps(store: &Store) -> PruneRequest {
    for day in 1..=3 {
        store.put(&key(&format!("backup_2026010{day}_000000.sql.gz")), pattern(100)).await.unwrap();
    }
    let shelf = Shelf::new(store.clone(), "main", vec!["shop".to_owned()]);
    PruneRequest::new(shelf, Retention { keep_last: Some(1), ..Retention::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_removes_them() {
    let (Some(server), Some(rclone)) = (moto::start(), Rclone::find()) else { return };
    let store = opened(&server.url("prefix"));
    let request = PruneRequest { given_up_after: Duration::ZERO, ..with_dumps(&store).await };
    begin(&server, "prefix/backup_20260104_000000.sql.gz");
    begin(&server, "prefix/.pgpersist/check/1/speed/throughput/object");
    begin(&server, "prefix/movie.mkv");
    let now = SystemClock.now();
    // What would be done is told, and nothing done.
    assert_eq!(request.plan(now).await.unwrap().unfinished_uploads, 0);
    assert_eq!(rclone.of(&server).unfinished_uploads(), 3);
    let done = request.carry_out(Consent::Given, now).await.unwrap();
    assert_eq!((done.dropped.len(), done.unfinished_uploads), (2, 2));
    // Also where nothing is to be dropped.
    begin(&server, "prefix/backup_20260104_000000.sql.gz");
    let done = request.carry_out(Consent::Missing, now).await.unwrap();
    assert_eq!((done.dropped.len(), done.unfinished_uploads), (0, 1));
    assert_eq!(rclone.of(&server).unfinished_uploads(), 1);
}

/// Who may not list them, or not remove them, prunes all the same; so does everybody where the server cannot tell of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_may_not_remove_them_ends_well() {
    let denied = Fault::Refuse { status: 403, code: "AccessDenied" };
    let lists: fn(&Request) -> bool = |request| request.target.contains("?uploads");
    let aborts: fn(&Request) -> bool = |request| request.method == "DELETE" && request.target.contains("uploadId=");
    for (server, forbidden) in [(moto::start(), Some(lists)), (moto::start(), Some(aborts)), (s3s::start(), None)] {
        let Some(server) = server else { continue };
        let (store, proxy) = through(&server, "prefix", "");
        let request = PruneRequest { given_up_after: Duration::ZERO, ..with_dumps(&store).await };
        begin_unless_signed(&server, forbidden.is_some());
        if let Some(forbidden) = forbidden {
            proxy.rule(vec![Rule::new(forbidden, Choice::All, denied)]);
            assert_eq!(store.remove_unfinished(Duration::ZERO, &is_dump).await.unwrap_err().kind(), ErrorKind::Denied);
        }
        let done = request.carry_out(Consent::Given, SystemClock.now()).await.unwrap();
        assert_eq!((done.dropped.len(), done.unfinished_uploads), (2, 0));
        assert_eq!(keys(&store).await.unwrap().iter().filter(|name| name.ends_with(".gz")).count(), 1);
    }
}

fn begin_unless_signed(server: &StoreServer, takes_plain_requests: bool) {
    if takes_plain_requests {
        begin(server, &format!("prefix/{DUMP}"));
    }
}
