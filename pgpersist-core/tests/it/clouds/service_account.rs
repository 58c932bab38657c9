//! Google's service accounts: what a request carries is signed with the key of the account's file, for a while, and asked of nobody.

use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use pgpersist_core::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::clouds::{key, opened};
use crate::support::stores::gcs;
use crate::support::stores::proxy::Proxy;

const EMAIL: &str = "backups@acme.iam.gserviceaccount.com";

/// The three parts of a token, the last one decoded: <https://datatracker.ietf.org/doc/html/rfc7519>.
fn parts(token: &str) -> (&str, Value, Value, Vec<u8>) {
    let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let document = |text: &str| serde_json::from_slice(&decoded(text)).unwrap();
    (signed, document(head), document(claims), decoded(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn its_key_signs_what_opens_the_bucket() {
    let Some(server) = gcs::start() else { return };
    let file = server.write("account.json", &gcs::signing_account(EMAIL));
    let proxy = Proxy::before(server.port(), 0);
    let store = opened(&format!("{}&credentials_file={}", server.bare_url_at(&proxy.endpoint(), "prefix"), file.display()));
    store.put(&key("object"), "bytes".into()).await.unwrap();
    assert_eq!(store.get(&key("object")).await.unwrap(), "bytes");

    let pem: String = gcs::SIGNING_KEY.lines().filter(|line| !line.starts_with("---")).collect();
    let pair = RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(pem).unwrap()).unwrap();
    let public_key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    let seen = proxy.seen();
    assert!(!seen.is_empty());
    for seen in seen {
        let (request, now) = (seen.request, SystemClock.now().unix_timestamp());
        let told = request.header("authorization").unwrap_or_else(|| panic!("{} {} has no token", request.method, request.target));
        let (signed, head, claims, signature) = parts(told.strip_prefix("Bearer ").unwrap());
        public_key.verify(signed.as_bytes(), &signature).unwrap();
        assert_eq!((&head["alg"], &head["kid"]), (&Value::from("RS256"), &Value::from("key-1")), "{head}");
        assert_eq!((&claims["iss"], &claims["sub"]), (&Value::from(EMAIL), &Value::from(EMAIL)), "{claims}");
        assert!(claims["scope"].as_str().unwrap().starts_with("https://www.googleapis.com/auth/"), "{claims}");
        let (from, to) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert!(from <= now && now < to && to - from <= 3600, "{claims} at {now}");
    }
}
