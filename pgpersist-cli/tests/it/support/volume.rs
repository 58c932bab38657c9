//! A file system of our own on a loop device: a volume that can be a data directory itself, and that can lose its power.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::support::skip::skip;

/// The file systems whose power loss the kernel lets us play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// A mounted volume. Dropping it unmounts it and detaches its device; the image lies in the caller's scratch folder.
#[derive(Debug)]
pub(crate) struct Volume {
    file_system: FileSystem,
    device: String,
    mount_point: PathBuf,
    mounted: bool,
}

impl Volume {
    /// Makes one, mounted at `folder/name`. `None`, after a line that says so, where this machine does not let us.
    pub(crate) fn create(folder: &Path, name: &str, file_system: FileSystem, size_mib: u64) -> Option<Self> {
        if !geteuid().is_root() {
            skip("mount", "only root can mount a volume");
            return None;
        }
        let (image, mount_point) = (folder.join(format!("{name}.image")), folder.join(name));
        std::fs::File::create(&image).unwrap().set_len(size_mib << 20).unwrap();
        std::fs::create_dir(&mount_point).unwrap();
        let mut format = Command::new(format!("mkfs.{}", file_system.name()));
        match file_system {
            FileSystem::Ext4 => format.args(["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"]),
            FileSystem::Xfs => format.args(["-q", "-f"]),
        };
        must(format.arg(&image));
        let attached = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().unwrap();
        if !attached.status.success() {
            skip("mount", format_args!("the kernel refuses loop devices: {}", String::from_utf8_lossy(&attached.stderr).trim()));
            return None;
        }
        let device = String::from_utf8(attached.stdout).unwrap().trim().to_owned();
        let mut volume = Self { file_system, device, mount_point, mounted: false };
        if let Err(refusal) = volume.try_mount() {
            skip("mount", format_args!("the kernel refuses to mount {}: {refusal}", file_system.name()));
            return None;
        }
        Some(volume)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount_point
    }

    /// The device that it lies on, such as `/dev/loop3`.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// The power fails: what was not synced is lost at this moment, and every access fails from now on. Without the flush of
    /// the journal, which the program does only when told `-f`; see `xfs_io(8)`.
    pub(crate) fn cut_the_power(&self) {
        must(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mount_point));
    }

    /// The power comes back: everything in memory is forgotten, and the journal is replayed. Nobody may use it any more.
    pub(crate) fn boot(&mut self) {
        self.unmount(Duration::from_secs(20)).unwrap();
        // Whoever made a mount namespace meanwhile holds a copy of the mount. As long as it lives, the file system is not
        // read anew: the kernel would hand out the dead one again.
        let alive = Path::new("/sys/fs").join(self.file_system.name()).join(self.device.trim_start_matches("/dev/"));
        let deadline = Instant::now() + Duration::from_secs(120);
        while alive.exists() {
            assert!(Instant::now() < deadline, "{} is still mounted in another mount namespace", self.device);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.try_mount().unwrap();
    }

    fn try_mount(&mut self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        if self.file_system == FileSystem::Ext4 {
            // Its journal commits by itself every 5 s: what nobody synced would then be safe, and a fault that is planted
            // would go unseen on a slow machine.
            mount.args(["-o", "commit=600"]);
        }
        run(mount.arg(&self.device).arg(&self.mount_point))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        while self.mounted {
            match run(Command::new("umount").arg(&self.mount_point)) {
                Ok(_) => self.mounted = false,
                // A process that was just killed may not have let go yet.
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(refusal) = self.unmount(Duration::from_secs(10)) {
            eprintln!("{refusal}");
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.mount_point));
        }
        if let Err(refusal) = run(Command::new("losetup").arg("--detach").arg(&self.device)) {
            eprintln!("{refusal}");
        }
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?} does not run: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Runs a program, which must succeed, and returns what it printed.
pub(crate) fn must(command: &mut Command) -> String {
    run(command).unwrap_or_else(|said| panic!("{said}"))
}
