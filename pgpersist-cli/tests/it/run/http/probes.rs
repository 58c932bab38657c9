//! The pages, from the start to the end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::run::http::{listening, stopped};
use crate::run::recovery::{held, let_go};
use crate::run::{Agent, eventually, kill};
use crate::support::cluster::{CONFIGURATION, TestCluster};
use crate::support::exposition;
use crate::support::http::{ask, get, status};

#[test]
fn every_page_tells_the_truth_from_the_start_to_the_end() {
    let (section, port) = listening();
    let cluster = TestCluster::planned(&section);
    let mut agent = Agent::start(&cluster, &[]);
    // It answers before there is a cluster, and says that there is none.
    eventually("it listens", || status(port, "/livez").is_some());
    let early = get(port, "/startupz");
    assert_eq!((early.status, early.json()["state"] == early.json()["phase"]), (503, true), "{early:?}");
    assert_eq!(get(port, "/livez").status, 200);
    assert_eq!(get(port, "/readyz").status, 503);
    agent.wait_until_ready();
    agent.wait_for(&format!("HTTP is answered on http://127.0.0.1:{port}"), 1);
    eventually("it is ready", || status(port, "/readyz") == Some(200));

    for (path, state) in [("/livez", "alive"), ("/startupz", "started"), ("/readyz", "ready")] {
        let answer = get(port, path);
        let document = answer.json();
        assert_eq!((answer.status, &document["state"], &document["phase"]), (200, &state.into(), &"ready".into()), "{answer:?}");
        assert_eq!(document["pid"].as_i64(), cluster.postmaster().map(i64::from));
        assert_eq!((&document["restarts"], document["reason"].is_null()), (&0.into(), true));
        for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("connection", "close")] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        let head = ask(port, "HEAD", path, "");
        assert_eq!((head.status, head.body.as_str(), head.header("content-type")), (200, "", Some("application/json")), "{head:?}");
    }
    assert_eq!(
        (get(port, "/index.html").status, get(port, "/livez/").status, get(port, "/health?verbose=1").status == 404),
        (404, 404, false)
    );

    // The same report as the command's.
    let command = cluster.run(&["health", "--json"]);
    let health = get(port, "/health");
    let names = |report: &serde_json::Value| -> Vec<String> {
        report["findings"].as_array().unwrap().iter().map(|finding| finding["name"].to_string()).collect()
    };
    assert_eq!((health.status == 200, names(&health.json())), (command.code == Some(0), names(&command.json())), "{health:?}");

    let metrics = get(port, "/metrics");
    assert_eq!((metrics.status, metrics.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let page = exposition::parse(&metrics.body);
    assert_eq!(page.value("pgpersist_agent_phase", &[("phase", "ready")]), 1.0);
    assert_eq!(page.value("pgpersist_agent_phase", &[("phase", "recovering")]), 0.0);
    assert_eq!(page.value("pgpersist_server_restarts_total", &[]), 0.0);
    assert_eq!(page.value("pgpersist_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(page.value("pgpersist_http_requests_total", &[("path", "/readyz"), ("code", "200")]) >= 2.0);
    assert!(page.value("pgpersist_server_ready_seconds", &[]) < 600.0);
    assert_eq!(page.value("pgpersist_health_status", &[("name", "server")]), 0.0);

    // A shutdown that hangs for a while: alive and started as ever, and not ready.
    cluster.sql("postgres", "CREATE TABLE t AS SELECT 1 AS a");
    let checkpointer = cluster.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'").parse().unwrap();
    kill(checkpointer, Signal::STOP);
    agent.signal(Signal::TERM);
    eventually("it is not ready any more", || status(port, "/readyz") == Some(503));
    assert_eq!(get(port, "/readyz").json()["state"], "stopping");
    assert_eq!((get(port, "/livez").status, get(port, "/startupz").status), (200, 200));
    kill(checkpointer, Signal::CONT);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert_eq!(status(port, "/livez"), None);
}

#[test]
fn a_held_recovery_has_started_nothing_and_lives() {
    let cluster = held();
    let (section, port) = listening();
    cluster.configure(&section);
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server recovers", 1);
    eventually("it is told how far it is", || get(port, "/startupz").json()["recovery"]["replayed"].is_string());
    let answer = get(port, "/startupz");
    let document = answer.json();
    assert_eq!((answer.status, &document["state"], &document["phase"]), (503, &"recovering".into(), &"recovering".into()));
    assert!(document["reason"].as_str().unwrap().starts_with("recovering since "), "{document}");
    for field in ["from", "replayed", "end", "bytes_per_s", "eta_s", "elapsed_s"] {
        assert!(document["recovery"].get(field).is_some(), "no {field}: {document}");
    }
    assert_eq!(get(port, "/livez").status, 200);
    assert_eq!((get(port, "/readyz").status, &get(port, "/readyz").json()["state"]), (503, &"recovering".into()));
    let page = exposition::parse(&get(port, "/metrics").body);
    assert_eq!(page.value("pgpersist_agent_phase", &[("phase", "recovering")]), 1.0);
    assert!(page.value("pgpersist_recovery_replayed_bytes", &[]) > 0.0);
    assert_eq!(page.find("pgpersist_server_ready_seconds", &[]), None);
    let_go(&cluster);
    eventually("it has started", || get(port, "/startupz").status == 200);
    eventually("it is ready", || get(port, "/readyz").status == 200);
    agent.stopped();
}

#[test]
fn a_server_that_hangs_or_dies_is_not_ready_and_its_agent_lives() {
    let (cluster, port) = stopped();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    let postmaster = cluster.postmaster().unwrap();
    kill(postmaster, Signal::STOP);
    std::thread::sleep(Duration::from_millis(1100));
    let asked = Instant::now();
    // However many ask, and they are answered in time.
    let answers: Vec<_> = (0..8).map(|_| std::thread::spawn(move || get(port, "/readyz"))).collect();
    for answer in answers.into_iter().map(|thread| thread.join().unwrap()) {
        assert_eq!((answer.status, &answer.json()["state"]), (503, &"unready".into()), "{answer:?}");
        assert!(answer.json()["reason"].as_str().unwrap().contains("did not answer within 2 s"), "{answer:?}");
    }
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!((get(port, "/livez").status, get(port, "/startupz").status), (200, 200));
    assert_eq!(get(port, "/health").status, 503);
    kill(postmaster, Signal::CONT);
    eventually("it is ready again", || get(port, "/readyz").status == 200);

    kill(postmaster, Signal::KILL);
    agent.wait_for(" is ready after ", 2);
    eventually("it is ready again", || get(port, "/readyz").status == 200);
    assert_eq!(get(port, "/livez").json()["restarts"], 1);
    assert_eq!(exposition::parse(&get(port, "/metrics").body).value("pgpersist_server_restarts_total", &[]), 1.0);
    agent.stopped();
}

#[test]
fn probes_do_not_hammer_the_server() {
    let (cluster, port) = stopped();
    let mut agent = Agent::start(&cluster, &["--", "-c", "log_connections=on"]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    let sessions = |agent: &Agent| agent.said().matches("connection authorized").count();
    let (before, began) = (sessions(&agent), Instant::now());
    for _ in 0..200 {
        assert_eq!(status(port, "/readyz"), Some(200));
    }
    let lasted = began.elapsed();
    std::thread::sleep(Duration::from_millis(500));
    let more = sessions(&agent) - before;
    assert!(more <= lasted.as_secs() as usize + 2, "{more} sessions in {lasted:?}");
    agent.stopped();
}

#[test]
fn a_port_that_is_taken_ends_it_before_anything_is_begun() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let cluster = TestCluster::planned(&super::section(port, ""));
    let told = format!("could not listen on 127.0.0.1:{port} for HTTP");
    cluster.run(&["run", "--allow-ephemeral"]).refused(6, &[&told, "  remedy: ", "`[health] listen`"]);
    assert!(!cluster.data().join("PG_VERSION").exists());
    drop(taken);
    // Any that is free, and the one that it became is told.
    cluster.scratch.write("pgpersist.toml", &format!("{CONFIGURATION}[health]\nlisten = \"127.0.0.1:0\"\n"));
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("HTTP is answered on http://127.0.0.1:", 1);
    let said = agent.said();
    let port = said.split("http://127.0.0.1:").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    eventually("it is ready", || get(port, "/readyz").status == 200);
    agent.stopped();
}
