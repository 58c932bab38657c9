//! As PID 1 of a container: it reaps, it passes signals on, and it ends when its command does.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::run::{Agent, eventually, kill, state_of};
use crate::support::cluster::TestCluster;
use crate::support::container::can_isolate;
use crate::support::processes;
use crate::support::proof::proven;

/// How long after one look for zombies comes the next one.
const PAUSE: Duration = Duration::from_millis(50);
/// A zombie that is seen in so many looks in a row is one that stays; to reap a child takes a moment.
const TOLERATED: usize = 60;
/// So often is looked before something happens: one that stays from the beginning is found.
const LOOKS: usize = 80;

/// The agent as PID 1 of namespaces of its own; the process that was started is `unshare`.
fn contained(cluster: &TestCluster, arguments: &[&str]) -> Agent {
    let mut command = Command::new("unshare");
    command.args(["--fork", "--kill-child", "--pid", "--mount-proc", "--"]).arg(env!("CARGO_BIN_EXE_pgpersist"));
    cluster.scratch.prepare(&mut command);
    command.args(["run", "--allow-ephemeral"]).args(arguments);
    Agent::spawn(cluster, command)
}

/// The number, seen from here, of the namespace's first process.
fn first_process(agent: &Agent) -> i32 {
    let mut children = Vec::new();
    eventually("there is a first process", || {
        children = processes::children_of(agent.child.id() as i32);
        !children.is_empty()
    });
    children[0]
}

/// The number, seen from here, of the postmaster that the command has started.
fn postmaster_below(command: i32) -> i32 {
    let mut children = processes::children_of(command).into_iter();
    let is_server = |child: &i32| fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "postgres");
    children.find(is_server).expect("the command has a postmaster")
}

#[test]
fn it_reaps_orphans_and_ends_cleanly_on_sigterm() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    let mut agent = contained(&cluster, &[]);
    agent.wait_until_ready();
    let first = first_process(&agent);
    cluster.sql("postgres", "CREATE TABLE t AS SELECT generate_series(1, 100) AS a");
    cluster.sql_in_background("postgres", "SELECT pg_sleep(1000)");
    // The backends of a killed postmaster become orphans; the agent's own number for it is another one.
    let agents = processes::children_of(first);
    assert_eq!(agents.len(), 1, "PID 1 has one child, the command: {agents:?}");
    kill(postmaster_below(agents[0]), Signal::KILL);
    agent.wait_for(" is ready after ", 2);
    assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t"), "100");
    // One that has just ended may be seen for a moment.
    eventually("no zombie is left", || processes::zombies_below(first).is_empty());
    kill(first, Signal::TERM);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    assert_eq!(state_of(&cluster), "shut down");
}

#[test]
fn its_exit_code_is_the_commands() {
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    let mut refused = contained(&cluster, &["--", "--single"]);
    assert_eq!(refused.ended(), Some(2), "{}", refused.said());
    let mut agent = contained(&cluster, &[]);
    agent.wait_until_ready();
    let command = processes::children_of(first_process(&agent))[0];
    kill(command, Signal::KILL);
    assert_eq!(agent.ended(), Some(128 + 9), "{}", agent.said());
    // The kernel ended the server with its namespace; the next agent recovers.
    let mut next = Agent::start(&cluster, &[]);
    next.wait_for(" is ready after ", 2);
    next.stopped();
}

/// pgbench at work as fast as it can, each transaction in a session of its own; now and then one starts a program whose child outlives
/// it, and becomes an orphan. Ends with its handle.
struct Load {
    child: Child,
    log: PathBuf,
}

impl Load {
    /// Begins, and returns when its transactions arrive.
    #[track_caller]
    fn begin(cluster: &TestCluster) -> Self {
        let before = transactions(cluster);
        let orphan = cluster.scratch.write("orphan.sql", "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; sleep 0.2 &';\n");
        let log = cluster.scratch.join("pgbench.log");
        let mut pgbench = cluster.client("pgbench", "postgres");
        pgbench.args(["--no-vacuum", "--connect", "--client=4", "--jobs=2", "--time=3600", "--builtin=tpcb-like@9"]);
        pgbench.arg(format!("--file={}@1", orphan.display()));
        pgbench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let mut load = Self { child: pgbench.spawn().unwrap(), log };
        eventually("transactions arrive", || {
            load.assert_at_work();
            transactions(cluster) > before
        });
        load
    }

