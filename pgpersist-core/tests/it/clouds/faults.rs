//! What passes is survived, and what is wrong is never taken for right.

use bytes::Bytes;
use futures_util::future::join_all;
use pgpersist_core::error::ErrorKind;

use crate::clouds::{Store, everything, key, keys, one_of_each, one_of_each_with_moto, opened, pattern, through, upload};
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::proxy::{Proxy, Request};
use crate::support::stores::{Protocol, s3s};

/// Every operation, and what comes of it.
async fn do_everything(store: &Store, what: &str, meet: impl Fn()) {
    let large = pattern((16 << 20) + 17);
    let small = key("folder/small");
    meet();
    store.put(&small, "small".into()).await.unwrap_or_else(|error| panic!("{what}: put: {}", everything(&error)));
    meet();
    store.put_if_absent(&key("folder/other"), "other".into()).await.unwrap_or_else(|error| panic!("{what}: {}", everything(&error)));
    meet();
    upload(store, "folder/uploaded", &Bytes::from("uploaded"))
        .await
        .unwrap_or_else(|error| panic!("{what}: upload: {}", everything(&error)));
    meet();
    upload(store, "large", &large).await.unwrap_or_else(|error| panic!("{what}: large upload: {}", everything(&error)));
    meet();
    let read = store.get(&key("large")).await.unwrap_or_else(|error| panic!("{what}: get: {}", everything(&error)));
    assert!(read == large, "{what}: the bytes are others");
    meet();
    assert_eq!(store.get_range(&small, 2..4).await.unwrap(), "al", "{what}");
    meet();
    assert_eq!(store.head(&small).await.unwrap().size_bytes, 5, "{what}");
    meet();
    let listed = keys(store).await.unwrap_or_else(|error| panic!("{what}: list: {}", everything(&error)));
    assert_eq!(listed, ["folder/other", "folder/small", "folder/uploaded", "large"], "{what}");
    meet();
    assert_eq!(store.folders("").await.unwrap(), ["folder"], "{what}");
    meet();
    assert_eq!(store.put_if_absent(&small, "second".into()).await.unwrap_err().kind(), ErrorKind::Conflict, "{what}");
    meet();
    store.delete(&small).await.unwrap_or_else(|error| panic!("{what}: delete: {}", everything(&error)));
    meet();
    assert_eq!(store.get(&small).await.unwrap_err().kind(), ErrorKind::NotFound, "{what}");
}

/// The first request of each operation is hit, and then the first two.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_passes_is_survived_by_every_operation() {
    for server in one_of_each() {
        let runs = Fault::PASSING.iter().enumerate().map(|(number, fault)| {
            let server = &server;
            async move {
                let (store, proxy) = through(server, &format!("prefix/{number}"), "");
                let meet = || proxy.rule(vec![Rule::new(|_| true, Choice::First(1 + number % 2), *fault)]);
                do_everything(&store, &format!("{:?} {fault:?}", server.protocol), meet).await;
                assert!(proxy.hits() > 10, "{fault:?} hit {} requests only", proxy.hits());
            }
        });
        join_all(runs).await;
    }
}

/// A tenth of all requests, by a seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tenth_of_faults_changes_nothing() {
    let seed = std::env::var("PGPERSIST_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_126);
    for server in one_of_each() {
        let proxy = Proxy::before(server.port(), seed);
        proxy.rule(vec![Rule::any(Choice::Percent(10), Fault::PASSING)]);
        for round in 0..5 {
            let store = opened(&server.url_at(&proxy.endpoint(), &format!("round/{round}")));
            do_everything(&store, &format!("{:?}, seed {seed}, round {round}", server.protocol), || {}).await;
        }
        assert!(proxy.hits() > 0);
    }
}

