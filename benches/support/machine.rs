//! What a result was measured on: without it, a number means nothing.

use std::path::Path;
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

/// One sentence: which file system a folder lies on, and for ext4 whether it has a journal.
pub(crate) fn file_system(folder: &Path) -> String {
    let told = run(Command::new("df").args(["--output=source,fstype"]).arg(folder));
    let mut words = told.lines().last().unwrap_or_default().split_whitespace();
    let (device, kind) = (words.next().unwrap_or("?"), words.next().unwrap_or("?"));
    let name = std::fs::canonicalize(device).ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    // The kernel lists each journal in use as `DEVICE-INODE`; see jbd2/journal.c.
    let journals = std::fs::read_dir("/proc/fs/jbd2").into_iter().flatten().flatten();
    let has_journal = journals
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|journal| name.as_ref().is_some_and(|name| journal.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-'))));
    let journal = match (kind, has_journal) {
        ("ext4", true) => ", with a journal",
        ("ext4", false) => ", without a journal",
        _ => "",
    };
    format!("Scratch folder {}: {kind} on {device}{journal}.", folder.display())
}
