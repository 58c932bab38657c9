//! `/`: who sees how much of it, and that it is there whatever the server does.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::run::http::{listening, section, stopped};
use crate::run::recovery::{held, let_go};
use crate::run::{Agent, eventually};
use crate::support::cluster::TestCluster;
use crate::support::exposition;
use crate::support::http::{Answer, ask, free_port, get, send, status};

const TOKEN: &str = "canary-0123456789";

#[track_caller]
fn assert_harmless(page: &Answer) {
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{page:?}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(name), Some(value), "{page:?}");
    }
    assert!(page.body.starts_with("<!DOCTYPE html>") && page.body.ends_with("</html>\n") && !page.body.contains("<script"), "{page:?}");
}

#[test]
fn it_tells_all_there_is_and_is_kept_for_a_moment() {
    let (cluster, port) = stopped();
    let mut agent = Agent::start(&cluster, &["--", "-c", "log_connections=on"]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    let page = get(port, "/");
    assert_eq!(page.status, 200);
    assert_harmless(&page);
    let pid = format!("<dt>Server process</dt><dd>{}</dd>", cluster.postmaster().unwrap());
    for told in ["PostgreSQL cluster main", "<b>ready</b> for ", &pid, "id=\"storage\"", "id=\"checks\"", "http-equiv=\"refresh\""] {
        assert!(page.body.contains(told), "no `{told}`: {}", page.body);
    }
    let head = ask(port, "HEAD", "/", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-security-policy"), page.header("content-security-policy"));
    assert_eq!(ask(port, "POST", "/", "").status, 405);
    assert_eq!(get(port, "/?x=%3Cscript%3E").status, 200);
    // However many ask, it is made once in a while.
    let sessions = |agent: &Agent| agent.said().matches("application_name=pgpersist").count();
    let before = sessions(&agent);
    let began = std::time::Instant::now();
    let asked: Vec<_> = (0..8).map(|_| std::thread::spawn(move || (0..5).map(|_| get(port, "/").status).collect::<Vec<_>>())).collect();
    for thread in asked {
        assert!(thread.join().unwrap().into_iter().all(|status| status == 200));
    }
    // One look has fewer than twenty sessions, and lasts for ten seconds.
    let looks = began.elapsed().as_secs() as usize / 10 + 1;
    let more = sessions(&agent) - before;
    assert!(more <= 20 * looks, "{more} sessions in {:?}", began.elapsed());
    let metrics = exposition::parse(&get(port, "/metrics").body);
    assert!(metrics.value("pgpersist_http_requests_total", &[("path", "/"), ("code", "200")]) >= 42.0);
    agent.stopped();
}

#[test]
fn without_the_token_it_tells_one_word_and_how_to_see_more() {
    let port = free_port();
    let cluster = TestCluster::stopped(&section(port, "token_file = \"volume/token\"\n"));
    let path = cluster.scratch.write("volume/token", TOKEN);
    std::fs::set_permissions(path, Permissions::from_mode(0o440)).unwrap();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    let bare = get(port, "/");
    assert_eq!((bare.status, bare.header("www-authenticate")), (200, None), "{bare:?}");
    let wrong = ask(port, "GET", "/", "Authorization: Bearer x\r\n");
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("www-authenticate").unwrap().contains("invalid_token"));
    // A foreign page that leads a browser here by a name of its own sees no more.
    let led_here = send(port, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    for page in [&bare, &wrong, &led_here] {
        assert_harmless(page);
        assert!(page.body.contains("ready</p>") && page.body.contains("pgpersist report"), "{page:?}");
        for secret in [cluster.data().to_str().unwrap(), "cluster main", "Storage", TOKEN] {
            assert!(!page.body.contains(secret), "`{secret}` is shown: {page:?}");
        }
    }
    let whole = ask(port, "GET", "/", &format!("Authorization: Bearer {TOKEN}\r\n"));
    assert!(whole.status == 200 && whole.body.contains("PostgreSQL cluster main") && !whole.body.contains("canary"), "{whole:?}");
    agent.stopped();
}

#[test]
fn it_is_there_while_the_server_recovers_and_while_it_is_fenced() {
    let cluster = held();
    let (section, port) = listening();
    cluster.configure(&section);
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server recovers", 1);
    eventually("it is told how far it is", || get(port, "/startupz").json()["recovery"]["replayed"].is_string());
    let page = get(port, "/");
    assert_harmless(&page);
    assert_eq!(page.status, 200);
    for told in ["<b>recovering</b> for ", "replayed up to ", "how long it will still take is not known", "the server could not be asked"] {
        assert!(page.body.contains(told), "no `{told}`: {}", page.body);
    }
    let_go(&cluster);
    eventually("it is ready", || get(port, "/readyz").status == 200);
    cluster.run(&["fence", "--reason", "<img src=x onerror=alert(1)> & more"]).done();
    eventually("the page knows", || {
        let page = get(port, "/");
        page.body.contains("<b>fenced</b> for ") && page.body.contains("&lt;img src=x onerror=alert(1)&gt; &amp; more")
    });
    let page = get(port, "/");
    assert_harmless(&page);
    assert!(!page.body.contains("<img") && page.body.contains("<code>pgpersist unfence</code>"), "{}", page.body);
    agent.stopped();
}
