//! Will this directory survive the pod? An answer with its evidence: from the mount table, from a write that is read back, and
//! from a sentinel that was there at an earlier boot.
//!
//! Nothing seen from inside proves that a volume outlives the machine; what is certain is which places do not. Where the
//! mount table decides nothing, the verdict is [`Verdict::Unknown`], never a guess.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::Advice;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::fs::durable;
use crate::fs::mounts::{Mount, mount_of};

/// How many boots a sentinel remembers.
const REMEMBERED_BOOTS: usize = 8;
/// A sentinel that is larger is not ours.
const LARGEST_SENTINEL: u64 = 64 * 1024;
/// The sentinel's name in the folder of our own files.
pub const SENTINEL: &str = "sentinel.json";

/// Whether what is written in a place is still there when the container, the pod or the machine was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A block device or a network file system: it outlives what is mounted on it.
    Persistent,
    /// Gone with the container, the pod or the power.
    Ephemeral,
    /// The mount table does not tell.
    Unknown,
}

/// A verdict on a place, with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The verdict.
    pub verdict: Verdict,
    /// Where the file system is mounted.
    pub mount_point: String,
    /// Its type, such as `ext4`.
    pub fs_type: String,
    /// What is mounted, such as `/dev/nvme0n1`.
    pub source: String,
    /// What was seen, one fact each, for people.
    pub evidence: Vec<String>,
}

/// Judges the place that a path lies on, or would lie on if it existed. Reads only the mount table.
///
/// # Errors
/// As [`mount_of`].
pub fn of(path: &Path) -> Result<Placement> {
    Ok(judge(&mount_of(path)?))
}

/// Judges a mount.
pub fn judge(mount: &Mount) -> Placement {
    let (verdict, because) = verdict(mount);
    let source = if mount.source.is_empty() { "nothing".to_owned() } else { mount.source.clone() };
    let part = if mount.root == Path::new("/") { String::new() } else { format!(" (its folder {})", mount.root.display()) };
    let mut evidence = vec![format!("{} on {source}{part}, mounted at {}", mount.fs_type, mount.mount_point.display()), because];
    if mount.read_only {
        evidence.push("it is mounted read-only".to_owned());
    }
    Placement {
        verdict,
        mount_point: mount.mount_point.to_string_lossy().into_owned(),
        fs_type: mount.fs_type.clone(),
        source: mount.source.clone(),
        evidence,
    }
}

/// Whether no other machine can have this file system mounted at the same time: then what was written in an earlier boot
/// was written by a process that is gone. Cluster file systems such as ocfs2 and gfs2 lie on block devices, too, but on
/// those of several machines.
pub fn is_of_one_machine(mount: &Mount) -> bool {
    match mount.fs_type.as_str() {
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "jfs" | "bcachefs" => mount.source.starts_with("/dev/"),
        // Its writable layer may lie on nothing that is shared.
        "overlay" => true,
        _ => false,
    }
}

fn verdict(mount: &Mount) -> (Verdict, String) {
    let root = mount.root.to_string_lossy();
    match mount.fs_type.as_str() {
        "overlay" | "aufs" | "unionfs" | "fuse.fuse-overlayfs" => {
            (Verdict::Ephemeral, "the writable layer of a container or a live system goes when it is replaced".to_owned())
        }
        "tmpfs" | "ramfs" | "rootfs" | "devtmpfs" | "hugetlbfs" => (Verdict::Ephemeral, format!("{} lives in memory", mount.fs_type)),
        "proc" | "sysfs" | "cgroup" | "cgroup2" | "devpts" | "mqueue" | "securityfs" | "debugfs" | "tracefs" | "bpf" | "configfs" => {
            (Verdict::Ephemeral, format!("{} is a view of the kernel, not a disk", mount.fs_type))
        }
        // What kubelet and Docker keep on the node's own disk for one pod or container, recognised by its folder there.
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" if root.contains("/volumes/kubernetes.io~empty-dir/") => {
            (Verdict::Ephemeral, "an emptyDir volume is deleted with its pod".to_owned())
        }
        "btrfs" if root.contains("/btrfs/subvolumes/") => {
            (Verdict::Ephemeral, "the writable layer of a container goes when it is replaced".to_owned())
        }
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" if is_anonymous_volume(&root) => {
            (Verdict::Unknown, "an anonymous Docker volume: a container that is made anew gets another one; give it a name".to_owned())
        }
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "jfs" | "bcachefs" | "ocfs2" | "gfs2" => on_device(&mount.source),
        // Its sources are datasets of a pool of disks.
        "zfs" => (Verdict::Persistent, "a ZFS pool is on disks".to_owned()),
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "glusterfs" | "fuse.glusterfs" | "fuse.ceph" | "fuse.ceph-fuse" | "lustre"
        | "beegfs" | "gpfs" => (Verdict::Persistent, "a network file system outlives this machine".to_owned()),
        other => (Verdict::Unknown, format!("{other} may or may not survive; the mount table does not tell")),
    }
}

