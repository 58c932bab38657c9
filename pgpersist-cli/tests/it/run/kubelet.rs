//! Somebody like the kubelet starts the agent again when it has ended, and does nothing else; meanwhile the agent, its postmaster, a
//! backend or all of them are killed under load. What was acknowledged must be there, and the service must come back each time.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::run::{Agent, PATIENCE};
use crate::support::cluster::TestCluster;
use crate::support::moments::{Moments, rounds};
use crate::support::processes::{children_of, wait_until_gone};
use crate::support::proof::proven;

const WRITERS: usize = 3;
/// Within so much of the service's return comes the next kill.
const SPAN: Duration = Duration::from_millis(1500);

/// One writer: each transaction keeps a sum of nothing, and what is acknowledged is noted where a crash does not reach.
fn write(cluster: &TestCluster, writer: usize, ledger: &Mutex<fs::File>, done: &AtomicBool) {
    let mut number = 0_u64;
    while !done.load(Ordering::Relaxed) {
        number += 1;
        let transfer =
            format!("BEGIN; INSERT INTO book VALUES ({writer}, {number}, 7); INSERT INTO book VALUES ({writer}, {number}, -7); COMMIT");
        let mut psql = cluster.psql("postgres");
        let status = psql.args(["-c", &transfer]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if status.unwrap().success() {
            let mut ledger = ledger.lock().unwrap();
            writeln!(ledger, "{writer}|{number}").unwrap();
            ledger.sync_data().unwrap();
        }
    }
}

fn answers(cluster: &TestCluster) -> bool {
    let mut psql = cluster.psql("postgres");
    psql.args(["-c", "SELECT 1"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    psql.status().unwrap().success()
}

fn acknowledged(ledger: &Path) -> HashSet<String> {
    fs::read_to_string(ledger).unwrap().lines().map(str::to_owned).collect()
}

/// What a kubelet does: starts the agent when it has ended. Returns when the service answers.
#[track_caller]
fn until_back(cluster: &TestCluster, agent: &mut Agent) {
    let deadline = Instant::now() + PATIENCE;
    while !answers(cluster) {
        if agent.child.try_wait().unwrap().is_some() {
            *agent = Agent::start(cluster, &[]);
        }
        assert!(Instant::now() < deadline, "the service does not come back:\n{}", agent.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether this very agent answers, and has taken up a server that is ready.
fn holds_it(cluster: &TestCluster, agent: &Agent) -> bool {
    let status = cluster.run(&["status", "--json"]);
    // A look at a server that ends or begins may fail, and says nothing then.
    let Ok(told) = serde_json::from_str::<serde_json::Value>(&status.stdout) else { return false };
    let told = &told["agent"];
    told["pid"].as_u64() == Some(agent.child.id().into()) && told["phase"] == "ready"
}

/// Returns when the service answers and the agent has it in hand. The server outlives its agent, so it answers while the next
/// agent is still making ready, and a request to stop that comes then is none to a server.
#[track_caller]
fn until_held(cluster: &TestCluster, agent: &mut Agent) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        until_back(cluster, agent);
        if holds_it(cluster, agent) {
            return;
        }
        // The server may answer without an agent, too.
        if agent.child.try_wait().unwrap().is_some() {
            *agent = Agent::start(cluster, &[]);
        }
        assert!(Instant::now() < deadline, "the agent does not take up its server:\n{}", agent.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The server's processes, the postmaster last.
fn server(cluster: &TestCluster) -> Vec<i32> {
    let Some(postmaster) = cluster.postmaster() else { return Vec::new() };
    children_of(postmaster).into_iter().chain([postmaster]).collect()
}

/// Whether it was there: it may have ended a moment ago by itself.
fn kill_if_there(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

/// Kills one of the four, and says which.
fn strike(cluster: &TestCluster, agent: &Agent, moments: &mut Moments) -> &'static str {
    let mut family = server(cluster);
    match moments.below(4) {
        0 => {
            agent.signal(Signal::KILL);
            "agent"
        }
        1 => {
            if let Some(postmaster) = family.pop() {
                kill_if_there(postmaster);
            }
            "postmaster"
        }
        2 => {
            family.pop();
            while !family.is_empty() && !kill_if_there(family.swap_remove(moments.below(family.len()))) {}
            "backend"
        }
        _ => {
            agent.signal(Signal::KILL);
            for process in family.into_iter().rev() {
                kill_if_there(process);
            }
            "group"
        }
    }
}

/// How long it took after the kills of one kind.
fn spread(what: &str, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let seconds = |at: usize| times[at].as_secs_f64();
    format!("{what} {}: {:.2} / {:.2} / {:.2} s", times.len(), seconds(0), seconds(times.len() / 2), seconds(times.len() - 1))
}

#[test]
fn nothing_acknowledged_is_lost_however_a_supervised_server_is_killed() {
    let began = Instant::now();
    let kills = rounds(8);
    let mut moments = Moments::new("run::kubelet");
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    cluster.sql("postgres", "CREATE TABLE book (writer int, number bigint, amount int)");
    let path = cluster.scratch.join("ledger");
    let ledger = Mutex::new(OpenOptions::new().append(true).create(true).open(&path).unwrap());
    let done = AtomicBool::new(false);
    let mut back: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (cluster, ledger, done) = (&cluster, &ledger, &done);
            scope.spawn(move || write(cluster, writer, ledger, done));
        }
        let struck = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..kills {
                let known = acknowledged(&path).len();
                std::thread::sleep(moments.within(SPAN));
                let waited = Instant::now();
                while acknowledged(&path).len() == known {
                    assert!(waited.elapsed() < PATIENCE, "nothing is acknowledged any more:\n{}", agent.said());
                    std::thread::sleep(Duration::from_millis(5));
                }
                let what = strike(&cluster, &agent, &mut moments);
                let struck = Instant::now();
                // The agent's death alone is not noticed by the service; the kubelet's is to start another.
                if matches!(what, "agent" | "group") {
                    agent.ended();
                    agent = Agent::start(&cluster, &[]);
                }
                until_back(&cluster, &mut agent);
                back.entry(what).or_default().push(struck.elapsed());
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = struck {
            std::panic::resume_unwind(panic);
        }
    });
    until_held(&cluster, &mut agent);
    let whole = cluster.sql("postgres", "SELECT writer, number FROM book GROUP BY 1, 2 HAVING count(*) = 2 AND sum(amount) = 0");
    let whole: HashSet<String> = whole.lines().map(str::to_owned).collect();
    let known = acknowledged(&path);
    let lost: Vec<&String> = known.difference(&whole).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged are lost: {lost:?}", lost.len(), known.len());
    let torn = cluster
        .sql("postgres", "SELECT count(*) FROM (SELECT FROM book GROUP BY writer, number HAVING count(*) <> 2 OR sum(amount) <> 0) t");
    assert_eq!(torn, "0");
    agent.signal(Signal::TERM);
    assert!(matches!(agent.ended(), Some(0)), "{}", agent.said());
    assert_eq!(wait_until_gone(&cluster.data(), Duration::from_secs(10)), [""; 0]);
    let times: Vec<String> = back.into_iter().map(|(what, times)| spread(what, times)).collect();
    let count = format!("{kills} kills, {} acknowledged; to ready (min/median/max): {}", known.len(), times.join("; "));
    proven("agent killed under load", count, Some(moments.seed()), began);
}
