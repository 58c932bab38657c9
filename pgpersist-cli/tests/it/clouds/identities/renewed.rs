//! What is given holds for a while only: before or when it ends, it is asked for again, and the run goes on.

use pgpersist_core::clock::{Clock, SystemClock};
use time::Duration;
use time::format_description::well_known::Rfc3339;

use crate::clouds::identities::{Given, aws, aws_containers, azure, google};
use crate::support::outside::{Outside, Reply};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::{ACCESS_KEY, SECRET_KEY, gcs, moto};

const FIRST: &str = "canary-first-token-0000000017";
const SECOND: &str = "canary-second-token-0000000018";
/// How long the first one is said to hold. It is renewed some minutes before its end, so from its beginning.
const SECONDS: u32 = 60;
/// So many requests with the first one are let in.
const LET_IN: usize = 5;

/// Counts how often something was given, and chooses what is given now.
#[derive(Default)]
struct Times(usize);

impl Times {
    fn is_first(&mut self, is_given: bool) -> bool {
        self.0 += usize::from(is_given);
        self.0 <= 1
    }
}

/// A check asks a store for much, and all of it has to go well.
#[track_caller]
fn check(given: &Given, url: &str) {
    let checked = given.run(&["store", "check", "--no-throughput", "--json", "--store", url]);
    assert!(matches!(checked.code, Some(0 | 3)) && checked.json()["fitness"] != "unfit", "{checked:?}");
}

#[test]
fn amazons_keys_are_asked_for_again() {
    let Some(server) = moto::start() else { return };
    for is_container in [false, true] {
        let soon = (SystemClock.now() + Duration::seconds(SECONDS.into())).format(&Rfc3339).unwrap();
        let mut times = Times::default();
        let outside = Outside::start(move |asked| {
            let is_given = asked.path() == "/role" || asked.path().ends_with("/backups");
            let keys = if times.is_first(is_given) { aws::keys(FIRST, &soon) } else { aws::keys(SECOND, aws::NEVER) };
            if asked.path() == "/role" { Reply::ok(keys) } else { aws::machine(asked, &keys) }
        });
        let mut given = Given::nothing(&outside).secret(&[ACCESS_KEY, SECRET_KEY, FIRST, SECOND]);
        if is_container {
            given = given.with(&[(aws_containers::ADDRESS, &format!("http://127.0.0.1:{}/role", outside.port))]);
        }
        let (url, proxy) = aws::behind(&server);
        let carries = |request: &Request, token| request.header("x-amz-security-token") == Some(token);
        let expired = Fault::Refuse { status: 400, code: "ExpiredToken" };
        proxy.rule(vec![Rule::new(move |request| carries(request, FIRST), Choice::After(LET_IN), expired)]);
        check(&given, &url);
        let seen = proxy.seen();
        for token in [FIRST, SECOND] {
            assert!(seen.iter().any(|seen| seen.fault.is_none() && carries(&seen.request, token)), "{token} opened nothing");
        }
        let last = seen.last().unwrap();
        assert!(carries(&last.request, SECOND), "{} {}", last.request.method, last.request.target);
    }
}

#[test]
fn googles_token_is_asked_for_again() {
    let Some(server) = gcs::start() else { return };
    let port = server.port();
    let (mut times, mut let_in) = (Times::default(), 0);
    let outside = Outside::start(move |asked| {
        if asked.host != google::STORAGE {
            let (token, seconds) = if times.is_first(asked.path().ends_with("/token")) { (FIRST, SECONDS) } else { (SECOND, 3599) };
            return google::machine(asked, token, seconds);
        }
        let carries = |token: &str| asked.header("authorization") == Some(&format!("Bearer {token}"));
        let_in += usize::from(carries(FIRST));
        if carries(SECOND) || carries(FIRST) && let_in <= LET_IN {
            return Reply::From { port, target: asked.target.clone() };
        }
        Reply::Document(401, "<Error><Code>AuthenticationRequired</Code><Message>Authentication required.</Message></Error>".into())
    });
    let given = Given::nothing(&outside).secret(&[FIRST, SECOND]);
    check(&given, &google::address());
    let asked = outside.asked_of(google::STORAGE);
    for token in [FIRST, SECOND] {
        assert!(asked.iter().any(|asked| asked.header("authorization") == Some(&format!("Bearer {token}"))), "{token} was not brought");
    }
}

/// One that is refused from the beginning, as when a machine has slept: the next one opens the container.
#[test]
fn azures_token_is_asked_for_again() {
    let mut times = Times::default();
    let outside = Outside::start(move |asked| {
        if asked.host != azure::MACHINE {
            return azure::container(asked, SECOND);
        }
        let now = SystemClock.now().unix_timestamp();
        if times.is_first(true) {
            azure::machine(asked, FIRST, now + i64::from(SECONDS))
        } else {
            azure::machine(asked, SECOND, now + 3600)
        }
    });
    let given = Given::nothing(&outside).secret(&[FIRST, SECOND]);
    given.run(&["list", "--store", &azure::address()]).done();
    let asked = outside.asked();
    for token in [FIRST, SECOND] {
        assert!(asked.iter().any(|asked| asked.header("authorization") == Some(&format!("Bearer {token}"))), "{token} was not brought");
    }
}
