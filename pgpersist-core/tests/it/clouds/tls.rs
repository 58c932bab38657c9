//! TLS: who is not known is not spoken to, and `ca_file` makes somebody known.

use pgpersist_core::error::ErrorKind;

use crate::clouds::{everything, keeps_secrets, key, one_of_each, opened};
use crate::support::stores::proxy::{AUTHORITY, Proxy};
use crate::support::stores::{Protocol, StoreServer, s3s};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_refused_until_it_is_named() {
    for server in one_of_each() {
        refused_until_named(&server).await;
    }
}

async fn refused_until_named(server: &StoreServer) {
    let proxy = Proxy::encrypted(server.port());
    let url = server.url_at(&proxy.endpoint(), "prefix");
    let error = opened(&url).put(&key("object"), "bytes".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", everything(&error));
    assert!(error.causes().iter().any(|cause| cause.contains("certificate")), "{}", everything(&error));
    assert!(error.remedy().unwrap().contains("`ca_file="), "{}", everything(&error));
    keeps_secrets(&error);
    assert!(proxy.seen().is_empty(), "a request was sent");

    let authority = server.write("ca.pem", AUTHORITY);
    let store = opened(&format!("{url}&ca_file={}", authority.display()));
    store.put(&key("object"), "bytes".into()).await.unwrap();
    assert_eq!(store.get(&key("object")).await.unwrap(), "bytes");

    // A certificate for another name is none.
    let other = server.url_at(&format!("https://127.0.0.1:{}", proxy.port), "prefix");
    let error = opened(&format!("{other}&ca_file={}", authority.display())).get(&key("object")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", everything(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_holds_no_certificate_is_told() {
    let Some(server) = s3s::start() else { return };
    assert_eq!(server.protocol, Protocol::S3);
    for (text, is_there) in [("", true), ("no certificate", true), ("", false)] {
        let path = server.write("ca.pem", text);
        let path = if is_there { path } else { path.with_extension("missing") };
        let url = format!("{}&ca_file={}", server.url("prefix"), path.display());
        let error = pgpersist_core::store::open::open(&url.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{}", everything(&error));
        assert_eq!(error.kind(), if is_there { ErrorKind::Invalid } else { ErrorKind::NotFound }, "{}", everything(&error));
    }
}
