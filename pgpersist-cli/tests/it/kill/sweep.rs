//! Kills a command at each of its durable system calls, by strace.
//!
//! strace's own counters (`when=N`) are a thread's and a name's own, and which thread does the next piece of work is the
//! scheduler's choice. So strace holds every durable call for a moment after it is complete, its log tells how many there
//! were, and whoever made the N-th is killed while it is held: after call N, and before call N + 1. The first call is the
//! exception, before which strace itself kills.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::kill::harness::{Story, told};
use crate::kill::yard::Yard;
use crate::support::moments::{Moments, number};
use crate::support::proof::proven;
use crate::support::skip::skip;
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
pub(crate) fn sweep(story: &mut dyn Story, runner: Runner, aim: Aim, variant: usize) {
    if runner == Runner::Root && judge::server_user().is_none() {
        return skip("root", "only root can be watched being root");
    }
    let name = format!("{}{}, {aim:?}", told(story, variant), if runner == Runner::Root { ", as root" } else { "" });
    let began = Instant::now();
    if !story.prepare(variant) {
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
    let mut wanted = choose(all, most(), &mut moments);
    let mut ahead: Vec<usize> = wanted.iter().copied().collect();
    let (mut shortest, mut never_alone) = (all, BTreeSet::new());
    while let Some(point) = ahead.pop() {
        let (mut too_short, mut too_long) = (0, 0);
        for attempt in 0..ATTEMPTS {
            assert!(story.prepare(variant));
            let trace = Trace::run(story, runner, Fault::After { calls: point, aim, hold: HOLD * 2_u32.pow(attempt) });
            if trace.killed {
                met.insert(trace.calls.len());
                println!(
                    "sweep {name}: killed after {} of {all} calls, the last {}",
                    trace.calls.len(),
                    trace.calls.last().map_or("none", |call| call)
                );
                too_long += u32::from(trace.calls.len() > point);
                story.wait_for_orphans();
            } else if trace.calls.len() < point {
                too_short += 1;
                shortest = shortest.min(trace.calls.len());
            }
            story.judge();
            if met.contains(&point) || too_short == 2 {
                break;
            }
        }
        if met.contains(&point) {
            continue;
        }
        // Two threads that make a call at the same time are both held and end together, so that nobody ever sees just one of them. And not each
        // run makes as many calls: how often a running cluster is copied anew depends on the machine, and then the last ones of the reference
        // run do not exist in another. One that can be met takes such a point's place.
        let (is_never_alone, is_not_there) = (too_long == ATTEMPTS, too_short == 2);
        if is_never_alone {
            never_alone.insert(point);
        }
        if is_never_alone || is_not_there {
            let others: Vec<usize> = (0..shortest).filter(|other| !wanted.contains(other) && !never_alone.contains(other)).collect();
            if !others.is_empty() {
                let other = others[moments.below(others.len())];
                wanted.insert(other);
                ahead.push(other);
            }
            // Where all points are wanted, those that nobody sees alone are counted.
            if is_not_there || !others.is_empty() {
                wanted.remove(&point);
            }
        }
    }
    // Another point's attempt may have met it since.
    never_alone.retain(|point| !met.contains(point));
    let never_alone = never_alone.intersection(&wanted).count();
    let missed: Vec<_> = wanted.iter().filter(|point| !met.contains(point)).collect();
    assert!(missed.len() == never_alone && never_alone * 20 <= wanted.len() + 19, "{name}: not met: {missed:?} of {:?}", reference.calls);
    assert!(shortest * 2 >= all, "{name}: runs of {shortest} and {all} calls are not alike");
    let counts = format!("{} kills, {} of {all} points", met.len(), wanted.len() - never_alone);
    proven(format!("sweep {name}"), counts, Some(moments.seed()), began);
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

/// Kills a program that the command runs, such as `initdb`, `postgres` or `pg_dump`, at its n-th call of a name: the command
/// must report that, and the next run must end well.
pub(crate) fn sweep_children(story: &mut dyn Story, variant: usize) {
    let began = Instant::now();
    let name = format!("programs of {}", told(story, variant));
    let mut moments = Moments::new(&name);
    assert!(story.prepare(variant), "{name}: nothing to be had to work on");
    let reference = Trace::run(story, Runner::ClusterUser, Fault::Watch { calls: &story.steps_of_programs().join(",") });
    story.wait_for_orphans();
    story.judge();
    let points = points_of_programs(story.steps_of_programs(), &reference.text);
    assert!(!points.is_empty(), "{name}: no program made a call at which only it can be met");
    let mut killed = BTreeMap::<String, usize>::new();
    let chosen = choose(points.len(), most().min(MOST_OF_PROGRAMS), &mut moments);
    for (call, when) in chosen.iter().map(|point| &points[*point]) {
        let met = (0..ATTEMPTS).find_map(|_| {
            assert!(story.prepare(variant));
            let trace = Trace::run(story, Runner::ClusterUser, Fault::Anybody { call, when: *when });
            let victim = victim_of(&trace.text);
            if let Some(program) = &victim {
                println!("{name}: {call} ({when}) killed {program}: {}", trace.status);
                let must_be_told = REPORTED.contains(&program.as_str());
                assert!(!must_be_told || !trace.status.success(), "{name}: {program} was killed at {call} ({when}), and nobody was told");
            } else {
                assert!(trace.status.success(), "{name}: nobody was killed, and it ended with {}", trace.status);
            }
            story.wait_for_orphans();
            story.judge();
            victim
        });
        let program = met.unwrap_or_else(|| panic!("{name}: nobody came to {call} ({when}), as somebody had before"));
        *killed.entry(program).or_default() += 1;
    }
    let kills: usize = killed.values().sum();
    assert_eq!(kills, chosen.len());
    let whom = killed.iter().map(|(program, kills)| format!("{kills} of {program}")).collect::<Vec<_>>().join(", ");
    proven(name, format!("{kills} kills: {whom}"), Some(moments.seed()), began);
}

/// Each takes as long as a whole run of the command with all of its programs, and most are alike.
const MOST_OF_PROGRAMS: usize = 15;

/// PostgreSQL's programs, by the names that the kernel knows them by.
const PROGRAMS: [&str; 6] = ["initdb", "postgres", "pg_dump", "pg_dumpall", "pg_ctl", "psql"];
/// Whose death a command must report. A server restarts what dies in it, or dies after the command has ended.
const REPORTED: [&str; 4] = ["initdb", "pg_dump", "pg_dumpall", "psql"];

/// At which calls a program is met for sure and the command itself is not: some process of a program was seen to make so
/// many of them, and all threads of the command together made fewer.
fn points_of_programs(names: &'static [&'static str], trace: &str) -> Vec<(&'static str, usize)> {
    let mut points = Vec::new();
    for name in names {
        let mut by_process = BTreeMap::<&str, usize>::new();
        let mut by_command = 0;
        for line in trace.lines() {
            let Some((process, call)) = line.split_once(' ') else { continue };
            if !call.trim_start().starts_with(&format!("{name}(")) {
                continue;
            }
            let (_, program) = process.trim_end_matches('>').split_once('<').unwrap_or((process, ""));
            if PROGRAMS.contains(&program) { *by_process.entry(process).or_default() += 1 } else { by_command += 1 }
        }
        let most = by_process.values().max().copied().unwrap_or(0);
        // Ever wider steps: there are hundreds of each, most of them alike.
        let steps = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597];
        points.extend(steps.into_iter().filter(|when| *when > by_command && *when <= most).map(|when| (*name, when)));
    }
    points
}

