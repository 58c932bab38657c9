//! Credentials that expire while a large object is on its way: where new ones have come, the upload goes on with them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pgpersist_core::error::ErrorKind;

use crate::clouds::{everything, keeps_secrets, key, keys, one_of_each, opened, pattern, through, upload};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::{ACCOUNT, ACCOUNT_KEY, Protocol, SECRET_KEY, azurite, moto};

const EXPIRED: Fault = Fault::Refuse { status: 400, code: "ExpiredToken" };

fn keys_of(name: &str) -> String {
    format!("[default]\naws_access_key_id = {name}\naws_secret_access_key = {SECRET_KEY}\naws_session_token = token-{name}\n")
}

/// Puts new keys in the place of the old ones, at once.
fn renew(path: &Path) {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    file.write_all(keys_of("NEWKEY").as_bytes()).unwrap();
    file.persist(path).unwrap();
}

fn is_signed_by(request: &Request, name: &str) -> bool {
    let by = request.header("authorization").is_some_and(|told| told.contains(&format!("Credential={name}/")));
    by && request.header("x-amz-security-token") == Some(&format!("token-{name}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upload_goes_on_with_the_new_ones() {
    let Some(server) = moto::start() else { return };
    server.write("credentials", &keys_of("OLDKEY"));
    let (store, proxy) = through(&server, "prefix", "&concurrency=2");
    let (parts, path) = (Arc::new(AtomicUsize::new(0)), server.credentials());
    // After two parts the first keys are worth nothing any more, and whoever renews them does so when that has shown.
    let has_expired = move |request: &Request| {
        if !is_signed_by(request, "OLDKEY") {
            return false;
        }
        let sent = if request.is_part() { parts.fetch_add(1, Ordering::SeqCst) + 1 } else { parts.load(Ordering::SeqCst) };
        if sent > 2 {
            renew(&path);
        }
        sent > 2
    };
    proxy.rule(vec![Rule::new(has_expired, Choice::All, EXPIRED)]);
    let bytes = pattern(41 << 20);
    upload(&store, "dump", &bytes).await.unwrap_or_else(|error| panic!("{}", everything(&error)));
    assert!(proxy.hits() > 0);
    let seen = proxy.seen();
    let end = seen.iter().find(|seen| seen.request.is_end_of_upload()).unwrap();
    assert!(
        is_signed_by(&end.request, "NEWKEY") && seen.iter().any(|seen| seen.request.is_part() && is_signed_by(&seen.request, "NEWKEY"))
    );
    assert!(opened(&server.url("prefix")).get(&key("dump")).await.unwrap() == bytes);
}

/// What is asked for without a body to tell why it is refused is asked for again as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_request_goes_on_with_the_new_ones() {
    let Some(server) = moto::start() else { return };
    opened(&server.url("prefix")).put(&key("object"), "bytes".into()).await.unwrap();
    for ask in ["head", "get", "list", "put"] {
        server.write("credentials", &keys_of("OLDKEY"));
        let (store, proxy) = through(&server, "prefix", "");
        let path = server.credentials();
        let has_expired = move |request: &Request| {
            let is_old = is_signed_by(request, "OLDKEY");
            if is_old && request.method != "HEAD" {
                renew(&path);
            }
            is_old
        };
        proxy.rule(vec![Rule::new(has_expired, Choice::All, EXPIRED)]);
        let done = match ask {
            "head" => store.head(&key("object")).await.map(|_| ()),
            "get" => store.get(&key("object")).await.map(|_| ()),
            "list" => keys(&store).await.map(|_| ()),
            _ => store.put(&key("other"), "bytes".into()).await,
        };
        done.unwrap_or_else(|error| panic!("{ask}: {}", everything(&error)));
        assert!(proxy.hits() > 0, "{ask}");
    }
}

/// A signature that is too old, and a token that is: each cloud's word for it, and the same credentials are good for another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_is_too_old_is_signed_again() {
    for server in one_of_each().into_iter().filter(|server| server.protocol != Protocol::Gcs) {
        let (store, proxy) = through(&server, "prefix", "");
        let fault = match server.protocol {
            Protocol::S3 => Fault::Refuse { status: 403, code: "RequestTimeTooSkewed" },
            _ => Fault::Refuse { status: 401, code: "InvalidAuthenticationInfo" },
        };
        proxy.rule(vec![Rule::new(Request::is_part, Choice::First(2), fault)]);
        let bytes = pattern(25 << 20);
        upload(&store, "dump", &bytes).await.unwrap_or_else(|error| panic!("{:?}: {}", server.protocol, everything(&error)));
        assert_eq!(proxy.hits(), 2, "{:?}", server.protocol);
        assert!(store.get(&key("dump")).await.unwrap() == bytes);
    }
}

/// A signature of the account's key that opens its blobs for a while.
/// Format: <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>.
pub(super) fn shared_access_signature(until: &str) -> String {
    let (version, may) = ("2019-12-12", "rwdlac");
    let signed = format!("{ACCOUNT}\n{may}\nb\nsco\n\n{until}\n\nhttp,https\n{version}\n");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(ACCOUNT_KEY).unwrap());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let escape = |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A").replace(',', "%2C");
    format!("sv={version}&ss=b&srt=sco&sp={may}&se={}&spr=http%2Chttps&sig={}", escape(until), escape(&signature))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn azures_file_is_read_again_and_holds_a_key_or_a_signature() {
    let Some(server) = azurite::start() else { return };
    let store = opened(&server.url("prefix"));
    store.put(&key("object"), "by its key".into()).await.unwrap();
    let signed = |until| format!("AccountName={ACCOUNT};SharedAccessSignature={}", shared_access_signature(until));
    server.write("credentials", &signed("2020-01-01T00:00:00Z"));
    let error = store.put(&key("object"), "too late".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", everything(&error));
    keeps_secrets(&error);
    assert!(!everything(&error).contains("sig="), "{}", everything(&error));
    server.write("credentials", &signed("2099-01-01T00:00:00Z"));
    let bytes = pattern(20 << 20);
    upload(&store, "dump", &bytes).await.unwrap_or_else(|error| panic!("{}", everything(&error)));
    assert!(store.get(&key("dump")).await.unwrap() == bytes);
    assert_eq!(store.get(&key("object")).await.unwrap(), "by its key");
    assert_eq!(keys(&store).await.unwrap(), ["dump", "object"]);
    store.delete(&key("dump")).await.unwrap();
    server.write("credentials", "nothing of the kind");
    let error = store.get(&key("object")).await.unwrap_err();
    assert!(everything(&error).contains("no connection string"), "{}", everything(&error));
}

/// Where nobody brings new ones, that is told, and soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_stays_expired_is_told() {
    let Some(server) = moto::start() else { return };
    let (store, proxy) = through(&server, "prefix", "");
    proxy.rule(vec![Rule::new(|_| true, Choice::All, EXPIRED)]);
    let error = store.put(&key("object"), "bytes".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", everything(&error));
    assert!(error.remedy().unwrap().contains("expired"), "{}", everything(&error));
    keeps_secrets(&error);
    assert!((2..=4).contains(&proxy.hits()), "{} attempts", proxy.hits());
}
