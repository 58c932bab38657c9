//! The probes of the manifests at their periods, as the kubelet makes them: through a recovery that takes long, an outage and a
//! stop. Nothing that recovers is ever killed for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use yaml_rust2::Yaml;

use crate::manifests::{DEPLOYMENT, STATEFULSET, document, named, word};
use crate::run::http::listening;
use crate::run::recovery::{held, let_go};
use crate::run::{Agent, eventually, kill};
use crate::support::http::status;
use crate::support::proof::proven;

/// How long the recovery is held, in seconds, with the kubelet's periods as they are. Without it, all times are a tenth.
const HELD: &str = "PGPERSIST_TEST_HELD_S";

/// One probe of a container; see *Configure Liveness, Readiness and Startup Probes* in the documentation of Kubernetes.
#[derive(Debug, Clone)]
struct Probe {
    path: String,
    period: Duration,
    timeout: Duration,
    failure_threshold: u32,
}

impl Probe {
    fn of(container: &Yaml, kind: &str, pace: u32) -> Self {
        let probe = &container[kind];
        let seconds = |key: &str| Duration::from_secs(probe[key].as_i64().unwrap().try_into().unwrap());
        Self {
            path: word(&probe["httpGet"]["path"]).to_owned(),
            period: seconds("periodSeconds") / pace,
            timeout: seconds("timeoutSeconds"),
            failure_threshold: probe["failureThreshold"].as_i64().unwrap().try_into().unwrap(),
        }
    }

    /// Whether it succeeds: an answer in time with a status from 200 to 399.
    fn succeeds(&self, port: u16) -> bool {
        let began = Instant::now();
        let answered = status(port, &self.path);
        answered.is_some_and(|status| (200..400).contains(&status)) && began.elapsed() <= self.timeout
    }
}

/// What the kubelet thinks of the container.
#[derive(Debug, Default, Clone, PartialEq)]
struct Seen {
    startup_failures: u32,
    has_started: bool,
    is_ready: bool,
    times_unready: u32,
    /// Why it would have killed the container, each time.
    kills: Vec<String>,
}

/// Probes a container as long as it lives.
struct Kubelet {
    seen: Arc<Mutex<Seen>>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Kubelet {
    fn watch(container: &Yaml, port: u16, pace: u32) -> Self {
        let (seen, ends) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let probe = |kind| Probe::of(container, kind, pace);
        let (startup, readiness, liveness) = (probe("startupProbe"), probe("readinessProbe"), probe("livenessProbe"));
        let goes_on = |ends: &Arc<AtomicBool>| {
            let ends = ends.clone();
            move |pause| {
                std::thread::sleep(pause);
                !ends.load(Ordering::SeqCst)
            }
        };
        let mut threads = Vec::new();
        let (told, more) = (seen.clone(), goes_on(&ends));
        threads.push(std::thread::spawn(move || {
            while more(startup.period) {
                let succeeds = startup.succeeds(port);
                let mut seen = told.lock().unwrap();
                if succeeds {
                    seen.has_started = true;
                    return;
                }
                seen.startup_failures += 1;
                if seen.startup_failures == startup.failure_threshold {
                    seen.kills.push("it did not start in time".to_owned());
                }
            }
        }));
        // Both wait until the container has started.
        for (probe, is_liveness) in [(readiness, false), (liveness, true)] {
            let (told, more) = (seen.clone(), goes_on(&ends));
            threads.push(std::thread::spawn(move || {
                let mut failures = 0;
                while more(probe.period) {
                    if !told.lock().unwrap().has_started {
                        continue;
                    }
                    failures = if probe.succeeds(port) { 0 } else { failures + 1 };
                    let mut seen = told.lock().unwrap();
                    if is_liveness && failures == probe.failure_threshold {
                        seen.kills.push("it does not live".to_owned());
                    }
                    if !is_liveness && (failures == 0 || failures == probe.failure_threshold) {
                        seen.times_unready += u32::from(seen.is_ready && failures > 0);
                        seen.is_ready = failures == 0;
                    }
                }
            }));
        }
        Self { seen, ends, threads }
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    fn done(mut self) -> Seen {
        self.ends.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        self.seen()
    }
}

#[test]
fn at_their_periods_they_never_kill_what_recovers() {
    let began = Instant::now();
    let held_s: Option<u32> = std::env::var(HELD).ok().map(|seconds| seconds.parse().expect(HELD));
    let (held_for, pace) = held_s.map_or((Duration::from_secs(4), 10), |seconds| (Duration::from_secs(seconds.into()), 1));
    let manifest = document(STATEFULSET);
    let container = named(&manifest["spec"]["template"]["spec"]["containers"], "name", "postgres");
    for kind in ["startupProbe", "readinessProbe", "livenessProbe"] {
        // The other manifest has the same.
        let other = document(DEPLOYMENT);
        assert_eq!(container[kind], named(&other["spec"]["template"]["spec"]["containers"], "name", "postgres")[kind]);
    }

    let cluster = held();
    let (section, port) = listening();
    cluster.configure(&section);
    let mut agent = Agent::start(&cluster, &[]);
    let kubelet = Kubelet::watch(container, port, pace);
    agent.wait_for("the server recovers", 1);
    let postmaster = cluster.postmaster().unwrap();
    std::thread::sleep(held_for);
    let seen = kubelet.seen();
    assert!(!seen.has_started && !seen.is_ready && seen.kills.is_empty() && seen.startup_failures >= 3, "{seen:?}");
    let_go(&cluster);
    agent.wait_until_ready();
    eventually("it has started and is ready", || kubelet.seen().has_started && kubelet.seen().is_ready);
    assert_eq!(cluster.postmaster(), Some(postmaster));

    // An outage: the server answers nobody, and nobody is killed for it.
    kill(postmaster, Signal::STOP);
    eventually("it gets no traffic", || !kubelet.seen().is_ready);
    kill(postmaster, Signal::CONT);
    eventually("it gets traffic again", || kubelet.seen().is_ready);
    assert_eq!(cluster.postmaster(), Some(postmaster));

    // Another one: the server is started again by its agent.
    kill(postmaster, Signal::KILL);
    eventually("there is another one", || cluster.postmaster().is_some_and(|pid| pid != postmaster));
    agent.wait_for(" is ready after ", 2);
    eventually("it is ready", || kubelet.seen().is_ready && status(port, "/readyz") == Some(200));

    // A stop that takes a while.
    cluster.sql("postgres", "CREATE TABLE u AS SELECT 1 AS a");
    let checkpointer = cluster.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'").parse().unwrap();
    kill(checkpointer, Signal::STOP);
    agent.signal(Signal::TERM);
    eventually("it gets no traffic", || !kubelet.seen().is_ready);
    let seen = kubelet.done();
    kill(checkpointer, Signal::CONT);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert!(seen.kills.is_empty() && (2..=3).contains(&seen.times_unready), "{seen:?}");
    proven("probes of a kubelet: recovery held, outages, stop", held_for.as_secs(), None, began);
}
