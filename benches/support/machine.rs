//! What a result was measured on: without it, a number means nothing.

use std::process::Command;

use crate::support::place::run;
use crate::support::server::bin_directory;

/// One paragraph: processor, memory, kernel, PostgreSQL, and how busy the machine was when asked.
pub(crate) fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let after = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split(':').nth(1)).map(str::trim).unwrap_or("?").to_owned()
    };
    let gibibytes = after(&memory, "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024 / 1024;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    let postgres = run(Command::new(bin_directory().join("postgres")).arg("--version"));
    format!(
        "{}, {cores} cores, {gibibytes} GiB, Linux {}; {}; load average at the beginning {load}.",
        after(&cpu, "model name"),
        kernel.trim(),
        postgres.trim()
    )
}