fn on_device(source: &str) -> (Verdict, String) {
    match source.strip_prefix("/dev/") {
        Some(device) if device.starts_with("ram") || device.starts_with("zram") => {
            (Verdict::Ephemeral, format!("{source} is a disk in memory"))
        }
        Some(_) => (Verdict::Persistent, format!("{source} is a block device")),
        None => (Verdict::Unknown, "what it is mounted from is no block device".to_owned()),
    }
}

/// `/var/lib/docker/volumes/<64 hexadecimal digits>/_data`: Docker's name for a volume that nobody named.
fn is_anonymous_volume(root: &str) -> bool {
    root.rsplit_once("/volumes/")
        .and_then(|(_, rest)| rest.split('/').next())
        .is_some_and(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Writes a file into a folder, fsyncs it, reads it back from the device as far as the kernel lets us, compares and removes
/// it. An interrupted probe leaves a temporary file that [`leftovers::sweep`](crate::fs::leftovers::sweep) removes.
///
/// # Errors
/// [`Error::File`] when the folder takes no writes; [`Error::Damaged`] when other bytes came back.
pub fn probe(folder: &Path) -> Result<()> {
    let written: [u8; 4096] = std::array::from_fn(|_| rand::random());
    let path = folder.join(format!(".probe-{:016x}{}", rand::random::<u64>(), durable::TEMPORARY_SUFFIX));
    let outcome = durable::write_new(&path, &written, 0o600).and_then(|()| read_back(&path));
    let removed = durable::remove_file(&path);
    let read = outcome?;
    removed?;
    if read == written {
        return Ok(());
    }
    Err(Error::damaged(
        format!("{} gave back other bytes than were written and fsynced", folder.display()),
        "do not keep data on this volume; look in `dmesg` for errors of its device",
    ))
}

fn read_back(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::file("open", path, e))?;
    // Else the bytes would come from the page cache. A file system that cannot drop them answers from there.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    let mut read = Vec::new();
    // One byte more than was written would be wrong as well.
    file.take(4097).read_to_end(&mut read).map_err(|e| Error::file("read", path, e))?;
    Ok(read)
}

/// What a sentinel remembered, this boot included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentinelReading {
    /// In how many boots it was seen: from 2 on, the place has survived a boot.
    pub boots: u64,
    /// When it was first written.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Whether this boot saw it for the first time.
    pub is_new_boot: bool,
    /// Whether a file was there that made no sense and was begun anew.
    pub was_damaged: bool,
}

impl SentinelReading {
    /// The fact that it adds to a [`Placement`]'s evidence; `None` while it has survived nothing.
    pub fn evidence(&self) -> Option<String> {
        (self.boots > 1).then(|| format!("files here were seen in {} boots of the machine, since {}", self.boots, self.since.date()))
    }
}

