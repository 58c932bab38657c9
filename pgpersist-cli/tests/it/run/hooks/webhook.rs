//! A webhook is posted to, over HTTP and over TLS, and may be away, wrong or silent.

use rustix::process::Signal;

use crate::run::hooks::{ready, secret};
use crate::run::{eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::http::{free_port, get};
use crate::support::receiver::{AUTHORITY, Receiver};

fn hook(url: &str, more: &str) -> String {
    format!("[hooks]\nwebhook = \"{url}\"\ninterval = \"1s\"\n{more}")
}

#[test]
fn events_are_posted_as_documents_and_tried_again_when_the_other_side_fails() {
    let (receiver, http) = (Receiver::start(), free_port());
    receiver.answer(&[500, 503, 429]);
    let more = "webhook_file = \"volume/url\"\nwebhook_token_file = \"volume/token\"\ninterval = \"1s\"\n";
    let cluster = TestCluster::stopped(&format!("[health]\nlisten = \"127.0.0.1:{http}\"\n[hooks]\n{more}"));
    secret(&cluster, "url", &format!("http://127.0.0.1:{}/services/canary?key=canary\n", receiver.port));
    secret(&cluster, "token", "hunter2\n");
    let mut agent = ready(&cluster);
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    agent.wait_for("hook webhook: told the failure of server", 1);
    let requests = receiver.requests();
    // The same four times, until it was taken.
    assert!(requests.len() >= 4 && requests[1..4].iter().all(|request| request.body == requests[0].body), "{requests:?}");
    let first = &requests[0];
    assert!(first.head.starts_with("POST /services/canary?key=canary HTTP/1.1\r\n"), "{first:?}");
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("authorization"), Some("Bearer hunter2"));
    assert_eq!(first.header("host"), Some(format!("127.0.0.1:{}", receiver.port).as_str()));
    assert_eq!(first.header("user-agent"), Some(concat!("pgpersist/", env!("CARGO_PKG_VERSION"))));
    let document = first.json();
    assert_eq!((&document["event"], &document["status"], &document["cluster"]), (&"failure".into(), &"fail".into(), &"main".into()));
    assert!(document["findings"][0]["summary"].as_str().unwrap().contains("was killed: signal: 9"), "{document}");
    agent.wait_for("hook webhook: told the recovery of server", 1);
    let page = get(http, "/metrics").body;
    assert!(page.contains("pgpersist_hook_runs_total{hook=\"webhook\",outcome=\"success\"} 2\n"), "{page}");
    agent.stopped();
    assert!(!agent.said().contains("canary") && !agent.said().contains("hunter2"), "{}", agent.said());
    assert_eq!(receiver.events_of("agent").len(), 0);
}

#[test]
fn who_never_answers_or_is_away_or_leads_elsewhere_is_told_without_his_address_and_holds_up_nobody() {
    let receiver = Receiver::start();
    receiver.be_silent();
    let cluster = TestCluster::stopped(&hook(&format!("http://127.0.0.1:{}/canary", receiver.port), "deadline = \"2s\"\n"));
    let mut agent = ready(&cluster);
    let mut times = 1;
    let mut end_server = |agent: &mut crate::run::Agent| {
        kill(cluster.postmaster().unwrap(), Signal::KILL);
        times += 1;
        agent.wait_for(" is ready after ", times);
    };
    end_server(&mut agent);
    agent.wait_for("hook webhook: could not tell the failure of server: it did not end within 2", 1);

    // Nobody is there.
    let mut reloads = 0;
    let mut reload = |agent: &mut crate::run::Agent, section: String| {
        cluster.configure(&section);
        agent.signal(Signal::HUP);
        reloads += 1;
        agent.wait_for("the configuration was reloaded", reloads);
    };
    let port = free_port();
    reload(&mut agent, hook(&format!("http://127.0.0.1:{port}/canary"), ""));
    end_server(&mut agent);
    agent.wait_for(&format!("http://127.0.0.1:{port}: could not connect: Connection refused"), 1);

    // It is somewhere else, where nobody follows: there it would be told with its token.
    let receiver = Receiver::start();
    receiver.answer(&[302; 8]);
    reload(&mut agent, hook(&format!("http://127.0.0.1:{}/canary", receiver.port), ""));
    end_server(&mut agent);
    agent.wait_for(&format!("http://127.0.0.1:{} answered 302 Found", receiver.port), 1);
    assert_eq!(receiver.requests().len(), 1);
    assert!(!agent.said().contains("canary"), "{}", agent.said());

    // One that is silent at the moment of the stop.
    receiver.be_silent();
    reload(&mut agent, hook(&format!("http://127.0.0.1:{}/canary", receiver.port), "deadline = \"30m\"\n"));
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    eventually("it is posted to", || receiver.requests().len() > 1);
    agent.stopped();
}

#[test]
fn over_https_only_who_is_trusted_is_told() {
    let receiver = Receiver::encrypted();
    let url = format!("https://localhost:{}/canary", receiver.port);
    let cluster = TestCluster::stopped(&hook(&url, "ca_file = \"ca.pem\"\n"));
    cluster.scratch.write("ca.pem", AUTHORITY);
    let mut agent = ready(&cluster);
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    agent.wait_for("hook webhook: told the failure of server", 1);
    agent.wait_for("hook webhook: told the recovery of server", 1);
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(receiver.requests()[0].header("host"), Some(format!("localhost:{}", receiver.port).as_str()));

    // Another name than that of its certificate.
    cluster.configure(&hook(&url.replace("localhost", "127.0.0.1"), "ca_file = \"ca.pem\"\n"));
    agent.signal(Signal::HUP);
    agent.wait_for("the configuration was reloaded", 1);
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    agent.wait_for(&format!("https://127.0.0.1:{}: it is not trusted: ", receiver.port), 1);
    agent.wait_for(" is ready after ", 3);

    // Nobody of this machine's authorities knows it; and where there are none, that is told.
    cluster.configure(&hook(&url, ""));
    agent.signal(Signal::HUP);
    agent.wait_for("the configuration was reloaded", 2);
    kill(cluster.postmaster().unwrap(), Signal::KILL);
    eventually("it is refused", || {
        let said = agent.said();
        said.contains(&format!("https://localhost:{}: it is not trusted: ", receiver.port))
            || said.contains("this machine trusts no authority")
    });
    assert_eq!(receiver.requests().len(), 2);
    // A file that is none changes nothing.
    cluster.scratch.write("ca.pem", "nothing");
    cluster.configure(&hook(&url, "ca_file = \"ca.pem\"\n"));
    agent.signal(Signal::HUP);
    agent.wait_for("it holds no certificate; the old configuration stays", 1);
    agent.wait_for(" is ready after ", 4);
    agent.stopped();
    assert!(!agent.said().contains("canary"), "{}", agent.said());
}