/// The first whom SIGKILL ended.
fn victim_of(trace: &str) -> Option<String> {
    let line = trace.lines().find(|line| line.contains("+++ killed by SIGKILL"))?;
    Some(line.split_once('<')?.1.split_once('>')?.0.to_owned())
}

#[test]
fn only_calls_of_programs_are_points_and_their_victims_are_named() {
    let trace = "7<pgpersist> fsync(3) = 0\n8<initdb> fsync(3) = 0\n8<initdb> fsync(4 <unfinished ...>\n9<worker> unlink(\"a\") = 0\n\
                 8<initdb> <... fsync resumed>) = 0\n8<initdb> fsync(5) = 0\n8<initdb> +++ killed by SIGKILL +++\n";
    assert_eq!(points_of_programs(&["fsync", "unlink"], trace), [("fsync", 2), ("fsync", 3)]);
    assert_eq!(victim_of(trace).unwrap(), "initdb");
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
    /// None, and these calls of the command and of all that it runs are written down.
    Watch {
        calls: &'a str,
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
    text: String,
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
        let with_programs = matches!(fault, Fault::Anybody { .. } | Fault::Watch { .. });
        let calls = match fault {
            Fault::Watch { calls } => calls,
            Fault::Anybody { call, .. } => call,
            Fault::None | Fault::After { .. } => story.steps().unwrap_or(DURABLE),
        };
        let mut command = if with_programs { strace_all(yard, runner) } else { strace(yard, runner) };
        command.args(["-e", &format!("trace={calls}")]);
        match fault {
            Fault::None => {}
            // With the programs' names.
            Fault::Watch { .. } => _ = command.arg("-Y"),
            Fault::After { calls: 0, .. } => _ = command.args(["-e", &format!("inject={calls}:signal=SIGKILL:when=1")]),
            Fault::After { hold, .. } => _ = command.args(["-e", &format!("inject={calls}:delay_exit={}", hold.as_micros())]),
            Fault::Anybody { call, when } => _ = command.args(["-Y", "-e", &format!("inject={call}:signal=SIGKILL:when={when}")]),
        }
        let mut strace = command.arg(&program).args(story.arguments()).spawn().unwrap();
        let began = Instant::now();
        let mut done = false;
        // What was written before we ourselves ended a server.
        let mut until_our_kill = None;
        let status = loop {
            if let Some(status) = strace.try_wait().unwrap() {
                break status;
            }
            match fault {
                Fault::After { calls, aim, .. } if calls > 0 && !done => done = kill_after(yard, strace.id(), calls, aim),
                // A server that came to life is traced as well, and strace would wait for its end.
                Fault::Anybody { .. } | Fault::Watch { .. }
                    if !yard.serves
                        && began.elapsed() > Duration::from_secs(2)
                        && !processes::bearing(&yard.victims()).iter().any(|process| process.runs(&program)) =>
                {
                    until_our_kill.get_or_insert_with(|| std::fs::read_to_string(yard.trace()).unwrap());
                    processes::kill_all(&yard.data);
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let text = until_our_kill.unwrap_or_else(|| std::fs::read_to_string(yard.trace()).unwrap());
        let calls = text.lines().filter_map(completed).map(str::to_owned).collect();
        Self { status, calls, killed: text.contains("killed by SIGKILL"), text }
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
