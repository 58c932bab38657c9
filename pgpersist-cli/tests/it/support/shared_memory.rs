//! The shared memory of servers that are killed: the kernel keeps it, and only the next server of the same directory would
//! remove it. Where none comes we do, and only what we saw our own processes use.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Files in `/dev/shm`.
static FILES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Numbers of System V segments, with the processes that made them.
static SEGMENTS: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// Notes what a process uses that is about to be killed; see `proc_pid_maps(5)`.
pub(crate) fn remember(process: i32) {
    for line in fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default().lines() {
        let mut fields = line.split_whitespace().skip(4);
        let (Some(inode), Some(name)) = (fields.next(), fields.next()) else { continue };
        if name.starts_with("/dev/shm/PostgreSQL.") {
            FILES.lock().unwrap().insert(PathBuf::from(name));
        } else if name.starts_with("/SYSV") {
            // The inode of a segment is its number. Its maker tells it from a later one with the same.
            SEGMENTS
                .lock()
                .unwrap()
                .extend(segments().into_iter().filter(|segment| segment.number == inode).map(|segment| (segment.number, segment.maker)));
        }
    }
}

/// Removes what was noted and nobody uses any more.
pub(crate) fn remove() {
    let mut in_use = String::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        in_use.push_str(&fs::read_to_string(entry.path().join("maps")).unwrap_or_default());
    }
    FILES.lock().unwrap().retain(|file| {
        let used = in_use.contains(file.to_str().unwrap());
        if !used {
            let _ = fs::remove_file(file);
        }
        used
    });
    let free: Vec<Segment> = segments().into_iter().filter(|segment| segment.attached == "0").collect();
    SEGMENTS.lock().unwrap().retain(|(number, maker)| {
        let gone = free.iter().any(|segment| (&segment.number, &segment.maker) == (number, maker));
        if gone {
            let _ = Command::new("ipcrm").args(["--shmem-id", number]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        !gone
    });
}

struct Segment {
    number: String,
    maker: String,
    attached: String,
}

/// The columns of `/proc/sysvipc/shm`: key, number, permissions, size, maker, last user, attached, …
fn segments() -> Vec<Segment> {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let line = |line: &str| {
        let fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Some(Segment { number: fields.get(1)?.clone(), maker: fields.get(4)?.clone(), attached: fields.get(6)?.clone() })
    };
    table.lines().skip(1).filter_map(line).collect()
}
