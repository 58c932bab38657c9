//! File systems for one test, unmounted with their handle. They need root, and a kernel that lets it mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::skip::skip;

/// A file system in memory at a path.
#[derive(Debug)]
pub(crate) struct Mount {
    path: PathBuf,
}

impl Mount {
    /// Mounts one of so many KiB. `None`, and the test says that it skips, where the kernel refuses.
    pub(crate) fn new(path: &Path, size_kib: u64) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o"]).arg(format!("size={size_kib}k,mode=0755")).arg("none").arg(path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { path: path.to_owned() }),
            refusal => {
                skip("mount", format_args!("no file system can be mounted here: {refusal:?}"));
                None
            }
        }
    }

    /// Gives it so many KiB in all.
    pub(crate) fn grow(&self, size_kib: u64) {
        let option = format!("remount,size={size_kib}k");
        assert!(Command::new("mount").args(["-o", &option]).arg(&self.path).status().unwrap().success());
    }

    pub(crate) fn make_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.path).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A server that is about to end may still have a file open.
        for _ in 0..100 {
            if Command::new("umount").arg(&self.path).output().is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
