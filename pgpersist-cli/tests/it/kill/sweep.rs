//! Kills a command at each of its durable system calls, by strace.
//!
//! strace's own counters (`when=N`) are a thread's and a name's own, and which thread does the next piece of work is the
//! scheduler's choice. So strace holds every durable call for a moment after it is complete, its log tells how many there
//! were, and whoever made the N-th is killed while it is held: after call N, and before call N + 1. The first call is the
//! exception, before which strace itself kills.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::kill::harness::Story;
use crate::kill::yard::Yard;
use crate::support::moments::{Moments, number};
use crate::support::proof::proven;
use crate::support::{judge, processes};

/// All that changes what a disk will hold after a crash.
const DURABLE: &str = "fsync,fdatasync,syncfs,sync_file_range,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,\
                       mkdir,mkdirat,rmdir,truncate,ftruncate,fallocate,copy_file_range";
/// How many points an everyday run of the tests meets in each sweep.
const EVERYDAY: usize = 4;
/// Most of what a command does happens again and again; what it ends with does not. So when not all points can be met, half
/// of those that are lie among so many last ones.
const LAST: usize = 40;
/// How long a call is held. When the machine was too busy to kill in that time, the next attempt takes twice as long.
const HOLD: Duration = Duration::from_millis(15);
const ATTEMPTS: u32 = 5;

/// Whom a kill takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The process that made the call, which may be a child that is about to become another program.
    Caller,
    /// pgpersist and all its descendants.
    Family,
}

/// Who is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// The cluster's user runs the command.
    ClusterUser,
    /// Root does, up to the moment when it becomes that user.
    Root,
}

/// Meets each durable call of the command itself, its children left alone.
pub(crate) fn sweep(story: &mut dyn Story, runner: Runner, aim: Aim, place: usize) {
    if runner == Runner::Root && judge::server_user().is_none() {
        println!("skipped: only root can be watched being root");
        return;
    }
    let name = format!("{}{}, {aim:?}", story.name(), if runner == Runner::Root { " as root" } else { "" });
    let began = Instant::now();
    if !story.prepare(place) {
        return;
    }
    let reference = Trace::run(story, runner, Fault::None);
    assert!(reference.status.success(), "{name}: undisturbed, it ended with {}\n{}", reference.status, story.yard().describe());
    story.wait_for_orphans();
    story.judge();
    let all = reference.calls.len();
    assert!(all > 0, "{name}: no durable call was seen");
    let mut moments = Moments::new(&format!("sweep {name}"));
    let mut met = BTreeSet::new();
    let wanted = choose(all, most(), &mut moments);
    for point in &wanted {
        for attempt in 0..ATTEMPTS {
            assert!(story.prepare(place));
            let trace = Trace::run(story, runner, Fault::After { calls: *point, aim, hold: HOLD * 2_u32.pow(attempt) });
            if trace.killed {
                met.insert(trace.calls.len());
                println!(
                    "sweep {name}: killed after {} of {all} calls, the last {}",
                    trace.calls.len(),
                    trace.calls.last().map_or("none", |call| call)
                );
                story.wait_for_orphans();
            }
            story.judge();
            if met.contains(point) {
                break;
            }
        }
    }
    let missed: Vec<_> = wanted.iter().filter(|point| !met.contains(point)).collect();
    assert!(missed.is_empty(), "{name}: not met: {missed:?} of {:?}", reference.calls);
    let counts = format!("{} kills, {} of {all} points", met.len(), wanted.len());
    proven(format!("sweep {name}, place {place}"), counts, Some(moments.seed()), began);
}

/// How many points each sweep meets at most.
fn most() -> usize {
    number("PGPERSIST_TEST_SWEEP").map_or(EVERYDAY, |most| usize::try_from(most).unwrap())
}

/// Chooses points; another run of a small sweep chooses others.
fn choose(all: usize, most: usize, moments: &mut Moments) -> BTreeSet<usize> {
    if all <= most {
        return (0..all).collect();
    }
    let last = LAST.min(all);
    let mut chosen = BTreeSet::new();
    while chosen.len() < (most / 2).min(last) {
        chosen.insert(all - 1 - moments.below(last));
    }
    while chosen.len() < most {
        chosen.insert(moments.below(all));
    }
    chosen
}

#[test]
fn a_sweep_chooses_all_points_or_many_of_the_last() {
    let mut moments = Moments::new("choice");
    assert_eq!(choose(5, 8, &mut moments).into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for all in [9, 100, 1_000] {
        let chosen = choose(all, 8, &mut moments);
        assert!(chosen.len() == 8 && chosen.iter().filter(|point| **point + LAST >= all).count() >= 4, "{chosen:?}");
    }
}

/// Kills the programs that the command runs, such as `initdb` and `postgres`, or the command itself, whoever comes first to
/// the n-th call of a name: the command must report that, and the next run must end well.
pub(crate) fn sweep_children(story: &mut dyn Story, place: usize) {
    let began = Instant::now();
    let mut moments = Moments::new(&format!("sweep of the programs of {}", story.name()));
    let mut points = Vec::new();
    for call in ["fsync", "fdatasync", "rename", "renameat", "unlink", "mkdir", "ftruncate", "link", "sync_file_range"] {
        // Ever wider steps: there are hundreds of each, most of them alike.
        points.extend([1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233].map(|when| (call, when)));
    }
    let mut kills = 0;
    for (call, when) in choose(points.len(), most(), &mut moments).into_iter().map(|point| points[point]) {
        assert!(story.prepare(place));
        let trace = Trace::run(story, Runner::ClusterUser, Fault::Anybody { call, when });
        // No thread makes so many of them: then nobody was killed.
        if !trace.killed {
            assert!(trace.status.success(), "nobody was killed, and it ended with {}", trace.status);
        } else {
            kills += 1;
            println!("sweep of the programs of {}: {call} ({when}): {}", story.name(), trace.status);
        }
        story.wait_for_orphans();
        story.judge();
    }
    proven(format!("programs of {}", story.name()), format!("{kills} kills"), Some(moments.seed()), began);
}

/// What is done to a command.
#[derive(Debug, Clone, Copy)]
enum Fault<'a> {
    None,
    /// A kill when so many calls are complete.
    After {
        calls: usize,
        aim: Aim,
        hold: Duration,
    },
    /// A kill of whichever process or thread comes first to its n-th call of a name, children included.
    Anybody {
        call: &'a str,
        when: usize,
    },
}

