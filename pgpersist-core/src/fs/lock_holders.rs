//! Who has a lock's file open: told by `/proc`, as far as we may look into it.
//!
//! A lock goes to whoever inherits its descriptor, so its holder need not be the process that took it. Processes of other
//! users, and of PID namespaces that are not below ours, are not seen.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that has the file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: i32,
    /// The name of its program, as `ps` shows it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// All processes but ourselves that are seen to have this file open, by process id.
pub fn of(path: &Path) -> Vec<Holder> {
    let Ok(wanted) = fs::metadata(path) else { return Vec::new() };
    let has_it_open = |pid: i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        // A descriptor's link leads to the open file itself, whatever its name is by now.
        open.filter_map(|entry| fs::metadata(entry.path()).ok()).any(|file| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.retain(|pid| u32::try_from(*pid) != Ok(std::process::id()) && has_it_open(*pid));
    pids.into_iter().map(|pid| Holder { pid, name: name(pid) }).collect()
}

fn name(pid: i32) -> String {
    fs::read(format!("/proc/{pid}/comm")).map(|name| String::from_utf8_lossy(&name).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn another_process_is_named_and_we_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = fs::File::create(&path).unwrap();
        assert_eq!(of(&path), []);
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::from(file)).spawn().unwrap();
        let held = of(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].pid, child.id() as i32);
    }
}
