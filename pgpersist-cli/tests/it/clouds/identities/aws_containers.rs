//! Amazon's containers: what ECS, EKS Pod Identity and programs such as `aws-vault` give out.
//! See <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>.

use crate::clouds::identities::aws::{NEVER, SESSION, arrived, behind, given, keys};
use crate::support::outside::{Outside, Reply};
use crate::support::stores::s3s;

/// What opens the door, in those that have one.
const TOKEN: &str = "canary-container-token-0000000008";
/// What names one.
pub(super) const ADDRESS: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/// One that gives keys at this path to whoever brings this, and remembers who asked.
fn container(path: &'static str, authorization: Option<&'static str>) -> Outside {
    Outside::start(move |asked| match asked.header("authorization") {
        brought if brought != authorization => Reply::Document(401, r#"{"code": "Unauthorized"}"#.into()),
        _ if asked.method == "GET" && asked.target == path => Reply::ok(keys(SESSION, NEVER)),
        _ => Reply::nothing(),
    })
}

#[test]
fn ecs_gives_the_role_of_the_task() {
    let Some(server) = s3s::start() else { return };
    let task = "/v2/credentials/canary-task-0000000009";
    let outside = container(task, None);
    let (url, proxy) = behind(&server);
    given(&outside).secret(&[task]).with(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", task)]).opens(&url);
    arrived(&proxy, SESSION);
    assert!(outside.asked().iter().all(|asked| asked.host == "169.254.170.2"), "{:?}", outside.asked());
}

#[test]
fn eks_gives_the_role_of_the_pod() {
    let Some(server) = s3s::start() else { return };
    let outside = container("/v1/credentials", Some(TOKEN));
    let (url, proxy) = behind(&server);
    let own = [(ADDRESS, "http://169.254.170.23/v1/credentials"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{dir}/token")];
    // As Kubernetes writes it, and as an editor does.
    for text in [TOKEN.to_owned(), format!("{TOKEN}\n")] {
        given(&outside).secret(&[TOKEN]).file("token", &text).with(&own).opens(&url);
    }
    arrived(&proxy, SESSION);
    assert!(outside.asked().iter().all(|asked| asked.host == "169.254.170.23"), "{:?}", outside.asked());
}

/// What runs beside: with a token in the environment, or with none.
#[test]
fn a_program_of_this_machine_gives_keys() {
    let Some(server) = s3s::start() else { return };
    for token in [Some(TOKEN), None] {
        let outside = container("/role/backups", token);
        let (url, proxy) = behind(&server);
        let address = format!("http://127.0.0.1:{}/role/backups", outside.port);
        let mut program = given(&outside).secret(&[TOKEN]).with(&[(ADDRESS, &address)]);
        program = program.with(&token.map(|token| ("AWS_CONTAINER_AUTHORIZATION_TOKEN", token)).into_iter().collect::<Vec<_>>());
        program.opens(&url);
        arrived(&proxy, SESSION);
        assert!(!outside.asked().is_empty());
    }
}

/// Whoever could listen on the way to it would have the keys.
#[test]
fn keys_come_from_nowhere_else_without_tls() {
    let Some(server) = s3s::start() else { return };
    let outside = container("/role", Some(TOKEN));
    let (url, proxy) = behind(&server);
    let own = [(ADDRESS, "http://keys.example.com/role"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN)];
    let run = given(&outside).secret(&[TOKEN]).with(&own).run(&["list", "--store", &url]);
    run.refused(2, &[ADDRESS, "  remedy: "]);
    assert!(outside.asked().is_empty() && proxy.seen().is_empty());
}

/// The file of a token that is gone is told by its name.
#[test]
fn a_token_that_is_gone_is_told() {
    let Some(server) = s3s::start() else { return };
    let outside = container("/v1/credentials", Some(TOKEN));
    let (url, proxy) = behind(&server);
    let own = [(ADDRESS, "http://169.254.170.23/v1/credentials"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{dir}/no-token")];
    given(&outside).with(&own).run(&["list", "--store", &url]).refused(6, &["/no-token", "  remedy: "]);
    assert!(outside.asked().is_empty() && proxy.seen().is_empty());
}