/// What strace saw.
struct Trace {
    status: ExitStatus,
    /// The names of the durable calls that were completed, in their order.
    calls: Vec<String>,
    killed: bool,
}

impl Trace {
    fn run(story: &dyn Story, runner: Runner, fault: Fault<'_>) -> Self {
        let yard = story.yard();
        if runner == Runner::ClusterUser {
            yard.hand_over();
        }
        let program = yard.reachable_program();
        let calls = story.steps().unwrap_or(DURABLE);
        let mut command = if matches!(fault, Fault::Anybody { .. }) { strace_all(yard, runner) } else { strace(yard, runner) };
        command.args(["-e", &format!("trace={calls}")]);
        match fault {
            Fault::None => {}
            Fault::After { calls: 0, .. } => _ = command.args(["-e", &format!("inject={calls}:signal=SIGKILL:when=1")]),
            Fault::After { hold, .. } => _ = command.args(["-e", &format!("inject={calls}:delay_exit={}", hold.as_micros())]),
            Fault::Anybody { call, when } => _ = command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={when}")]),
        }
        let mut strace = command.arg(&program).args(story.arguments()).spawn().unwrap();
        let began = Instant::now();
        let mut done = false;
        let status = loop {
            if let Some(status) = strace.try_wait().unwrap() {
                break status;
            }
            match fault {
                Fault::After { calls, aim, .. } if calls > 0 && !done => done = kill_after(yard, strace.id(), calls, aim),
                // A server that came to life is traced as well, and strace would wait for its end.
                Fault::Anybody { .. }
                    if !yard.serves
                        && began.elapsed() > Duration::from_secs(2)
                        && !processes::bearing(&yard.victims()).iter().any(|process| process.runs(&program)) =>
                {
                    processes::kill_all(&yard.data);
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let text = std::fs::read_to_string(yard.trace()).unwrap();
        let calls = text.lines().filter_map(completed).map(str::to_owned).collect();
        Self { status, calls, killed: text.contains("killed by SIGKILL") }
    }
}

/// Kills when strace's log tells so many completed calls; `true` when it did.
fn kill_after(yard: &Yard, strace: u32, calls: usize, aim: Aim) -> bool {
    let text = std::fs::read_to_string(yard.trace()).unwrap();
    let Some(line) = text.lines().filter(|line| completed(line).is_some()).nth(calls - 1) else { return false };
    let strace = i32::try_from(strace).unwrap();
    match aim {
        Aim::Caller => {
            let thread = line.split(' ').next().unwrap().parse().unwrap();
            processes::kill_owner_of_thread(thread, strace);
        }
        Aim::Family => processes::children_of(strace).into_iter().for_each(processes::kill_family),
    }
    true
}

/// strace of a command alone, in the surroundings of a victim; options, program and arguments are to follow. Its children
/// are let go when their programs begin.
pub(crate) fn strace(yard: &Yard, runner: Runner) -> Command {
    let mut command = strace_all(yard, runner);
    command.args(["-b", "execve"]);
    command
}

/// strace of a command with all that it runs.
fn strace_all(yard: &Yard, runner: Runner) -> Command {
    let program = PathBuf::from("strace");
    let mut command = match runner {
        Runner::ClusterUser => judge::as_server_user(&program),
        Runner::Root => Command::new(program),
    };
    std::fs::File::create(yard.trace()).unwrap();
    judge::give(&yard.trace());
    command.current_dir(yard.scratch.path()).env("HOME", yard.scratch.path());
    yard.doom(&mut command);
    command.arg("-f").arg("-o").arg(yard.trace());
    command
}

/// The name of the call that a line of strace's tells as completed.
fn completed(line: &str) -> Option<&str> {
    let (_, line) = line.split_once(' ')?;
    let line = line.trim_start();
    // The arguments of a call that is under way may hold an equals sign themselves.
    if line.ends_with("<unfinished ...>") {
        return None;
    }
    let (_, result) = line.rsplit_once(" = ")?;
    if result.starts_with('?') {
        return None;
    }
    let line = line.strip_prefix("<... ").unwrap_or(line);
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    (end > 0).then(|| &line[..end])
}

#[test]
fn strace_lines_are_understood() {
    assert_eq!(completed("30204 fsync(11)                         = 0"), Some("fsync"));
    assert_eq!(completed("30204 <... fsync resumed>)              = 0"), Some("fsync"));
    assert_eq!(completed("30204 renameat(AT_FDCWD, \"a = b\", AT_FDCWD, \"c\" <unfinished ...>"), None);
    assert_eq!(completed("30204 renameat(AT_FDCWD, \"a\", AT_FDCWD, \"c\") = ?"), None);
    assert_eq!(completed("30205 +++ killed by SIGKILL +++"), None);
    assert_eq!(completed("30204 --- SIGCHLD {si_signo=SIGCHLD, si_status=0 /* 0.04 s */} ---"), None);
    assert_eq!(completed("9 unlink(\"x\") = -1 ENOENT (No such file or directory)"), Some("unlink"));
}
