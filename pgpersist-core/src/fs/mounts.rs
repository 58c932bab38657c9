//! The mount a path lies on: device, file system type, options.
//!
//! Source: `proc_pid_mountinfo(5)`. Which mount it is, the kernel says itself since Linux 5.8; before, it is the one whose
//! mount point is the longest part of the path, the latest of equals.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::error::{Error, Result};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of this mount, unique while it exists.
    pub id: u64,
    /// Major and minor number of the device, or of what stands in for one.
    pub device: (u32, u32),
    /// The folder of the file system that is mounted: `/` for all of it, else a bind mount shows only this part.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Such as `ext4`, `overlay` or `nfs4`.
    pub fs_type: String,
    /// What is mounted: a device such as `/dev/nvme0n1`, an export such as `server:/path`, or a mere word.
    pub source: String,
    /// The options of this mount, then those of the file system.
    pub options: Vec<String>,
    /// Whether the mount or its file system takes no writes.
    pub read_only: bool,
}

/// Reads the text of `/proc/self/mountinfo`. Lines that make no sense are left out.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// The mount that a path lies on, or would lie on if it existed: symbolic links are followed, and of a path that does not
/// exist the nearest folder above counts.
///
/// # Errors
/// [`Error::File`] when the path cannot be looked at or there is no `/proc`.
pub fn mount_of(path: &Path) -> Result<Mount> {
    let existing = nearest_existing(path)?;
    let table = std::fs::read(MOUNTINFO).map_err(|e| Error::file("read", MOUNTINFO, e))?;
    let mounts = parse(&table);
    find(&mounts, &existing, mount_id(&existing))
        .cloned()
        .ok_or_else(|| Error::unavailable(format!("no mount in {MOUNTINFO} holds {}", existing.display()), "look at `findmnt --target`"))
}

/// Whether a path is a mount point. One that does not exist is none.
///
/// # Errors
/// As [`mount_of`].
pub fn is_mount_point(path: &Path) -> Result<bool> {
    match path.canonicalize() {
        Ok(path) => Ok(mount_of(&path)?.mount_point == path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("look at", path, error)),
    }
}

fn find<'a>(mounts: &'a [Mount], path: &Path, id: Option<u64>) -> Option<&'a Mount> {
    mounts
        .iter()
        .find(|mount| Some(mount.id) == id)
        .or_else(|| mounts.iter().filter(|m| path.starts_with(&m.mount_point)).max_by_key(|m| m.mount_point.as_os_str().len()))
}

/// The kernel's answer; `None` from one that does not know the question.
fn mount_id(path: &Path) -> Option<u64> {
    let seen = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (seen.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(seen.stx_mnt_id)
}

/// The path itself, or the nearest folder above it that exists, without symbolic links.
pub(super) fn nearest_existing(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|e| Error::file("look at", path, e))?;
    for ancestor in absolute.ancestors() {
        match ancestor.canonicalize() {
            Ok(existing) => return Ok(existing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("look at", ancestor, error)),
        }
    }
    Err(Error::file("look at", path, io::ErrorKind::NotFound.into()))
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let id = text(words.next()?).parse().ok()?;
    let _parent = words.next()?;
    let device = text(words.next()?);
    let (major, minor) = device.split_once(':')?;
    let root = path(words.next()?);
    let mount_point = path(words.next()?);
    let mut options: Vec<String> = list(words.next()?).collect();
    // Optional fields, any number of them, end with a dash.
    words.by_ref().find(|word| *word == b"-")?;
    let fs_type = text(words.next()?);
    // The source may be the empty word, and then there are fewer words.
    let rest: Vec<&[u8]> = words.collect();
    let (source, more) = match rest[..] {
        [source, options] => (text(source), options),
        [options] => (String::new(), options),
        _ => return None,
    };
    options.extend(list(more));
    Some(Mount {
        id,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        mount_point,
        fs_type,
        source,
        read_only: options.iter().any(|option| option == "ro"),
        options,
    })
}

fn list(word: &[u8]) -> impl Iterator<Item = String> {
    word.split(|byte| *byte == b',').map(text)
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(word)).into_owned()
}

fn path(word: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(word)).into()
}

/// Blank, tab, line break and backslash are written as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[u8] = br"22 27 0:21 / /proc rw,relatime - proc proc rw
600 500 0:55 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u
700 600 259:1 /volumes/app /app/pg\040data rw,noatime shared:7 propagate_from:2 - ext4 /dev/nvme0n9 rw,discard
701 600 259:1 / /app ro - ext4 /dev/nvme0n9 rw
702 600 0:60 / /app rw - tmpfs  rw,size=64k
703 600 0:61 / /nfs rw - nfs4 server:/export ro,vers=4.2
nonsense
704 600 0 / /x rw - ext4
";

    #[test]
    fn lines_are_read_with_escapes_and_optional_fields() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 6);
        let volume = &mounts[2];
        assert_eq!(volume.mount_point, Path::new("/app/pg data"));
        assert_eq!((volume.device, volume.root.as_path()), ((259, 1), Path::new("/volumes/app")));
        assert_eq!((volume.fs_type.as_str(), volume.source.as_str()), ("ext4", "/dev/nvme0n9"));
        assert_eq!(volume.options, ["rw", "noatime", "rw", "discard"]);
        assert!(!volume.read_only && mounts[3].read_only && mounts[5].read_only);
        assert_eq!((mounts[4].source.as_str(), mounts[4].options.len()), ("", 3));
    }

    #[test]
    fn the_longest_mount_point_wins_and_the_latest_of_equals() {
        let mounts = parse(TABLE);
        let fs_type = |path: &str| find(&mounts, Path::new(path), None).unwrap().fs_type.as_str();
        assert_eq!(fs_type("/app/pg data/base/1"), "ext4");
        assert_eq!(fs_type("/app/pg data2"), "tmpfs");
        assert_eq!(fs_type("/apples"), "overlay");
        // The kernel's own answer beats the guess.
        assert_eq!(find(&mounts, Path::new("/app"), Some(701)).unwrap().fs_type, "ext4");
    }

    #[test]
    fn the_real_table_is_understood() {
        let proc = mount_of(Path::new("/proc/self/no such file")).unwrap();
        assert_eq!((proc.fs_type.as_str(), proc.mount_point.as_path()), ("proc", Path::new("/proc")));
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(is_mount_point(Path::new("/")).unwrap());
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_mount_point(folder.path()).unwrap());
        assert!(!is_mount_point(&folder.path().join("absent")).unwrap());
        // A link into another file system counts as what it points to.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        assert_eq!(mount_of(&link.join("absent/below")).unwrap().fs_type, "proc");
        // The guess agrees with the kernel here.
        let mounts = parse(&std::fs::read(MOUNTINFO).unwrap());
        let real = folder.path().canonicalize().unwrap();
        assert_eq!(find(&mounts, &real, None), Some(&mount_of(&real).unwrap()));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(bytes: Vec<u8>, line in "[0-9]{1,3} [0-9]{1,3} [0-9]:[0-9]{0,12} [/a-z\\\\0-9]{0,8} / [rwo,]{0,4} ?- ?[a-z]{0,4} [a-z]{0,3} ?r?w?") {
            let _ = parse(&bytes);
            let _ = parse(line.as_bytes());
        }
    }
}