/// The file: `{"boots": 3, "since": "2026-01-14T10:00:00Z", "last": [{"id": "…", "first_seen": "…"}, …]}`, newest last.
#[derive(Debug, Serialize, Deserialize)]
struct Sentinel {
    boots: u64,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    last: Vec<SeenBoot>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SeenBoot {
    id: String,
    #[serde(with = "time::serde::rfc3339")]
    first_seen: OffsetDateTime,
}

/// Reads the sentinel in a folder of ours and notes this boot in it, durably. It is written once a boot; a call in a boot that
/// it knows changes nothing.
///
/// # Errors
/// [`Error::File`] when it cannot be read or written.
pub fn sentinel(folder: &Path, boot_id: &str, now: OffsetDateTime) -> Result<SentinelReading> {
    let path = folder.join(SENTINEL);
    let found = read_sentinel(&path)?;
    let was_damaged = matches!(found, Found::Damaged);
    let mut sentinel = match found {
        Found::Sentinel(sentinel) => sentinel,
        Found::Nothing | Found::Damaged => Sentinel { boots: 0, since: now, last: Vec::new() },
    };
    let is_new_boot = !sentinel.last.iter().any(|boot| boot.id == boot_id);
    if is_new_boot {
        sentinel.boots = sentinel.boots.saturating_add(1);
        sentinel.last.push(SeenBoot { id: boot_id.to_owned(), first_seen: now });
        let forgotten = sentinel.last.len().saturating_sub(REMEMBERED_BOOTS);
        sentinel.last.drain(..forgotten);
        let text = serde_json::to_vec_pretty(&sentinel).map_err(|e| Error::Bug(format!("a sentinel does not serialise: {e}")))?;
        durable::write(&path, &text, 0o644)?;
    }
    Ok(SentinelReading { boots: sentinel.boots, since: sentinel.since, is_new_boot, was_damaged })
}

/// What the sentinel in a folder of ours tells in this boot, for whoever only looks: nothing is noted. `None` where there is
/// none, or none that makes sense.
///
/// # Errors
/// [`Error::File`] when it cannot be read.
pub fn remembered(folder: &Path, boot_id: &str) -> Result<Option<SentinelReading>> {
    let Found::Sentinel(sentinel) = read_sentinel(&folder.join(SENTINEL))? else { return Ok(None) };
    let is_new_boot = !sentinel.last.iter().any(|boot| boot.id == boot_id);
    let boots = sentinel.boots.saturating_add(u64::from(is_new_boot));
    Ok(Some(SentinelReading { boots, since: sentinel.since, is_new_boot, was_damaged: false }))
}

enum Found {
    Nothing,
    Damaged,
    Sentinel(Sentinel),
}

fn read_sentinel(path: &Path) -> Result<Found> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(Error::file("open", path, error)),
    };
    let mut text = Vec::new();
    file.take(LARGEST_SENTINEL).read_to_end(&mut text).map_err(|e| Error::file("read", path, e))?;
    Ok(serde_json::from_slice(&text).map_or(Found::Damaged, Found::Sentinel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::mounts;
    use std::io::Write;
    use time::macros::datetime;

    fn judged(line: &str) -> Placement {
        judge(&mounts::parse(line.as_bytes())[0])
    }

    #[test]
    fn each_kind_of_place_gets_its_verdict() {
        let anonymous = format!("/var/lib/docker/volumes/{}/_data", "0123456789abcdef".repeat(4));
        for (root, fs_type, source, expected) in [
            ("/", "overlay", "overlay", Verdict::Ephemeral),
            // A bind mount of a container's own folder is still the container's layer.
            ("/app", "overlay", "overlay", Verdict::Ephemeral),
            ("/", "tmpfs", "tmpfs", Verdict::Ephemeral),
            ("/", "ext4", "/dev/nvme0n9", Verdict::Persistent),
            ("/", "ext4", "/dev/loop3", Verdict::Persistent),
            ("/", "ext4", "/dev/ram0", Verdict::Ephemeral),
            ("/", "ext4", "somewhere", Verdict::Unknown),
            ("/", "xfs", "/dev/mapper/vg-data", Verdict::Persistent),
            ("/pgdata", "zfs", "tank/pgdata", Verdict::Persistent),
            ("/", "nfs4", "server:/export", Verdict::Persistent),
            ("/var/lib/kubelet/pods/1-2/volumes/kubernetes.io~empty-dir/data", "xfs", "/dev/sda1", Verdict::Ephemeral),
            ("/var/lib/kubelet/pods/1-2/volumes/kubernetes.io~csi/pvc-1/mount", "xfs", "/dev/sda1", Verdict::Persistent),
            ("/var/lib/docker/volumes/pgdata/_data", "ext4", "/dev/sda1", Verdict::Persistent),
            (anonymous.as_str(), "ext4", "/dev/sda1", Verdict::Unknown),
            ("/@/var/lib/docker/btrfs/subvolumes/0a1b", "btrfs", "/dev/sda1", Verdict::Ephemeral),
            ("/", "virtiofs", "share", Verdict::Unknown),
            ("/", "fuse.sshfs", "host:", Verdict::Unknown),
        ] {
            let placement = judged(&format!("1 0 8:1 {root} /app rw - {fs_type} {source} rw\n"));
            assert_eq!(placement.verdict, expected, "{root} {fs_type} {source}");
        }
    }

    #[test]
    fn a_cluster_file_system_is_not_of_one_machine() {
        for (fs_type, source, expected) in [
            ("ext4", "/dev/sda1", true),
            ("xfs", "/dev/mapper/vg-data", true),
            ("overlay", "overlay", true),
            ("ext4", "somewhere", false),
            ("ocfs2", "/dev/sdb", false),
            ("gfs2", "/dev/mapper/shared", false),
            ("nfs4", "server:/export", false),
            ("virtiofs", "share", false),
        ] {
            let mount = &mounts::parse(format!("1 0 8:1 / /app rw - {fs_type} {source} rw\n").as_bytes())[0];
            assert_eq!(is_of_one_machine(mount), expected, "{fs_type} {source}");
        }
    }

    #[test]
    fn the_evidence_says_what_was_seen() {
        let placement = judged("1 0 259:1 / /app rw - ext4 /dev/nvme0n9 ro\n");
        assert_eq!(
            placement.evidence,
            ["ext4 on /dev/nvme0n9, mounted at /app", "/dev/nvme0n9 is a block device", "it is mounted read-only"]
        );
        let json = serde_json::to_value(&placement).unwrap();
        assert_eq!((&json["verdict"], &json["mount_point"]), (&"persistent".into(), &"/app".into()));
        assert_eq!(of(Path::new("/proc/self")).unwrap().verdict, Verdict::Ephemeral);
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(probe(&folder.path().join("absent")).is_err());
        assert!(probe(Path::new("/proc")).is_err());
    }

    #[test]
    fn a_sentinel_tells_one_boot_from_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let start = datetime!(2026-01-14 10:00 UTC);
        let first = sentinel(folder.path(), "a", start).unwrap();
        assert_eq!((first.boots, first.is_new_boot, first.evidence()), (1, true, None));
        let again = sentinel(folder.path(), "a", start + time::Duration::HOUR).unwrap();
        assert_eq!((again.boots, again.is_new_boot, again.since), (1, false, start));
        let second = sentinel(folder.path(), "b", start + time::Duration::DAY).unwrap();
        assert_eq!(second.evidence().unwrap(), "files here were seen in 2 boots of the machine, since 2026-01-14");
        // It stays small however often the machine boots.
        for boot in 0..20 {
            sentinel(folder.path(), &format!("boot {boot}"), start).unwrap();
        }
        let last = sentinel(folder.path(), "boot 19", start).unwrap();
        assert_eq!((last.boots, last.is_new_boot, last.since), (22, false, start));
        let text = std::fs::read_to_string(folder.path().join(SENTINEL)).unwrap();
        assert_eq!(text.matches("first_seen").count(), REMEMBERED_BOOTS);
    }

    #[test]
    fn whoever_only_looks_sees_the_same_and_notes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(remembered(folder.path(), "a").unwrap(), None);
        let start = datetime!(2026-01-14 10:00 UTC);
        let noted = sentinel(folder.path(), "a", start).unwrap();
        assert_eq!(remembered(folder.path(), "a").unwrap(), Some(SentinelReading { is_new_boot: false, ..noted }));
        for _ in 0..2 {
            let later = remembered(folder.path(), "b").unwrap().unwrap();
            assert_eq!((later.boots, later.is_new_boot, later.since), (2, true, start));
        }
        std::fs::remove_file(folder.path().join(SENTINEL)).unwrap();
        File::create(folder.path().join(SENTINEL)).unwrap();
        assert_eq!(remembered(folder.path(), "a").unwrap(), None);
    }

    #[test]
    fn a_damaged_sentinel_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        for garbage in [&b""[..], b"{\"boots\":", b"\xFF\xFE", b"{\"boots\":1,\"since\":\"never\",\"last\":[]}"] {
            File::create(folder.path().join(SENTINEL)).unwrap().write_all(garbage).unwrap();
            let reading = sentinel(folder.path(), "a", datetime!(2026-01-14 10:00 UTC)).unwrap();
            assert!(reading.was_damaged && reading.boots == 1);
        }
    }
}
