//! Azure's: a workload's identity, a machine's, and a service principal. Azure's own names are asked, over TLS; an empty container stands for
//! the store, which lets in whoever brings the token.

use std::process::Command;

use crate::clouds::identities::Given;
use crate::support::outside::{Asked, Outside, Reply};
use crate::support::scratch::Scratch;
use crate::support::stores::{ACCOUNT, ACCOUNT_KEY, BUCKET, azurite};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
pub(super) const TOKENS: &str = "login.microsoftonline.com";
pub(super) const MACHINE: &str = "169.254.169.254";
/// What the container is opened with.
pub(super) const TOKEN: &str = "canary-azure-token-0000000013";
/// Who somebody is, as Kubernetes has signed it.
const WORKLOAD: &str = "canary.workload.identity-0000000014";
const CLIENT_SECRET: &str = "canary-client-secret-0000000015";
/// What lets a program of this machine ask for a token.
const VISITOR: &str = "canary-identity-header-0000000016";

pub(super) fn address() -> String {
    format!("az://{BUCKET}/prefix?account={ACCOUNT}&ca_file={{dir}}/ca.pem")
}

fn blobs() -> String {
    format!("{ACCOUNT}.blob.core.windows.net")
}

/// A container that has nothing in it, and is shown to whoever brings this token.
pub(super) fn container(asked: &Asked, token: &str) -> Reply {
    if !asked.is_encrypted || asked.header("authorization") != Some(&format!("Bearer {token}")) {
        let message = "<Error><Code>InvalidAuthenticationInfo</Code><Message>Signature validation failed.</Message></Error>";
        return Reply::Document(401, message.into());
    }
    if asked.method == "GET" && asked.path() == format!("/{BUCKET}") && asked.value("comp").as_deref() == Some("list") {
        return Reply::ok(format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://{}/\" ContainerName=\"{BUCKET}\"><Blobs />\
             <NextMarker /></EnumerationResults>",
            blobs()
        ));
    }
    Reply::Document(404, "<Error><Code>BlobNotFound</Code><Message>The specified blob does not exist.</Message></Error>".into())
}

