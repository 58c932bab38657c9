//! Amazon's: the role of a machine, and a web identity. The store holds each request against a signature by the keys that were given.

use crate::clouds::identities::Given;
use crate::support::outside::{Asked, Outside, Reply};
use crate::support::stores::proxy::Proxy;
use crate::support::stores::{ACCESS_KEY, SECRET_KEY, StoreServer, s3s};

pub(super) const REGION: &str = "eu-central-1";
const ROLE: &str = "arn:aws:iam::123456789012:role/backups";
/// What each request to the store carries besides its signature.
pub(super) const SESSION: &str = "canary-session-token-0000000005";
/// What lets somebody ask for the keys of a machine.
const VISITOR: &str = "canary-metadata-token-0000000006";
/// Who somebody is, as Kubernetes has signed it.
const WEB_IDENTITY: &str = "canary.web.identity-0000000007";
/// Long after all tests.
pub(super) const NEVER: &str = "2126-01-01T00:00:00Z";

/// Keys, as machines and containers give them.
pub(super) fn keys(session: &str, until: &str) -> String {
    format!(
        r#"{{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "RoleArn": "{ROLE}", "AccessKeyId": "{ACCESS_KEY}",
            "SecretAccessKey": "{SECRET_KEY}", "Token": "{session}", "Expiration": "{until}"}}"#
    )
}

/// What EC2 answers, in the second version of its protocol, which alone is spoken where a machine was set up with care.
/// See <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>.
pub(super) fn machine(asked: &Asked, keys: &str) -> Reply {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    match (asked.method.as_str(), asked.path()) {
        ("PUT", "/latest/api/token") if asked.header("x-aws-ec2-metadata-token-ttl-seconds").is_some() => Reply::ok(VISITOR),
        _ if asked.header("x-aws-ec2-metadata-token") != Some(VISITOR) => Reply::Document(401, String::new()),
        ("GET", ROLES) => Reply::ok("backups"),
        ("GET", path) if path.strip_prefix(ROLES) == Some("backups") => Reply::ok(keys),
        _ => Reply::nothing(),
    }
}

/// What Amazon's token service answers to whoever has this identity.
/// See <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>.
fn token_service(asked: &Asked) -> Reply {
    let has = |name: &str, value: &str| asked.value(name).as_deref() == Some(value);
    let is_known = asked.is_encrypted && has("WebIdentityToken", WEB_IDENTITY) && has("RoleSessionName", "nightly");
    if !is_known || !has("Action", "AssumeRoleWithWebIdentity") || !has("RoleArn", "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbackups") {
        return Reply::Document(
            403,
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>".into(),
        );
    }
    Reply::ok(format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
         <Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken>{SESSION}\
         </SessionToken><Expiration>{NEVER}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    ))
}

/// The address of a store behind a proxy that sees what arrives.
pub(super) fn behind(server: &StoreServer) -> (String, Proxy) {
    let proxy = Proxy::before(server.port(), 0);
    let url = server.bare_url_at(&proxy.endpoint(), "prefix").replace("us-east-1", REGION);
    (url, proxy)
}

/// Fails unless everything that arrived was let in by these keys.
#[track_caller]
pub(super) fn arrived(proxy: &Proxy, session: &str) {
    let seen = proxy.seen();
    assert!(!seen.is_empty());
    for seen in seen {
        let (request, what) = (&seen.request, format!("{} {}: {}", seen.request.method, seen.request.target, seen.status));
        assert_eq!(request.header("x-amz-security-token"), Some(session), "{what}");
        let signed = request.header("authorization").unwrap_or_else(|| panic!("{what}: no signature"));
        assert!(signed.contains(&format!("Credential={ACCESS_KEY}/")) && signed.contains(&format!("/{REGION}/s3/")), "{what}");
        assert!(matches!(seen.status, 200 | 206 | 404), "{what}");
    }
}

/// One that starts with nothing, and whose keys are no affair of anybody's.
pub(super) fn given(outside: &Outside) -> Given {
    Given::nothing(outside).secret(&[ACCESS_KEY, SECRET_KEY, SESSION, VISITOR, WEB_IDENTITY, "AWS4-HMAC"])
}

#[test]
fn a_machine_has_the_role_that_it_was_given() {
    let Some(server) = s3s::start() else { return };
    let outside = Outside::start(|asked| machine(asked, &keys(SESSION, NEVER)));
    let (url, proxy) = behind(&server);
    given(&outside).opens(&url);
    arrived(&proxy, SESSION);
    let asked = outside.asked();
    assert!(asked.len() >= 3 && asked.iter().all(|asked| asked.host == "169.254.169.254"), "{asked:?}");

    // Its metadata elsewhere, as AWS's own tools are told it.
    let (url, proxy) = behind(&server);
    let here = format!("127.0.0.1:{}", outside.port);
    given(&outside).with(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("http://{here}/"))]).opens(&url);
    arrived(&proxy, SESSION);
    assert!(outside.asked_of(&here).iter().any(|asked| asked.method == "PUT" && asked.target == "/latest/api/token"));
}

/// Keys that somebody has put into the environment, as after `aws sts assume-role`: nobody is asked for others.
#[test]
fn keys_of_a_session_are_taken_from_the_environment() {
    let Some(server) = s3s::start() else { return };
    let outside = Outside::start(|asked| machine(asked, &keys("another", NEVER)));
    let (url, proxy) = behind(&server);
    let own = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_SESSION_TOKEN", SESSION)];
    let others =
        [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/role"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/none"), ("AWS_ROLE_ARN", ROLE)];
    given(&outside).with(&own).with(&others).opens(&url);
    arrived(&proxy, SESSION);
    assert!(outside.asked().is_empty(), "{:?}", outside.asked());
}

/// A machine that must not be asked is not asked, and that is told.
#[test]
fn a_machine_is_not_asked_where_that_is_forbidden() {
    let Some(server) = s3s::start() else { return };
    let outside = Outside::start(|asked| machine(asked, &keys(SESSION, NEVER)));
    let (url, proxy) = behind(&server);
    let run = given(&outside).with(&[("AWS_EC2_METADATA_DISABLED", "true")]).run(&["list", "--store", &url]);
    run.refused(1, &["AWS_EC2_METADATA_DISABLED", "  remedy: ", "AWS_ACCESS_KEY_ID"]);
    assert!(outside.asked().is_empty() && proxy.seen().is_empty());
}

#[test]
fn a_web_identity_becomes_a_role() {
    let Some(server) = s3s::start() else { return };
    let outside = Outside::start(token_service);
    let own = [("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"), ("AWS_ROLE_ARN", ROLE), ("AWS_ROLE_SESSION_NAME", "nightly")];
    let identity = || given(&outside).file("identity", WEB_IDENTITY).with(&own);
    let (url, proxy) = behind(&server);
    let url = format!("{url}&ca_file={{dir}}/ca.pem");
    identity().opens(&url);
    arrived(&proxy, SESSION);
    let asked = outside.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.host == format!("sts.{REGION}.amazonaws.com")), "{asked:?}");

    // A token service of one's own.
    let (url, proxy) = behind(&server);
    let here = format!("localhost:{}", outside.port);
    let url = format!("{url}&ca_file={{dir}}/ca.pem");
    identity().with(&[("AWS_ENDPOINT_URL_STS", &format!("https://{here}"))]).opens(&url);
    arrived(&proxy, SESSION);
    assert!(!outside.asked_of(&here).is_empty());
}