    #[track_caller]
    fn assert_at_work(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "pgbench ended ({ended:?}):\n{}", fs::read_to_string(&self.log).unwrap());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn transactions(cluster: &TestCluster) -> u64 {
    cluster.sql("postgres", "SELECT count(*) FROM pgbench_history").parse().unwrap()
}

/// What was seen of the processes below PID 1.
#[derive(Debug, Default)]
struct Seen {
    /// Children that PID 1 did not start.
    orphans: HashSet<i32>,
    /// In how many looks in a row one and the same zombie was there.
    longest: usize,
}

/// Looks for zombies all the time. Those of the server are the server's to reap.
struct Watch {
    looks: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Watch {
    /// Looks at the children of PID 1 and at those of its command.
    fn begin(first: i32, command: i32) -> Self {
        let (looks, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, told) = (Arc::clone(&looks), Arc::clone(&ends));
        let watch = move || {
            let (mut seen, mut in_a_row) = (Seen::default(), HashMap::<i32, usize>::new());
            while !told.load(Ordering::Relaxed) {
                let zombies = processes::zombies_below(first).into_iter().filter(|zombie| [first, command].contains(&zombie.parent));
                in_a_row = zombies.map(|zombie| (zombie.id, in_a_row.get(&zombie.id).map_or(1, |looks| looks + 1))).collect();
                seen.longest = in_a_row.values().copied().fold(seen.longest, usize::max);
                seen.orphans.extend(processes::children_of(first).into_iter().filter(|child| *child != command));
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            seen
        };
        Self { looks, ends, thread: Some(std::thread::spawn(watch)) }
    }

    /// Waits until it has looked so many times more.
    #[track_caller]
    fn look(&self, times: usize) {
        let until = self.looks.load(Ordering::Relaxed) + times;
        eventually("it was looked often enough", || self.looks.load(Ordering::Relaxed) >= until);
    }

    fn end(mut self) -> Seen {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

#[test]
fn under_load_no_zombie_stays_and_a_stop_is_clean() {
    let began = Instant::now();
    let cluster = TestCluster::stopped("");
    if !can_isolate() {
        return;
    }
    let mut agent = contained(&cluster, &[]);
    agent.wait_until_ready();
    let first = first_process(&agent);
    let command = processes::children_of(first)[0];
    let made = cluster.client("pgbench", "postgres").args(["--initialize", "--quiet", "--scale=1"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");

    let watch = Watch::begin(first, command);
    let load = Load::begin(&cluster);
    watch.look(LOOKS);
    // Backends in the midst of their work become orphans, too.
    kill(postmaster_below(command), Signal::KILL);
    agent.wait_for(" is ready after ", 2);
    drop(load);
    let mut load = Load::begin(&cluster);
    watch.look(LOOKS);
    load.assert_at_work();
    kill(first, Signal::TERM);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    let looks = watch.looks.load(Ordering::Relaxed);
    let seen = watch.end();
    drop(load);
    assert!(!seen.orphans.is_empty(), "nothing was there that PID 1 had to reap");
    assert!(seen.longest < TOLERATED, "a zombie was there in {} of {looks} looks in a row", seen.longest);
    let said = agent.said();
    assert!(said.contains("received fast shutdown request") && said.contains("database system is shut down"), "{said}");
    assert!(!said.contains("is cut short"), "{said}");
    assert_eq!(state_of(&cluster), "shut down");

    cluster.start();
    let sums = "SELECT sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts) FROM pgbench_history";
    assert_eq!(cluster.sql("postgres", sums), "t");
    let count = format!(
        "{} transactions, {looks} looks at {} orphans, a zombie in {} in a row at most",
        transactions(&cluster),
        seen.orphans.len(),
        seen.longest
    );
    proven("run as PID 1 under pgbench", count, None, began);
}
