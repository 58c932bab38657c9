//! Uploads that fail: nothing stands under their name, and the server keeps no parts of them.

use std::time::{Duration, Instant};

use pgpersist_core::error::ErrorKind;

use crate::clouds::{everything, keeps_secrets, key, keys, opened, pattern, through, upload};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::rclone::{Client, Rclone};
use crate::support::stores::{Protocol, StoreServer, azurite, gcs, moto};

const EXPIRED: Fault = Fault::Refuse { status: 400, code: "ExpiredToken" };
const DENIED: Fault = Fault::Refuse { status: 403, code: "AccessDenied" };

/// What goes wrong for good, and what kind of error that is.
fn failures() -> Vec<(&'static str, Vec<Rule>, ErrorKind)> {
    let parts = |choice, fault| vec![Rule::new(Request::is_part, choice, fault)];
    let end = |fault| vec![Rule::new(Request::is_end_of_upload, Choice::All, fault)];
    vec![
        ("credentials expire in the middle", parts(Choice::After(1), EXPIRED), ErrorKind::Denied),
        ("a part is refused", parts(Choice::After(1), DENIED), ErrorKind::Denied),
        (
            "the server breaks down in the middle",
            parts(Choice::After(1), Fault::Refuse { status: 503, code: "SlowDown" }),
            ErrorKind::Unavailable,
        ),
        ("parts are cut off", parts(Choice::After(1), Fault::ResetWhileSent), ErrorKind::Unavailable),
        ("parts are never answered", parts(Choice::After(1), Fault::Silence), ErrorKind::Unavailable),
        ("the end is refused", end(DENIED), ErrorKind::Denied),
        ("the end fails within a success", end(Fault::FailedWithin200), ErrorKind::Unavailable),
        ("the end is cut off", end(Fault::Reset), ErrorKind::Unavailable),
    ]
}

async fn leaves_nothing(server: Option<StoreServer>) {
    let (Some(server), Some(rclone)) = (server, Rclone::find()) else { return };
    let rclone = rclone.of(&server);
    let large = pattern(25 << 20);
    for (what, rules, kind) in failures() {
        // An answer to the list of blocks has no body that could tell of a failure.
        if server.protocol == Protocol::Azure && what.contains("within a success") {
            continue;
        }
        let (store, proxy) = through(&server, "prefix", "&deadline=4s");
        proxy.rule(rules);
        let error = upload(&store, "dump", &large).await.expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {}", everything(&error));
        assert!(error.remedy().is_some(), "{what}: {}", everything(&error));
        keeps_secrets(&error);
        let direct = opened(&server.url("prefix"));
        assert_eq!(direct.head(&key("dump")).await.unwrap_err().kind(), ErrorKind::NotFound, "{what}");
        assert!(keys(&direct).await.unwrap().is_empty(), "{what}");
        // The same name is free at once. For Azure's emulator a blob is there as soon as it has blocks.
        match server.protocol {
            Protocol::Azure => direct.put(&key("dump"), "another".into()).await.unwrap(),
            _ => direct.put_if_absent(&key("dump"), "another".into()).await.unwrap(),
        }
        direct.delete(&key("dump")).await.unwrap();
        nothing_is_left(&rclone, what).await;
    }
    // Somebody who changes his mind.
    let direct = opened(&server.url("prefix"));
    let mut dropped = direct.upload(&key("dump")).await.unwrap();
    dropped.write(large).await.unwrap();
    drop(dropped);
    nothing_is_left(&rclone, "a dropped upload").await;
}

/// Aborting goes on behind the back of whoever failed.
async fn nothing_is_left(rclone: &Client, what: &str) {
    let begun = Instant::now();
    loop {
        let uploads = rclone.unfinished_uploads();
        let objects = rclone.list("");
        if uploads == 0 && objects.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {uploads} uploads and {objects:?} are left");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upload_that_fails_leaves_nothing_on_s3() {
    leaves_nothing(moto::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upload_that_fails_leaves_nothing_on_google() {
    leaves_nothing(gcs::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upload_that_fails_leaves_nothing_on_azure() {
    leaves_nothing(azurite::start()).await;
}