/// What Microsoft's token service answers to a workload, or to a service principal.
/// See <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
fn token_service(asked: &Asked) -> Reply {
    let has = |name: &str, value: &str| asked.value(name).as_deref() == Some(value);
    let is_asked = asked.is_encrypted && asked.method == "POST" && asked.target == format!("/{TENANT}/oauth2/v2.0/token");
    let is_for =
        has("client_id", CLIENT) && has("grant_type", "client_credentials") && has("scope", "https%3A%2F%2Fstorage.azure.com%2F.default");
    let is_workload = has("client_assertion", WORKLOAD)
        && has("client_assertion_type", "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer");
    if is_asked && is_for && (is_workload || has("client_secret", CLIENT_SECRET)) {
        return Reply::ok(format!(r#"{{"token_type": "Bearer", "expires_in": 3599, "access_token": "{TOKEN}"}}"#));
    }
    Reply::Document(401, r#"{"error": "invalid_client", "error_description": "AADSTS700016: not known here"}"#.into())
}

/// What a machine of Azure answers, and what App Service and Container Apps have beside a program.
/// See <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>.
pub(super) fn machine(asked: &Asked, token: &str, until: i64) -> Reply {
    let is_asked = asked.method == "GET" && asked.header("metadata") == Some("true") && asked.value("api-version").is_some();
    if is_asked && asked.value("resource").as_deref() == Some("https%3A%2F%2Fstorage.azure.com") {
        return Reply::ok(format!(
            r#"{{"access_token": "{token}", "expires_on": "{until}", "resource": "https://storage.azure.com", "token_type": "Bearer"}}"#
        ));
    }
    Reply::Document(400, r#"{"error": "invalid_request", "error_description": "Identity not found"}"#.into())
}

fn azure() -> Outside {
    Outside::start(|asked| match asked.host.as_str() {
        host if host == blobs() => container(asked, TOKEN),
        MACHINE => machine(asked, TOKEN, 4_102_444_800),
        // That of App Service, and a token service of one's own.
        _ if asked.path() == "/msi/token" && asked.header("x-identity-header") == Some(VISITOR) => machine(asked, TOKEN, 4_102_444_800),
        _ => token_service(asked),
    })
}

fn given(outside: &Outside) -> Given {
    Given::nothing(outside).secret(&[TOKEN, WORKLOAD, CLIENT_SECRET, VISITOR])
}

/// Fails unless the token was asked of this one, and the container with it.
#[track_caller]
fn arrived(outside: &Outside, host: &str) {
    let asked = outside.asked();
    assert!(asked.iter().all(|asked| asked.host == host || asked.host == blobs()), "{asked:?}");
    assert!(!outside.asked_of(host).is_empty() && !outside.asked_of(&blobs()).is_empty(), "{asked:?}");
}

#[test]
fn a_workload_becomes_an_identity() {
    let own = [("AZURE_FEDERATED_TOKEN_FILE", "{dir}/identity"), ("AZURE_TENANT_ID", TENANT), ("AZURE_CLIENT_ID", CLIENT)];
    let outside = azure();
    given(&outside).file("identity", WORKLOAD).with(&own).opens(&address());
    arrived(&outside, TOKENS);

    // A token service that is named: as Kubernetes' webhook writes it, with a slash at its end, and without a scheme.
    for written in ["https://{here}/", "{here}"] {
        let outside = azure();
        let here = format!("localhost:{}", outside.port);
        let host = written.replace("{here}", &here);
        given(&outside).file("identity", WORKLOAD).with(&own).with(&[("AZURE_AUTHORITY_HOST", &host)]).opens(&address());
        arrived(&outside, &here);
    }
}

#[test]
fn a_service_principal_has_a_secret() {
    let outside = azure();
    let own = [("AZURE_CLIENT_SECRET", CLIENT_SECRET), ("AZURE_TENANT_ID", TENANT), ("AZURE_CLIENT_ID", CLIENT)];
    given(&outside).with(&own).opens(&address());
    arrived(&outside, TOKENS);
}

#[test]
fn a_machine_is_what_it_was_made() {
    let outside = azure();
    given(&outside).opens(&address());
    arrived(&outside, MACHINE);
    assert!(outside.asked_of(MACHINE).iter().all(|asked| asked.path() == "/metadata/identity/oauth2/token"));

    // Of several identities one is chosen.
    let outside = azure();
    given(&outside).with(&[("AZURE_CLIENT_ID", CLIENT)]).opens(&address());
    arrived(&outside, MACHINE);
    assert!(outside.asked_of(MACHINE).iter().all(|asked| asked.value("client_id").as_deref() == Some(CLIENT)));

    // Beside a program, behind a word that others do not know.
    let outside = azure();
    let here = format!("127.0.0.1:{}", outside.port);
    given(&outside).with(&[("IDENTITY_ENDPOINT", &format!("http://{here}/msi/token")), ("IDENTITY_HEADER", VISITOR)]).opens(&address());
    arrived(&outside, &here);
}

/// The account's signature of a text, by another program than ours.
fn signature(text: &str) -> String {
    const SIGN: &str = "import base64, hashlib, hmac, sys
key, text = base64.b64decode(sys.argv[1]), sys.argv[2].encode()
print(base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode())";
    let output = Command::new("python3").args(["-c", SIGN, ACCOUNT_KEY, text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A signature that opens the account's blobs for a while, as Azure's portal hands it out: with a question mark, or without.
/// See <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>.
#[test]
fn a_shared_access_signature_opens_the_container() {
    let Some(server) = azurite::start() else { return };
    let (version, may, until) = ("2019-12-12", "rwdlac", "2099-01-01T00:00:00Z");
    let signature = signature(&format!("{ACCOUNT}\n{may}\nb\nsco\n\n{until}\n\nhttp,https\n{version}\n"));
    let escaped = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let token = format!("sv={version}&ss=b&srt=sco&sp={may}&se=2099-01-01T00%3A00%3A00Z&spr=http%2Chttps&sig={escaped}");
    let outside = azure();
    let url = server.bare_url_at(&server.endpoint(), "prefix");
    for token in [token.clone(), format!("?{token}")] {
        let given = given(&outside).secret(&[&signature, &escaped]).with(&[("AZURE_STORAGE_SAS_TOKEN", &token)]);
        given.opens(&url);
        // A word too much.
        let given = given.with(&[("AZURE_STORAGE_SAS_TOKEN", &token.replace("sp=rwdlac", "sp=rwdlacx"))]);
        given.run(&["list", "--store", &url]).refused(1, &["  remedy: "]);
    }
    assert!(outside.asked().is_empty(), "{:?}", outside.asked());
}

/// The account and its key in the words of Azure's own tools, which are not those of its libraries.
#[test]
fn the_words_of_azures_tools_are_known() {
    let Some(server) = azurite::start() else { return };
    let scratch = Scratch::new();
    let url = server.bare_url_at(&server.endpoint(), "prefix").replace(&format!("account={ACCOUNT}&"), "");
    assert!(!url.contains("account="), "{url}");
    let run = scratch.run(&["list", "--store", &url], &[("AZURE_STORAGE_ACCOUNT", ACCOUNT), ("AZURE_STORAGE_KEY", ACCOUNT_KEY)]).done();
    assert!(!format!("{run:?}").contains(ACCOUNT_KEY), "{run:?}");
    scratch.run(&["list", "--store", &url], &[("AZURE_STORAGE_KEY", ACCOUNT_KEY)]).refused(2, &["no account is named", "  remedy: "]);
}
