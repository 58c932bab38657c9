//! Runs a command and tells what it cost: time, processor, memory.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the memory of the processes is looked at. The kernel keeps each one's peak, so only what grows just before
/// its end can be missed.
const LOOK: Duration = Duration::from_millis(100);

/// What one run cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// From exec to exit.
    pub(crate) wall: Duration,
    /// User and system time of the command and all its descendants.
    pub(crate) tool_cpu: f64,
    /// The same of the server in that time.
    pub(crate) server_cpu: f64,
    /// The peak of the largest process.
    pub(crate) largest_bytes: u64,
    /// The peak of the sum over all processes, as far as it was seen.
    pub(crate) tree_bytes: u64,
    /// What the run wrote; set by whoever knows.
    pub(crate) written_bytes: u64,
}

/// Runs a command, which must succeed, while `server` (a process id) serves it.
pub(crate) fn measure(command: &mut Command, server: Option<u32>) -> Cost {
    // What others left in the page cache is not this run's to write.
    rustix::fs::sync();
    let own_before = reaped(std::process::id());
    let server_before = server.map_or(0.0, tree_cpu);
    let began = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"));
    let ended = AtomicBool::new(false);
    let pid = child.id();
    let mut cost = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(pid, &ended));
        let status = child.wait().expect("our own child can be waited for");
        let wall = began.elapsed();
        ended.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        assert!(status.success(), "{command:?}: {status}");
        Cost { wall, ..watcher.join().expect("the watcher does not panic") }
    });
    cost.tool_cpu = reaped(std::process::id()) - own_before;
    // The postmaster is told of a backend's end by a signal; its processor time counts once it has heard.
    thread::sleep(Duration::from_millis(50));
    cost.server_cpu = server.map_or(0.0, tree_cpu) - server_before;
    cost
}

/// Looks at the memory of a process and its descendants until told to end.
fn watch(root: u32, ended: &AtomicBool) -> Cost {
    let mut peak = Cost::default();
    while !ended.load(Ordering::Relaxed) {
        let mut sum = 0;
        for pid in tree(root) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
            };
            sum += field("VmRSS:");
            peak.largest_bytes = peak.largest_bytes.max(field("VmHWM:"));
        }
        peak.tree_bytes = peak.tree_bytes.max(sum);
        thread::park_timeout(LOOK);
    }
    peak
}

/// A process and all its descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// The fields of `/proc/PID/stat` from the third on (`proc(5)`): the second may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_ascii_whitespace().map(str::to_owned).collect())
}

fn ticks(pid: u32, fields: std::ops::Range<usize>) -> f64 {
    let stat = stat(pid).unwrap_or_default();
    let ticks: u64 = stat.get(fields).unwrap_or_default().iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    // Precise enough: a tick is a hundredth of a second.
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Processor seconds of the descendants that a process has waited for.
fn reaped(pid: u32) -> f64 {
    ticks(pid, 13..15)
}

/// Processor seconds of a process, its living descendants, and those they have waited for.
fn tree_cpu(root: u32) -> f64 {
    tree(root).into_iter().map(|pid| ticks(pid, 11..15)).sum()
}
