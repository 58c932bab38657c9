//! Who is given no credentials is told so, soon, and with a way out: by a machine that has none, by a service that refuses, by one that says
//! nothing or nonsense.

use std::time::{Duration, Instant};

use crate::clouds::identities::{Given, aws, aws_containers, azure, google};
use crate::support::outside::{Outside, Reply};
use crate::support::scratch::Run;
use crate::support::stores::{BUCKET, SECRET_KEY};

/// Much longer than any of it may take, and shorter than for ever.
const SOON: Duration = Duration::from_secs(120);

/// A store of each cloud, its word for what nobody has set, and where it asks.
fn clouds() -> [(String, &'static str); 3] {
    let s3 = format!("s3://{BUCKET}/prefix?region={}&ca_file={{dir}}/ca.pem", aws::REGION);
    [(s3, "AWS_ACCESS_KEY_ID"), (google::address(), "GOOGLE_APPLICATION_CREDENTIALS"), (azure::address(), "AZURE_STORAGE_ACCOUNT_KEY")]
}

/// Runs `list` with a deadline for each request.
#[track_caller]
fn list(given: &Given, url: &str) -> Run {
    let begun = Instant::now();
    let run = given.run(&["list", "--store", &format!("{url}&deadline=4s")]);
    assert!(begun.elapsed() < SOON, "{url} took {:?}: {run:?}", begun.elapsed());
    run
}

#[test]
fn a_machine_that_has_none_says_so() {
    for (status, document) in [(404, ""), (403, "<html>forbidden</html>"), (400, r#"{"error": "invalid_request"}"#)] {
        for (url, variable) in clouds() {
            let outside = Outside::start(move |_| Reply::Document(status, document.to_owned()));
            let run = list(&Given::nothing(&outside), &url);
            run.refused(1, &["none of its own", &status.to_string(), variable, "  remedy: "]);
            assert!(!outside.asked().is_empty(), "{url}");
        }
    }
}

#[test]
fn a_machine_that_is_silent_is_not_waited_for() {
    for (url, variable) in clouds() {
        let outside = Outside::start(|_| Reply::Silence);
        list(&Given::nothing(&outside), &url).refused(1, &["none of its own", variable, "  remedy: "]);
        assert!(!outside.asked().is_empty(), "{url}");
    }
}

/// Identities of which a service knows nothing. What it says is told, and what it was shown is not.
#[test]
fn a_service_that_refuses_is_quoted() {
    let [s3, google, azure] = clouds().map(|(url, _)| url);
    let sts = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not this role</Message></Error></ErrorResponse>";
    let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/identity"), ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backups")];
    let somebody = r#"{"type": "authorized_user", "client_id": "c", "client_secret": "canary-20", "refresh_token": "canary-21"}"#;
    let own = [("GOOGLE_APPLICATION_CREDENTIALS", "{dir}/identity")];
    let workload = [("AZURE_FEDERATED_TOKEN_FILE", "{dir}/identity"), ("AZURE_TENANT_ID", "tenant"), ("AZURE_CLIENT_ID", "client")];
    let gone = r#"{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}"#;
    let unknown = r#"{"error": "unauthorized_client", "error_description": "AADSTS700016: not known here"}"#;
    for (url, environment, identity, status, document, told) in [
        (&s3, &web[..], "canary-22", 403, sts, ["AccessDenied: not this role", "AWS_ACCESS_KEY_ID"]),
        (&google, &own[..], somebody, 400, gone, ["expired or revoked", "bring new ones"]),
        (&azure, &workload[..], "canary-23", 400, unknown, ["AADSTS700016", "AZURE_STORAGE_ACCOUNT_KEY"]),
    ] {
        let outside = Outside::start(move |_| Reply::Document(status, document.to_owned()));
        let given = Given::nothing(&outside).secret(&["canary-2"]).file("identity", identity).with(environment);
        list(&given, url).refused(1, &["the service that gives them", told[0], told[1], "  remedy: "]);
        assert!(!outside.asked().is_empty(), "{url}");
    }
}

/// What somebody says to a question, given some nonsense to say.
type Answers = fn(String) -> Reply;

/// What is named and does not answer may do so later; what answers and has nothing for us may not.
#[test]
fn a_source_that_is_named_has_to_be_there() {
    let (url, _) = &clouds()[0];
    let named = |outside: &Outside| format!("http://127.0.0.1:{}/role", outside.port);
    let nonsense = format!(r#"{{"AccessKeyId": 5, "SecretAccessKey": "{SECRET_KEY}"}}"#);
    let answers: [(Answers, i32, &str); 5] = [
        (|_| Reply::nothing(), 1, "404"),
        (|_| Reply::Document(403, String::new()), 1, "403"),
        (|_| Reply::Silence, 6, "no answer within"),
        (|_| Reply::Document(500, String::new()), 6, "no credentials came"),
        (Reply::ok, 6, "its answer holds none"),
    ];
    for (answer, code, told) in answers {
        let nonsense = nonsense.clone();
        let outside = Outside::start(move |_| answer(nonsense.clone()));
        let given = Given::nothing(&outside).secret(&[SECRET_KEY]).with(&[(aws_containers::ADDRESS, &named(&outside))]);
        list(&given, url).refused(code, &["the service that gives them", told, "  remedy: "]);
        assert!(!outside.asked().is_empty(), "{told}");
    }
    // Nobody listens there.
    let outside = Outside::start(|_| Reply::nothing());
    let given = Given::nothing(&outside).with(&[(aws_containers::ADDRESS, "http://127.0.0.1:1/role")]);
    list(&given, url).refused(6, &["the service that gives them", "  remedy: "]);
}
