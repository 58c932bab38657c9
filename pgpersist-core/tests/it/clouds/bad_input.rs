//! What is wrong about an address, its credentials or the way there is told: what it is, what to do, and nothing that is secret.

use pgpersist_core::error::{Error, ErrorKind};

use crate::clouds::{everything, keeps_secrets, key, keys, one_of_each, one_of_each_with_moto, opened, pattern, through, upload};
use crate::support::stores::process::free_port;
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::{BUCKET, Protocol, StoreServer, gcs, s3s};

/// Fails unless an error is of this kind, and message, causes and remedy tell all of these.
#[track_caller]
fn tells(error: &Error, kind: ErrorKind, told: &[&str]) {
    let everything = everything(error);
    assert_eq!(error.kind(), kind, "{everything}");
    assert!(error.remedy().is_some_and(|remedy| !remedy.is_empty()), "{everything}");
    for text in told {
        assert!(everything.contains(text), "`{text}` is not in {everything}");
    }
    keeps_secrets(error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there() {
    for server in one_of_each_with_moto() {
        let store = opened(&server.url("prefix").replace(BUCKET, "no-such-bucket"));
        let container = if server.protocol == Protocol::Azure { "container" } else { "bucket" };
        let make = format!("make the {container} `no-such-bucket`");
        tells(&store.put(&key("object"), "bytes".into()).await.unwrap_err(), ErrorKind::Invalid, &[&make]);
        tells(&store.put_if_absent(&key("object"), "bytes".into()).await.unwrap_err(), ErrorKind::Invalid, &[&make]);
        tells(&upload(&store, "object", &pattern(9 << 20)).await.unwrap_err(), ErrorKind::Invalid, &[&make]);
        tells(&keys(&store).await.unwrap_err(), ErrorKind::Invalid, &[&make]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_the_server_does_not_know() {
    for server in one_of_each().into_iter().filter(|server| server.protocol != Protocol::Gcs).chain(gcs::start_locked()) {
        let (name, what) = match server.protocol {
            Protocol::S3 => ("[default]\naws_access_key_id = SOMEBODYELSE\naws_secret_access_key = hunter2\n", "AWS_ACCESS_KEY_ID"),
            Protocol::Azure => ("AccountName=canaryaccount;AccountKey=aHVudGVyMg==\n", "AZURE_STORAGE_ACCOUNT_KEY"),
            Protocol::Gcs => ("", "GOOGLE_APPLICATION_CREDENTIALS"),
        };
        if !name.is_empty() {
            server.write("credentials", name);
        }
        let store = opened(&server.url("prefix"));
        let errors = [
            store.put(&key("object"), "bytes".into()).await.unwrap_err(),
            store.get(&key("object")).await.unwrap_err(),
            store.put_if_absent(&key("object"), "bytes".into()).await.unwrap_err(),
            keys(&store).await.unwrap_err(),
        ];
        for error in errors {
            tells(&error, ErrorKind::Denied, &[what]);
            assert!(!everything(&error).contains("hunter2"));
        }
    }
}

/// What a cloud says that none of the servers here does: the proxy says it in its place.
async fn refused(server: &StoreServer, fault: Fault) -> Vec<Error> {
    let (store, proxy) = through(server, "prefix", "&deadline=5s");
    proxy.rule(vec![Rule::new(|_| true, Choice::All, fault)]);
    vec![
        store.put(&key("object"), "bytes".into()).await.unwrap_err(),
        store.put_if_absent(&key("object"), "bytes".into()).await.unwrap_err(),
        store.get(&key("object")).await.unwrap_err(),
        store.head(&key("object")).await.unwrap_err(),
        keys(&store).await.unwrap_err(),
        upload(&store, "object", &pattern(9 << 20)).await.unwrap_err(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cloud_refuses_is_told() {
    let Some(server) = s3s::start() else { return };
    let refuse = |status, code| Fault::Refuse { status, code };
    for (fault, kind, told) in [
        (Fault::Redirect { region: "eu-central-1" }, ErrorKind::Invalid, "add `region=eu-central-1`"),
        (refuse(400, "AuthorizationHeaderMalformed"), ErrorKind::Invalid, "look at `region`"),
        (refuse(403, "RequestTimeTooSkewed"), ErrorKind::Denied, "set this machine's clock"),
        (refuse(400, "ExpiredToken"), ErrorKind::Denied, "the credentials have expired"),
        (refuse(403, "InvalidAccessKeyId"), ErrorKind::Denied, "does not know these credentials"),
        (refuse(403, "AccessDenied"), ErrorKind::Denied, "look at the permissions on the bucket"),
        (refuse(403, "InvalidObjectState"), ErrorKind::Unavailable, "archive"),
        (refuse(501, "NotImplemented"), ErrorKind::Invalid, "`pgpersist store check`"),
        (refuse(507, "InsufficientStorage"), ErrorKind::Unavailable, "make room"),
    ] {
        for error in refused(&server, fault).await {
            tells(&error, kind, &[told]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_somebody_else() {
    for server in one_of_each() {
        for error in refused(&server, Fault::Refuse { status: 403, code: "AccessDenied" }).await {
            tells(&error, ErrorKind::Denied, &["not allowed", BUCKET]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_only_read() {
    for server in one_of_each() {
        opened(&server.url("prefix")).put(&key("object"), "bytes".into()).await.unwrap();
        let (store, proxy) = through(&server, "prefix", "");
        let changes = |request: &Request| request.method != "GET" && request.method != "HEAD";
        proxy.rule(vec![Rule::new(changes, Choice::All, Fault::Refuse { status: 403, code: "AccessDenied" })]);
        assert_eq!(store.get(&key("object")).await.unwrap(), "bytes");
        assert_eq!(keys(&store).await.unwrap(), ["object"]);
        tells(&store.put(&key("new"), "bytes".into()).await.unwrap_err(), ErrorKind::Denied, &["could not write new"]);
        tells(&upload(&store, "new", &pattern(9 << 20)).await.unwrap_err(), ErrorKind::Denied, &["could not write", "new in "]);
        tells(&store.delete(&key("object")).await.unwrap_err(), ErrorKind::Denied, &["could not delete object"]);
        assert_eq!(store.get(&key("object")).await.unwrap(), "bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_not_delete() {
    for server in one_of_each() {
        let (store, proxy) = through(&server, "prefix", "");
        proxy.rule(vec![Rule::new(Request::is_delete, Choice::All, Fault::Refuse { status: 403, code: "AccessDenied" })]);
        // All that a dump does goes well, also where a large one leaves something behind that nobody sees.
        upload(&store, "large", &pattern(17 << 20)).await.unwrap();
        store.put_if_absent(&key("small"), "bytes".into()).await.unwrap();
        tells(&store.delete(&key("small")).await.unwrap_err(), ErrorKind::Denied, &["delete small", "permissions"]);
        assert_eq!(keys(&store).await.unwrap(), ["large", "small"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_there() {
    for server in one_of_each() {
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let store = opened(&format!("{}&deadline=2s", server.url_at(&endpoint, "prefix")));
        for error in [store.put(&key("object"), "bytes".into()).await.unwrap_err(), keys(&store).await.unwrap_err()] {
            tells(&error, ErrorKind::Unavailable, &[&endpoint, "can be reached"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_no_address() {
    for server in one_of_each() {
        let store = opened(&format!("{}&deadline=5s", server.url_at("https://no-such-host.invalid", "prefix")));
        tells(&store.put(&key("object"), "bytes".into()).await.unwrap_err(), ErrorKind::Unavailable, &["no-such-host.invalid"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_credentials_that_holds_none() {
    for server in one_of_each() {
        for text in ["", "hunter2", "{\"type\": \"hunter2\"}", "[default]\n"] {
            server.write("credentials", text);
            let url = server.url("prefix").parse().unwrap();
            let error = pgpersist_core::store::open::open(&url).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound), "{}", everything(&error));
            assert!(error.remedy().is_some_and(|remedy| !remedy.is_empty()), "{}", everything(&error));
            assert!(!everything(&error).contains("hunter2"), "{}", everything(&error));
        }
    }
}
