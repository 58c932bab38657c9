//! What an address says of objects reaches the server, which tells it back.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::TryStreamExt;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::store::read_ahead::read_ahead;
use time::format_description::well_known::Rfc2822;

use crate::clouds::{key, one_of_each_with_moto, opened, pattern, through, upload};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::{ACCOUNT, ACCOUNT_KEY, BUCKET, StoreServer, azurite, gcs, moto};

/// A header of an answer, in small letters.
fn header(answer: &str, name: &str) -> Option<String> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_gets_class_encryption_and_tags() {
    let Some(server) = moto::start() else { return };
    let store = opened(&format!(
        "{}&storage_class=STANDARD_IA&server_side_encryption=aws:kms&kms_key=alias/backups&tags=team:db,env:prod",
        server.url("prefix")
    ));
    store.put(&key("small"), "bytes".into()).await.unwrap();
    store.put_if_absent(&key("new"), "bytes".into()).await.unwrap();
    upload(&store, "large", &pattern(17 << 20)).await.unwrap();
    for name in ["small", "new", "large"] {
        let target = format!("/{BUCKET}/prefix/{name}");
        let answer = server.plain("HEAD", &target, &[], "");
        assert_eq!(header(&answer, "x-amz-storage-class").as_deref(), Some("STANDARD_IA"), "{name}: {answer}");
        assert_eq!(header(&answer, "x-amz-server-side-encryption").as_deref(), Some("aws:kms"), "{name}: {answer}");
        let key = header(&answer, "x-amz-server-side-encryption-aws-kms-key-id").unwrap_or_default();
        assert!(key.contains("alias/backups"), "{name}: {answer}");
        let tags = server.plain("GET", &format!("{target}?tagging"), &[], "");
        for (name, value) in [("team", "db"), ("env", "prod")] {
            assert!(tags.contains(&format!("<Key>{name}</Key><Value>{value}</Value>")), "{tags}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn google_gets_the_class() {
    let Some(server) = gcs::start() else { return };
    let store = opened(&format!("{}&storage_class=NEARLINE", server.url("prefix")));
    store.put(&key("small"), "bytes".into()).await.unwrap();
    upload(&store, "large", &pattern(17 << 20)).await.unwrap();
    for name in ["small", "large"] {
        let answer = server.plain("HEAD", &format!("/{BUCKET}/prefix/{name}"), &[], "");
        assert_eq!(header(&answer, "x-goog-storage-class").as_deref(), Some("NEARLINE"), "{name}: {answer}");
    }
}

/// What Azurite says of a blob, asked for as its documentation has it: signed with the account's key.
fn ask(server: &StoreServer, method: &str, blob: &str, query: Option<(&str, &str)>) -> String {
    let path = format!("/{ACCOUNT}/{BUCKET}/{blob}");
    let date = SystemClock.now().format(&Rfc2822).unwrap().replace("+0000", "GMT");
    let version = "2021-12-02";
    let asked = query.map(|(name, value)| format!("\n{name}:{value}")).unwrap_or_default();
    let signed = format!("{method}\n{}x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}{asked}", "\n".repeat(11));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(ACCOUNT_KEY).unwrap());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let target = query.map_or_else(|| path.clone(), |(name, value)| format!("{path}?{name}={value}"));
    let headers = [("x-ms-date", date.as_str()), ("x-ms-version", version), ("Authorization", &format!("SharedKey {ACCOUNT}:{signature}"))];
    server.plain(method, &target, &headers, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn azure_gets_class_and_tags() {
    let Some(server) = azurite::start() else { return };
    let store = opened(&format!("{}&storage_class=Cool&tags=team:db,env:prod", server.url("prefix")));
    store.put(&key("small"), "bytes".into()).await.unwrap();
    upload(&store, "large", &pattern(17 << 20)).await.unwrap();
    for name in ["small", "large"] {
        let path = format!("prefix/{name}");
        let answer = ask(&server, "HEAD", &path, None);
        assert_eq!(header(&answer, "x-ms-access-tier").as_deref(), Some("Cool"), "{name}: {answer}");
        let tags = ask(&server, "GET", &path, Some(("comp", "tags")));
        for (name, value) in [("team", "db"), ("env", "prod")] {
            assert!(tags.contains(&format!("<Key>{name}</Key><Value>{value}</Value>")), "{tags}");
        }
    }
}

/// So many parts of an object are on their way at once, and not one more: up, down, and as a dump is loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_many_parts_are_in_flight() {
    const COUNT: usize = 3;
    let together = |fits: fn(&Request) -> bool| vec![Rule::new(fits, Choice::All, Fault::Together { count: COUNT })];
    for server in one_of_each_with_moto() {
        let bytes = pattern(41 << 20);
        let (store, proxy) = through(&server, "prefix", "&concurrency=3");
        proxy.rule(together(Request::is_part));
        upload(&store, "large", &bytes).await.unwrap();
        assert_eq!((proxy.hits(), proxy.most_together()), (6, COUNT), "{:?}: up", server.protocol);

        // The first answer tells how large it is.
        let (store, proxy) = through(&server, "prefix", "&concurrency=3");
        proxy.rule(together(|request| request.is_read() && request.header("range").is_some_and(|range| !range.starts_with("bytes=0-"))));
        assert!(store.get(&key("large")).await.unwrap() == bytes);
        assert_eq!((proxy.hits(), proxy.most_together()), (5, COUNT), "{:?}: down", server.protocol);

        let (store, proxy) = through(&server, "prefix", "&concurrency=3");
        proxy.rule(together(Request::is_read));
        let ranges: Vec<Bytes> = read_ahead(store, key("large"), bytes.len() as u64).try_collect().await.unwrap();
        assert!(ranges.concat() == bytes);
        assert_eq!((proxy.hits(), proxy.most_together()), (7, COUNT), "{:?}: loaded", server.protocol);
    }
}

/// Nothing that is limited is faster than its limit. How much slower it is, is the machine's affair.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rate_limit_holds() {
    for server in one_of_each_with_moto() {
        let store = opened(&format!("{}&rate_limit=8MB", server.url("prefix")));
        let bytes = pattern(17 << 20);
        // What comes last waits until the 16 MiB before it are paid for.
        let least = Duration::from_secs_f64(f64::from(16 << 20) / 8e6);
        let begun = Instant::now();
        upload(&store, "large", &bytes).await.unwrap();
        assert!(begun.elapsed() >= least, "{:?}: up in {:?}", server.protocol, begun.elapsed());
        let begun = Instant::now();
        assert!(store.get(&key("large")).await.unwrap() == bytes);
        assert!(begun.elapsed() >= least, "{:?}: down in {:?}", server.protocol, begun.elapsed());
    }
}
