//! Google's: the service account of a machine or a pod, somebody's own as `gcloud` leaves it, and an account's file. Google's own names are
//! asked, over TLS.

use crate::clouds::identities::Given;
use crate::support::outside::{Asked, Outside, Reply};
use crate::support::stores::{BUCKET, gcs};

/// Google's servers of objects.
pub(super) const STORAGE: &str = "storage.googleapis.com";
const METADATA: &str = "metadata.google.internal";
const TOKENS: &str = "accounts.google.com";
/// What the bucket is opened with.
pub(super) const TOKEN: &str = "canary-google-token-0000000010";
const CLIENT_SECRET: &str = "canary-client-secret-0000000011";
const REFRESH_TOKEN: &str = "canary-refresh-token-0000000012";

pub(super) fn address() -> String {
    format!("gs://{BUCKET}/prefix?ca_file={{dir}}/ca.pem")
}

/// What a machine of Google answers, and each node of its Kubernetes for a pod's service account.
/// See <https://cloud.google.com/compute/docs/metadata/querying-metadata>.
pub(super) fn machine(asked: &Asked, token: &str, seconds: u32) -> Reply {
    let is_asked = asked.path() == "/computeMetadata/v1/instance/service-accounts/default/token";
    if asked.header("metadata-flavor") != Some("Google") {
        return Reply::Document(403, "<html>Missing Metadata-Flavor:Google header.</html>".into());
    }
    if is_asked { Reply::ok(answer(token, seconds)) } else { Reply::nothing() }
}

fn answer(token: &str, seconds: u32) -> String {
    format!(r#"{{"access_token": "{token}", "expires_in": {seconds}, "token_type": "Bearer"}}"#)
}

/// What Google's token service answers to whoever may be somebody for longer.
/// See <https://developers.google.com/identity/protocols/oauth2/web-server#offline>.
fn token_service(asked: &Asked) -> Reply {
    let has = |name: &str, value: &str| asked.value(name).as_deref() == Some(value);
    let is_asked = asked.is_encrypted && asked.method == "POST" && asked.path() == "/o/oauth2/token";
    let is_known = has("client_id", "backups") && has("client_secret", CLIENT_SECRET) && has("refresh_token", REFRESH_TOKEN);
    if is_asked && is_known && has("grant_type", "refresh_token") {
        return Reply::ok(answer(TOKEN, 3599));
    }
    Reply::Document(400, r#"{"error": "invalid_grant", "error_description": "Bad Request"}"#.into())
}

/// Google as a whole, before a server that lets in whoever has the token.
fn google(port: u16) -> Outside {
    Outside::start(move |asked| match asked.host.as_str() {
        STORAGE if asked.is_encrypted => Reply::From { port, target: asked.target.clone() },
        TOKENS => token_service(asked),
        _ => machine(asked, TOKEN, 3599),
    })
}

fn given(outside: &Outside) -> Given {
    Given::nothing(outside).secret(&[TOKEN, CLIENT_SECRET, REFRESH_TOKEN])
}

#[track_caller]
fn arrived(outside: &Outside) {
    let asked = outside.asked_of(STORAGE);
    let bearer = format!("Bearer {TOKEN}");
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.header("authorization") == Some(&bearer)), "{asked:?}");
}

fn somebody() -> String {
    format!(
        r#"{{"type": "authorized_user", "client_id": "backups", "client_secret": "{CLIENT_SECRET}", "refresh_token": "{REFRESH_TOKEN}"}}"#
    )
}

#[test]
fn a_machine_is_its_service_account() {
    let Some(server) = gcs::start_for(TOKEN) else { return };
    let outside = google(server.port());
    given(&outside).opens(&address());
    arrived(&outside);
    assert!(!outside.asked_of(METADATA).is_empty() && outside.asked_of(TOKENS).is_empty());

    // Its metadata elsewhere, as Google's own libraries are told it.
    let outside = google(server.port());
    let here = format!("127.0.0.1:{}", outside.port);
    given(&outside).with(&[("GCE_METADATA_HOST", &here)]).opens(&address());
    arrived(&outside);
    assert!(!outside.asked_of(&here).is_empty() && outside.asked_of(METADATA).is_empty());
}

#[test]
fn somebody_is_who_gcloud_knows_them_to_be() {
    let Some(server) = gcs::start_for(TOKEN) else { return };
    for by in ["the environment", "the address", "the home"] {
        let outside = google(server.port());
        let given = given(&outside).file("somebody.json", &somebody());
        match by {
            "the address" => given.opens(&format!("{}&credentials_file={{dir}}/somebody.json", address())),
            "the home" => {
                given.scratch.folder(".config/gcloud");
                let given = given.file(".config/gcloud/application_default_credentials.json", &somebody());
                given.run_at_home(&["list", "--store", &address()]).done();
            }
            _ => given.with(&[("GOOGLE_APPLICATION_CREDENTIALS", "{dir}/somebody.json")]).opens(&address()),
        }
        arrived(&outside);
        assert!(!outside.asked_of(TOKENS).is_empty() && outside.asked_of(METADATA).is_empty(), "by {by}");
    }
}

/// It asks nobody: its key signs what opens the bucket.
#[test]
fn a_service_account_signs_for_itself() {
    let Some(server) = gcs::start() else { return };
    // Whatever of it might be told: a line of the key.
    let line = gcs::SIGNING_KEY.lines().nth(1).unwrap();
    for variable in ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"] {
        let outside = google(server.port());
        let account = gcs::signing_account("backups@acme.iam.gserviceaccount.com");
        let given = given(&outside).secret(&[line]).file("account.json", &account).with(&[(variable, "{dir}/account.json")]);
        given.opens(&address());
        let asked = outside.asked();
        assert!(!asked.is_empty(), "by {variable}");
        for asked in asked {
            assert_eq!(asked.host, STORAGE, "by {variable}");
            let token = asked.header("authorization").and_then(|told| told.strip_prefix("Bearer ")).unwrap_or_default();
            // Who signs, what is signed, and the signature, which the core's tests hold against the key.
            assert_eq!(token.split('.').filter(|part| part.len() > 40).count(), 3, "by {variable}");
            assert!(token.starts_with("eyJ"), "by {variable}");
        }
    }
}

/// Nothing is sent to whoever cannot prove to be Google, and a certificate of one's own is said to be good by `ca_file`.
#[test]
fn an_unknown_authority_is_refused() {
    let Some(server) = gcs::start_for(TOKEN) else { return };
    let outside = google(server.port());
    let run = given(&outside).run(&["list", "--store", &format!("gs://{BUCKET}/prefix")]);
    run.refused(1, &["certificate", "  remedy: ", "`ca_file="]);
    assert!(outside.asked_of(STORAGE).is_empty(), "a request was sent");

    let outside = google(server.port());
    let somebody = given(&outside).file("somebody.json", &somebody()).with(&[("GOOGLE_APPLICATION_CREDENTIALS", "{dir}/somebody.json")]);
    somebody.run(&["list", "--store", &format!("gs://{BUCKET}/prefix")]).refused(1, &["certificate", "  remedy: ", "`ca_file="]);
    assert!(outside.asked().is_empty(), "a request was sent");
}
