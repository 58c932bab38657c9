//! Who is shown more than one word.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::run::Agent;
use crate::run::http::section;
use crate::support::cluster::{CONFIGURATION, TestCluster};
use crate::support::http::{Answer, ask, free_port, get};

const TOKEN: &str = "canary-0123456789";

fn write_token(cluster: &TestCluster, text: &str, mode: u32) {
    // One that is closed to its owner is replaced, not written.
    let _ = std::fs::remove_file(cluster.scratch.join("volume/token"));
    let path = cluster.scratch.write("volume/token", text);
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn with(port: u16, path: &str, token: &str) -> Answer {
    ask(port, "GET", path, &format!("Authorization: Bearer {token}\r\n"))
}

#[test]
fn with_a_token_only_its_owner_sees_details() {
    let port = free_port();
    let cluster = TestCluster::stopped(&section(port, "token_file = \"volume/token\"\n"));
    write_token(&cluster, &format!("{TOKEN}\n"), 0o440);
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    for path in ["/health", "/metrics"] {
        let missing = get(port, path);
        assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer realm=\"pgpersist\"")), "{missing:?}");
        for wrong in ["x", &TOKEN[1..], &format!("{TOKEN}x")] {
            let refused = with(port, path, wrong);
            let challenge = refused.header("www-authenticate").unwrap();
            assert_eq!(refused.status, 401, "{refused:?}");
            assert!(challenge.starts_with("Bearer ") && challenge.contains("invalid_token"), "{refused:?}");
        }
        assert_ne!(with(port, path, TOKEN).status, 401);
    }
    for (path, word) in [("/livez", "alive\n"), ("/startupz", "started\n"), ("/readyz", "ready\n")] {
        for bare in [get(port, path), with(port, path, "x")] {
            assert_eq!((bare.status, bare.body.as_str(), bare.header("content-type")), (200, word, Some("text/plain; charset=utf-8")));
        }
        assert_eq!(with(port, path, TOKEN).json()["phase"], "ready");
    }
    let all = ["/livez", "/startupz", "/readyz", "/health", "/metrics"].map(|path| format!("{:?}", with(port, path, TOKEN))).concat();
    agent.stopped();
    assert!(!all.contains("canary") && !agent.said().contains("canary"), "{all}\n{}", agent.said());
}

#[test]
fn beyond_the_loopback_nothing_is_shown_without_a_token() {
    let port = free_port();
    let cluster = TestCluster::stopped(&section(port, "").replace("127.0.0.1", "0.0.0.0"));
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("/health and /metrics are closed, and / is bare", 1);
    agent.wait_until_ready();
    assert_eq!(get(port, "/livez").body, "alive\n");
    for path in ["/health", "/metrics"] {
        assert_eq!((get(port, path).status, with(port, path, "x").status), (401, 401));
    }
    agent.stopped();
}

#[test]
fn a_page_of_another_name_sees_nothing_of_the_loopback() {
    let port = free_port();
    let cluster = TestCluster::stopped(&section(port, ""));
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    let led_here = |path: &str| crate::support::http::send(port, format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n").as_bytes());
    assert_eq!((led_here("/health").status, led_here("/livez").body.as_str()), (401, "alive\n"));
    assert_ne!(get(port, "/health").status, 401);
    agent.stopped();
}

#[test]
fn a_token_file_that_is_not_right_is_an_error_at_the_start() {
    let port = free_port();
    let cluster = TestCluster::stopped(&section(port, "token_file = \"{dir}/volume/token\"\n"));
    let refused = |code: i32, told: &str| {
        cluster.run(&["run", "--allow-ephemeral"]).refused(code, &[told, "volume/token", "  remedy: "]);
    };
    refused(4, "could not read the token");
    write_token(&cluster, "\n", 0o440);
    refused(2, "the token is empty");
    write_token(&cluster, TOKEN, 0o444);
    refused(2, "open to every user");
    write_token(&cluster, "two words", 0o400);
    refused(2, "no client could send it");
    write_token(&cluster, TOKEN, 0o000);
    refused(1, "could not read the token");
    assert!(CONFIGURATION.contains("{dir}/volume/data") && cluster.postmaster().is_none());
}
