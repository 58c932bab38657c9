//! The agent at rest: what it takes of the machine while nobody asks and nothing is due, as PID 1 of a container, where we are two
//! processes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use pgpersist_core::clock::{Clock, SystemClock};
use rustix::process::Signal;

use crate::run::http::listening;
use crate::run::{Agent, eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::container::{self, APART, can_isolate};
use crate::support::http::status;
use crate::support::moments::number;
use crate::support::processes::children_of;
use crate::support::proof::proven;
use crate::support::receiver::Receiver;

/// For how many seconds it rests. Everyday they are too few to judge its time on the processor by; with this, it is judged.
const RESTS: &str = "PGPERSIST_TEST_IDLE_S";
/// The most that all of us may take, of one processor.
const MOST_OF_A_PROCESSOR: f64 = 0.005;
/// The most memory that all of us may take, with what is shared counted once.
const MOST_BYTES: u64 = 30 << 20;

/// Our processes from one on downwards, those above first: those that run our program, and so none of PostgreSQL's.
///
/// The program is known by its file: from within a changed root, the path of one that runs among other mounts is told from outside.
fn ours(from: i32) -> Vec<i32> {
    let file = |path: &str| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let program = file(env!("CARGO_BIN_EXE_pgpersist")).unwrap();
    let (mut found, mut waiting) = (Vec::new(), vec![from]);
    while let Some(id) = waiting.pop() {
        if file(&format!("/proc/{id}/exe")).is_ok_and(|runs| runs == program) {
            found.push(id);
        }
        waiting.extend(children_of(id));
    }
    found
}

/// A file about a process, which must live.
#[track_caller]
fn told(id: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_else(|error| panic!("the process {id} tells no {file}: {error}"))
}

/// A line such as `VmHWM:   24156 kB`; a process that has ended has none.
#[track_caller]
fn bytes(id: i32, file: &str, field: &str) -> u64 {
    let text = told(id, file);
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("the process {id} tells no {field} in {file}: {text}"));
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// How long processes have been on a processor, with the programs that they ran and waited for: a server that goes on is none of these.
fn on_processor(processes: &[i32]) -> Duration {
    let ticks = |id: i32| {
        let text = told(id, "stat");
        // utime, stime, cutime and cstime, the fields 14 to 17 of `proc_pid_stat(5)`; the name, field 2, may hold anything.
        let fields = text.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(4);
        fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
    };
    let ticks: u64 = processes.iter().map(|id| ticks(*id)).sum();
    Duration::from_secs(ticks).div_f64(rustix::param::clock_ticks_per_second() as f64)
}

/// How often each thread of a process has gone to wait for something.
fn waits(id: i32) -> BTreeMap<String, u64> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let waits = |thread: &str| {
        // It may end at any moment.
        let text = fs::read_to_string(format!("/proc/{id}/task/{thread}/status")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    threads.filter_map(|thread| Some((waits(&thread)?, thread))).map(|(count, thread)| (thread, count)).collect()
}

/// What all of us took in a while.
struct Taken {
    for_time: Duration,
    on_processor: Duration,
    /// The most at any look, with what several processes share counted once.
    bytes: u64,
}

fn watch(processes: &[i32], length: Duration) -> Taken {
    let (began, before, mut most) = (Instant::now(), on_processor(processes), 0);
    loop {
        most = most.max(processes.iter().map(|id| bytes(*id, "smaps_rollup", "Pss")).sum());
        let left = length.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Taken { for_time: began.elapsed(), on_processor: on_processor(processes).saturating_sub(before), bytes: most };
        }
        std::thread::sleep(left.min(Duration::from_secs(1)));
    }
}

/// A configuration in which all is on: it listens, something is due some day, somebody is to be told.
fn everything(port_of_hooks: u16) -> (String, u16) {
    let (section, port) = listening();
    // Nothing is due within the next eleven hours.
    let hour = (SystemClock.now().hour() + 12) % 24;
    let jobs = format!("databases = [\"orders\"]\n[dump]\nschedule = \"0 {hour} * * *\"\n[drill]\nrestore = \"30 {hour} * * *\"\n");
    let hooks =
        format!("[hooks]\nwebhook = \"http://127.0.0.1:{port_of_hooks}/told\"\nheartbeat = \"http://127.0.0.1:{port_of_hooks}/beat\"\n");
    (format!("{jobs}{hooks}{section}"), port)
}

#[test]
fn at_rest_it_takes_next_to_nothing() {
    let began = Instant::now();
    let rests: Option<u64> = number(RESTS);
    let receiver = Receiver::start();
    let (configuration, port) = everything(receiver.port);
    let cluster = TestCluster::stopped(&configuration);
    // Where there are no namespaces, it is the agent alone that is looked at.
    let (mut agent, count) = if can_isolate() {
        let command = container::contained(&cluster, APART, "exec \"$@\"", &["run", "--allow-ephemeral"]);
        (Agent::spawn(&cluster, command), 2)
    } else {
        (Agent::start(&cluster, &[]), 1)
    };
    agent.wait_until_ready();
    eventually("it answers", || status(port, "/readyz") == Some(200));
    let mut processes = Vec::new();
    // What it runs is ours for a moment, until it becomes the other program.
    eventually("these are we", || {
        processes = ours(agent.child.id() as i32);
        processes.len() == count
    });
    let (first, command) = (processes[0], processes[count - 1]);

    let waited = waits(command);
    let taken = watch(&processes, Duration::from_secs(rests.unwrap_or(3)));
    // What was measured is an agent that lives and works.
    eventually("we are still the same", || ours(agent.child.id() as i32) == processes);
    assert_eq!(status(port, "/livez"), Some(200), "{}", agent.said());
    let turns = || waits(command).iter().any(|(thread, count)| waited.get(thread).is_some_and(|before| count > before));
    eventually("its loop turns", turns);
    eventually("it has been on a processor", || on_processor(&[command]) > Duration::ZERO);
    let resident: Vec<u64> = processes.iter().map(|id| bytes(*id, "status", "VmHWM")).collect();
    assert!(resident.iter().all(|bytes| (1 << 20..=MOST_BYTES).contains(bytes)), "the most that each took: {resident:?}");
    assert!((1 << 20..=MOST_BYTES).contains(&taken.bytes), "{} bytes together, the most of each: {resident:?}", taken.bytes);
    let share = taken.on_processor.as_secs_f64() / taken.for_time.as_secs_f64();
    assert!(rests.is_none() || share <= MOST_OF_A_PROCESSOR, "{:?} on a processor in {:?}", taken.on_processor, taken.for_time);

    kill(first, Signal::TERM);
    assert_eq!(agent.ended(), Some(0), "{}", agent.said());
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let each: Vec<String> = resident.iter().map(|bytes| mib(*bytes)).collect();
    let measured = format!(
        "{} s: {:.2} % of one processor; RSS {} MiB at most, {} MiB with what is shared counted once",
        taken.for_time.as_secs(),
        share * 100.0,
        each.join(" + "),
        mib(taken.bytes)
    );
    proven("agent at rest", measured, None, began);
}