/// Whatever is shorter than the server said, or than we asked for, is asked for again, or is an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn half_an_object_is_never_taken_for_a_whole_one() {
    for server in one_of_each() {
        let bytes = pattern((8 << 20) + 1000);
        opened(&server.url("prefix")).put(&key("object"), bytes.clone()).await.unwrap();
        for fault in [Fault::Shortened, Fault::CutShort, Fault::ResetWithin] {
            let (store, proxy) = through(&server, "prefix", "");
            proxy.rule(vec![Rule::new(Request::is_read, Choice::First(2), fault)]);
            let read = store.get(&key("object")).await.unwrap_or_else(|error| panic!("{fault:?}: {}", everything(&error)));
            assert!(read == bytes, "{:?} {fault:?}", server.protocol);
            let (store, proxy) = through(&server, "prefix", "&deadline=5s");
            proxy.rule(vec![Rule::new(Request::is_read, Choice::All, fault)]);
            let error = store.get(&key("object")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{:?} {fault:?}: {}", server.protocol, everything(&error));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn half_a_list_is_never_taken_for_a_whole_one() {
    for server in one_of_each() {
        let direct = opened(&server.url("prefix"));
        let names: Vec<String> = (10..40).map(|number| format!("object {number}")).collect();
        join_all(names.iter().map(|name| async { direct.put(&key(name), "bytes".into()).await.unwrap() })).await;
        for fault in [Fault::Shortened, Fault::CutShort, Fault::ResetWithin] {
            let (store, proxy) = through(&server, "prefix", "&deadline=5s");
            proxy.rule(vec![Rule::new(Request::is_list, Choice::All, fault)]);
            let error = keys(&store).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{:?} {fault:?}: {}", server.protocol, everything(&error));
            // A document that is none does no other harm.
            proxy.rule(vec![Rule::new(Request::is_list, Choice::All, Fault::Flipped)]);
            let _ = keys(&store).await;
            if fault != Fault::Shortened {
                proxy.rule(vec![Rule::new(Request::is_list, Choice::First(1), fault)]);
                assert_eq!(keys(&store).await.unwrap(), names, "{:?} {fault:?}", server.protocol);
            }
        }
    }
}

/// What the server receives is what we sent, or it is not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bytes_that_changed_on_their_way_are_not_stored() {
    for server in one_of_each() {
        let (store, proxy) = through(&server, "prefix", "&deadline=5s");
        let is_data = |request: &Request| request.is_put() || request.is_part();
        proxy.rule(vec![Rule::new(is_data, Choice::All, Fault::FlippedOnTheWay)]);
        for length in [1000, 9 << 20] {
            let error = upload(&store, "object", &pattern(length)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{:?}: {}", server.protocol, everything(&error));
        }
        let error = store.put(&key("object"), pattern(1000)).await.unwrap_err();
        // s3s-fs says no more than that something is wrong.
        let told = error.remedy().unwrap();
        assert!(told.contains("changed on their way") || server.protocol == Protocol::S3, "{}", everything(&error));
        assert!(keys(&opened(&server.url("prefix"))).await.unwrap().is_empty(), "{:?}", server.protocol);
    }
}

/// A list that is late hides what is new; no name is taken twice for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stale_list_takes_no_name_twice() {
    for server in one_of_each() {
        let (store, proxy) = through(&server, "prefix", "");
        assert!(keys(&store).await.unwrap().is_empty());
        store.put_if_absent(&key("object"), "first".into()).await.unwrap();
        proxy.rule(vec![Rule::new(Request::is_list, Choice::All, Fault::Stale)]);
        assert!(keys(&store).await.unwrap().is_empty(), "the list is not stale");
        assert_eq!(store.put_if_absent(&key("object"), "second".into()).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(upload(&store, "object", &pattern(10)).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(store.get(&key("object")).await.unwrap(), "first");
    }
}

/// Checksums that the server makes up: an object that seems to change while it is read, and parts that it does not know again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn checksums_that_fit_nothing_are_a_clear_error() {
    for server in one_of_each_with_moto() {
        let (store, proxy) = through(&server, "prefix", "&deadline=5s");
        // What is read in parts: each is asked for on the condition that it is of the same object.
        store.put(&key("object"), pattern(17 << 20)).await.unwrap();
        proxy.rule(vec![Rule::new(Request::is_read, Choice::All, Fault::WrongChecksums)]);
        let error = store.get(&key("object")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{:?}: {}", server.protocol, everything(&error));
        assert!(error.to_string().contains("changed"), "{}", everything(&error));
        if server.protocol != Protocol::Azure {
            proxy.rule(vec![Rule::new(Request::is_part, Choice::First(1), Fault::WrongChecksums)]);
            let error = upload(&store, "large", &pattern(17 << 20)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Invalid), "{}", everything(&error));
            assert_eq!(keys(&opened(&server.url("prefix"))).await.unwrap(), ["object"]);
        }
    }
}

/// Whoever answers with another server's address does not get there what opens the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redirection_carries_no_credentials_away() {
    let Some(server) = s3s::start() else { return };
    let elsewhere = Proxy::before(server.port(), 0);
    let (store, proxy) = through(&server, "prefix", "&deadline=5s");
    store.put(&key("object"), "bytes".into()).await.unwrap();
    proxy.rule(vec![Rule::new(|_| true, Choice::All, Fault::RedirectTo { port: elsewhere.port })]);
    store.get(&key("object")).await.unwrap_err();
    store.put(&key("new"), "secret bytes".into()).await.unwrap_err();
    keys(&store).await.unwrap_err();
    let arrived: Vec<String> = elsewhere.seen().iter().map(|seen| format!("{} {}", seen.request.method, seen.request.target)).collect();
    assert!(arrived.is_empty(), "it went elsewhere: {arrived:?}");
}
