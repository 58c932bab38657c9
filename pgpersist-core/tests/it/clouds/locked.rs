//! Buckets that keep what is written: locks and retention are told as what they are, and a prune works around them.

use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::error::{Error, ErrorKind};
use pgpersist_core::logical::prune::{Consent, PruneRequest};
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::progress::Silent;
use pgpersist_core::retention::Retention;
use pgpersist_core::store::check::report::{CheckReport, Fitness};
use pgpersist_core::store::check::run::{CheckOptions, check};
use pgpersist_core::store::observation::Standing;
use time::macros::datetime;

use crate::clouds::{Store, everything, key, keys, one_of_each_with_moto, opened, pattern, through};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::{BUCKET, Protocol, StoreServer, moto};

/// How each cloud refuses to delete what is locked.
fn refusal(protocol: Protocol) -> Fault {
    match protocol {
        Protocol::S3 => Fault::Say { status: 403, code: "AccessDenied", message: "Access Denied because object protected by object lock." },
        Protocol::Gcs => Fault::Say {
            status: 403,
            code: "AccessDenied",
            message: "Object 'b/o' is subject to bucket's retention policy or object retention and cannot be deleted or overwritten until \
                      2999-01-02T03:04:05Z",
        },
        Protocol::Azure => Fault::Say {
            status: 409,
            code: "BlobImmutableDueToPolicy",
            message: "This operation is not permitted as the blob is immutable due to a policy.",
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_locked_is_kept_and_the_others_go() {
    for server in one_of_each_with_moto() {
        let (store, proxy) = through(&server, "prefix", "");
        for day in 1..=4 {
            store.put(&key(&format!("backup_2026010{day}_000000.sql.gz")), pattern(100)).await.unwrap();
            store.put(&key(&format!("globals_2026010{day}_000000.sql.gz")), pattern(50)).await.unwrap();
        }
        let is_locked = |request: &Request| request.is_delete() && request.target.contains("backup_20260102");
        proxy.rule(vec![Rule::new(is_locked, Choice::All, refusal(server.protocol))]);

        let error = store.delete(&key("backup_20260102_000000.sql.gz")).await.unwrap_err();
        assert!(matches!(&error, Error::Locked { .. }) && error.kind() == ErrorKind::Denied, "{}", everything(&error));
        assert!(error.remedy().unwrap().contains("prune"), "{}", everything(&error));
        if server.protocol == Protocol::Gcs {
            assert!(matches!(error, Error::Locked { until: Some(until), .. } if until == datetime!(2999-01-02 03:04:05 UTC)));
        }

        let shelf = Shelf::new(store.clone(), "main", vec!["shop".to_owned()]);
        let request = PruneRequest::new(shelf, Retention { keep_last: Some(1), ..Retention::default() });
        let planned = request.plan(SystemClock.now()).await.unwrap();
        let done = request.carry_out(Consent::Given, SystemClock.now()).await.unwrap();
        let dropped: Vec<&str> = done.dropped.iter().map(|dropped| dropped.name.as_str()).collect();
        assert_eq!(dropped, ["backup_20260101_000000.sql.gz", "backup_20260103_000000.sql.gz"], "{:?}", server.protocol);
        assert_eq!((planned.dropped.len(), done.kept.len()), (6, planned.kept.len() + 4));
        assert_eq!(planned.freed_bytes - done.freed_bytes, 100 + 3 * 50);
        let reason = |name: &str| done.kept.iter().find(|kept| kept.name.as_str() == name).unwrap().reason.as_str();
        let until = if server.protocol == Protocol::Gcs { " until 2999-01-02T03:04:05Z" } else { "" };
        assert_eq!(reason("backup_20260102_000000.sql.gz"), format!("locked in the store{until}"));
        // Its roles would be missing when it is loaded.
        assert_eq!(reason("globals_20260102_000000.sql.gz"), "a dump that is locked in the store may need it");

        // The time has come.
        proxy.rule(Vec::new());
        assert_eq!(request.carry_out(Consent::Given, SystemClock.now()).await.unwrap().dropped.len(), 4);
        let left: Vec<String> = keys(&store).await.unwrap().into_iter().filter(|name| name.ends_with(".gz")).collect();
        assert_eq!(left, ["backup_20260104_000000.sql.gz", "globals_20260104_000000.sql.gz"]);
    }
}

/// A bucket of S3 that was made so that it locks its objects.
#[track_caller]
fn locking(server: &StoreServer) -> String {
    let done = |answer: String| assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    done(server.plain("PUT", "/locking", &[("x-amz-bucket-object-lock-enabled", "true")], ""));
    let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>\
                <Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    done(server.plain("PUT", "/locking?object-lock", &[], rule));
    server.url("prefix").replace(BUCKET, "locking")
}

async fn checked(store: &Store) -> CheckReport {
    check(store, &CheckOptions { throughput_bytes: None }, &Silent).await.unwrap()
}

fn found<'a>(report: &'a CheckReport, name: &str) -> &'a str {
    &report.findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("no {name} in {report:?}")).summary
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_check_tells_of_versions_and_locks() {
    let Some(server) = moto::start() else { return };
    let report = checked(&opened(&server.url("prefix"))).await;
    // It holds nothing against checksums.
    assert_eq!(report.fitness, Fitness::Weak, "{report:?}");
    assert!(found(&report, "versioning").contains("keeps no old versions"), "{report:?}");
    assert!(found(&report, "object_lock").contains("locks no objects"), "{report:?}");
    let report = checked(&opened(&locking(&server))).await;
    assert_eq!(report.fitness, Fitness::Weak, "{report:?}");
    assert!(found(&report, "versioning").contains("keeps old versions"), "{report:?}");
    assert!(found(&report, "object_lock").contains("locked for 30 days: nobody"), "{report:?}");
    // What cannot be asked is not known, which is no fault of the store.
    let (store, proxy) = through(&server, "prefix", "");
    let asks = |request: &Request| request.target.contains("?versioning") || request.target.contains("?object-lock");
    proxy.rule(vec![Rule::new(asks, Choice::All, Fault::Refuse { status: 403, code: "AccessDenied" })]);
    let report = checked(&store).await;
    for name in ["versioning", "object_lock"] {
        let finding = report.findings.iter().find(|finding| finding.name == name).unwrap();
        assert!(finding.status == Standing::Unknown && finding.summary.contains("is not known: the server answered 403"), "{finding:?}");
    }
    assert_eq!(report.fitness, Fitness::Weak, "{report:?}");
}

/// In a bucket with versions a delete puts a marker: the name is free again, and what was there can be had by its version.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_delete_in_a_bucket_with_versions_leaves_the_old_one() {
    let Some(server) = moto::start() else { return };
    let store = opened(&locking(&server));
    store.put_if_absent(&key("object"), "first".into()).await.unwrap();
    assert_eq!(store.put_if_absent(&key("object"), "second".into()).await.unwrap_err().kind(), ErrorKind::Conflict);
    store.delete(&key("object")).await.unwrap();
    store.delete(&key("object")).await.unwrap();
    assert!(keys(&store).await.unwrap().is_empty());
    assert_eq!(store.get(&key("object")).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.put_if_absent(&key("object"), "third".into()).await.unwrap();
    assert_eq!(store.get(&key("object")).await.unwrap(), "third");
    let versions = server.plain("GET", "/locking?versions", &[], "");
    assert_eq!(versions.matches("<Version>").count(), 2, "{versions}");
    assert!(versions.contains("<DeleteMarker>"), "{versions}");
}

/// When a store refuses to delete by a rule of its own, its check says so, and says that it can be used.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_check_tells_a_lock_from_a_lack_of_rights() {
    for server in one_of_each_with_moto() {
        let (store, proxy) = through(&server, "prefix", "");
        proxy.rule(vec![Rule::new(Request::is_delete, Choice::All, refusal(server.protocol))]);
        let report = checked(&store).await;
        assert_eq!(report.fitness, Fitness::Weak, "{report:?}");
        assert!(
            found(&report, "deletion").contains("keeps what is written") && found(&report, "deletion").contains("locked"),
            "{report:?}"
        );
    }
}
