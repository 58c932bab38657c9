//! How a directory of root's becomes one of the user whom the server runs as.
//!
//! Root touches a path only where nobody but root and that user could have prepared it: every directory above belongs to
//! one of them and is closed to others, each step is taken from an open directory and follows no foreign link, an existing
//! directory changes hands only when it is root's and empty, and never what is in it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::process::Gid;

use crate::error::{Error, Result};
use crate::fs::os_user::OsUser;

/// Makes `path` a directory of the user: creates it where it is missing, and hands over one that is root's and empty. What
/// else may be there is left as it is, for the caller to judge. Only for root.
///
/// # Errors
/// `Unsafe` with the command to run where root cannot trust the way; [`Error::File`].
pub fn prepare(path: &Path, user: &OsUser) -> Result<()> {
    match rustix::fs::stat(path) {
        Ok(stat) if stat.st_uid == user.uid || !FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(()),
        _ => Walk::new(path, user)?.run(),
    }
}

/// How far a directory can be trusted not to change under our hands.
#[derive(Debug, PartialEq, Eq)]
enum Trust {
    /// Only root and the user can change its names.
    Closed,
    /// Everybody can add names, and only a name's owner can take it away: `/tmp`.
    Sticky,
    /// Anybody.
    Open,
}

/// A way to a path from open directory to open directory.
struct Walk<'a> {
    path: &'a Path,
    user: &'a OsUser,
    /// Root; in tests, whoever runs them.
    root: u32,
    at: OwnedFd,
    ahead: VecDeque<OsString>,
    links_followed: u32,
}

impl<'a> Walk<'a> {
    fn new(path: &'a Path, user: &'a OsUser) -> Result<Self> {
        let at = open_root(path)?;
        let root = rustix::process::geteuid().as_raw();
        Ok(Self { path, user, root, at, ahead: names(path), links_followed: 0 })
    }

    fn run(mut self) -> Result<()> {
        while let Some(name) = self.ahead.pop_front() {
            let here = rustix::fs::fstat(&self.at).map_err(|e| self.failed("look above", e))?;
            let trust = self.trust(&here);
            if trust == Trust::Open {
                return Err(self.refused("a directory above it can be changed by others"));
            }
            if !self.passable(&here) {
                return Err(self.refused(&format!("a directory above it is closed to `{}`", self.user.name)));
            }
            let last = self.ahead.is_empty();
            match rustix::fs::statat(&self.at, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Symlink => self.follow(&name, &stat, &trust)?,
                    FileType::Directory => self.enter(&name, &trust)?,
                    // The caller says better what is wrong with a file.
                    _ => return Ok(()),
                },
                // What the user can make without us, the caller makes as the user when it is needed.
                Err(Errno::NOENT) if self.user_may_add(&here) => return Ok(()),
                Err(Errno::NOENT) => self.create(&name, &trust, last)?,
                Err(error) => return Err(self.failed("look at", error)),
            }
            if last && self.ahead.is_empty() {
                return self.hand_over();
            }
        }
        Ok(())
    }

    fn trust(&self, stat: &Stat) -> Trust {
        let owned = self.trusts(stat.st_uid);
        let group_is_closed = stat.st_mode & 0o020 == 0 || stat.st_gid == 0 || stat.st_gid == self.user.gid;
        match stat.st_mode & 0o002 == 0 && group_is_closed {
            true if owned => Trust::Closed,
            false if (stat.st_uid == 0 || stat.st_uid == self.root) && stat.st_mode & 0o1000 != 0 => Trust::Sticky,
            _ => Trust::Open,
        }
    }

    fn trusts(&self, uid: u32) -> bool {
        uid == 0 || uid == self.root || uid == self.user.uid
    }

    /// Whether the user can go through a directory, by its permission bits: what root makes below it would be out of reach.
    fn passable(&self, stat: &Stat) -> bool {
        let bit = match () {
            () if stat.st_uid == self.user.uid => 0o100,
            () if self.user.groups.contains(&stat.st_gid) => 0o010,
            () => 0o001,
        };
        stat.st_mode & bit != 0
    }

    /// Whether the directory is the user's own, to make names in.
    fn user_may_add(&self, stat: &Stat) -> bool {
        stat.st_uid == self.user.uid && self.user.uid != self.root && stat.st_mode & 0o300 == 0o300
    }

    /// Goes on where a link points to, if root made it.
    fn follow(&mut self, name: &OsStr, stat: &Stat, trust: &Trust) -> Result<()> {
        if *trust != Trust::Closed || (stat.st_uid != 0 && stat.st_uid != self.root) {
            return Err(self.refused("a symbolic link on the way to it was made by somebody else"));
        }
        self.links_followed += 1;
        if self.links_followed > 40 {
            return Err(self.failed("follow the links to", Errno::LOOP));
        }
        let target = rustix::fs::readlinkat(&self.at, name, Vec::new()).map_err(|e| self.failed("read a link to", e))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.at = open_root(self.path)?;
        }
        for name in names(&target).into_iter().rev() {
            self.ahead.push_front(name);
        }
        Ok(())
    }

    fn enter(&mut self, name: &OsStr, trust: &Trust) -> Result<()> {
        let opened = open_directory(&self.at, name).map_err(|e| self.failed("open", e))?;
        if *trust == Trust::Sticky {
            let stat = rustix::fs::fstat(&opened).map_err(|e| self.failed("look at", e))?;
            if !self.trusts(stat.st_uid) {
                return Err(self.refused("a directory above it belongs to somebody else"));
            }
        }
        self.at = opened;
        Ok(())
    }

    /// Makes a directory: the last one for the user alone, one above it as root's and open to look through.
    fn create(&mut self, name: &OsStr, trust: &Trust, last: bool) -> Result<()> {
        if !last && *trust != Trust::Closed {
            return Err(self.refused("a directory above it can be changed by others"));
        }
        rustix::fs::mkdirat(&self.at, name, Mode::RWXU).map_err(|e| self.failed("create", e))?;
        let created = open_directory(&self.at, name).map_err(|e| self.failed("open", e))?;
        let stat = rustix::fs::fstat(&created).map_err(|e| self.failed("look at", e))?;
        if stat.st_uid != self.root {
            return Err(self.refused("it was exchanged by somebody else at this moment"));
        }
        if !last {
            rustix::fs::fchmod(&created, Mode::from_raw_mode(0o755)).map_err(|e| self.failed("open to others", e))?;
        }
        self.sync(&created)?;
        self.sync(&self.at)?;
        self.at = created;
        Ok(())
    }

    /// Gives the directory that was reached to the user, if it is root's and empty. A fresh file system's `lost+found`
    /// counts as nothing.
    fn hand_over(&self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.at).map_err(|e| self.failed("look at", e))?;
        if stat.st_uid != self.root || stat.st_uid == self.user.uid {
            return Ok(());
        }
        for entry in Dir::read_from(&self.at).map_err(|e| self.failed("list", e))? {
            let entry = entry.map_err(|e| self.failed("list", e))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b".." | b"lost+found") {
                return Ok(());
            }
        }
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        // By its descriptor: the name may mean something else by now.
        rustix::fs::fchown(&self.at, Some(uid), Some(gid)).map_err(|e| self.failed("change the owner of", e))?;
        self.sync(&self.at)
    }

    fn sync(&self, directory: &OwnedFd) -> Result<()> {
        match rustix::fs::fsync(directory) {
            // Some network file systems cannot.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(self.failed("fsync", error)),
        }
    }

    fn failed(&self, action: &'static str, error: Errno) -> Error {
        Error::file(action, self.path, error.into())
    }

    fn refused(&self, why: &str) -> Error {
        let (path, user) = (self.path.display(), &self.user.name);
        Error::refused(
            format!("root does not prepare {path}: {why}"),
            format!(
                "prepare it yourself: `install -d -m 0700 -o {} -g {} {path}`, or run pgpersist as `{user}`",
                self.user.uid, self.user.gid
            ),
        )
    }
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open("/", directory_flags(), Mode::empty()).map_err(|e| Error::file("look above", path, e.into()))
}

fn open_directory(at: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, name, directory_flags(), Mode::empty())
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The names of a path; `..` is one of them, and what it leads to is judged like everything else.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    const SOMEBODY: u32 = 54_321;

    /// As root, a user who is not root; else, whoever runs the test: handing over then changes nothing, walking does.
    fn user() -> OsUser {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (uid, gid) = if uid == 0 { (SOMEBODY, SOMEBODY) } else { (uid, gid) };
        OsUser { name: "somebody".into(), uid, gid, groups: vec![gid], home: "/".into() }
    }

    fn owner(path: &Path) -> u32 {
        fs::metadata(path).unwrap().uid()
    }

    #[test]
    fn a_missing_directory_is_made_for_the_user_and_what_is_above_it_for_all_to_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backups/postgres");
        prepare(&path, &user()).unwrap();
        assert_eq!((owner(&path), fs::metadata(&path).unwrap().mode() & 0o7777), (user().uid, 0o700));
        let above = fs::metadata(folder.path().join("backups")).unwrap();
        assert_eq!((above.uid(), above.mode() & 0o7777), (rustix::process::geteuid().as_raw(), 0o755));
        prepare(&path, &user()).unwrap();
    }

    #[test]
    fn an_empty_volume_is_handed_over_and_a_full_directory_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, full) = (folder.path().join("volume"), folder.path().join("full"));
        fs::create_dir_all(volume.join("lost+found")).unwrap();
        fs::create_dir_all(full.join("inside")).unwrap();
        let root = rustix::process::geteuid().as_raw();
        prepare(&volume, &user()).unwrap();
        prepare(&full, &user()).unwrap();
        assert_eq!((owner(&volume), owner(&volume.join("lost+found"))), (user().uid, root));
        assert_eq!((owner(&full), owner(&full.join("inside"))), (root, root));
    }

    #[test]
    fn a_directory_that_others_can_change_stops_root() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
        let error = Walk::new(&shared.join("data"), &user()).unwrap().run().unwrap_err();
        assert!(error.to_string().contains("can be changed by others"), "{error}");
        assert!(error.remedy().unwrap().contains("install -d"));
        assert!(!shared.join("data").exists());
    }

    #[test]
    fn nothing_is_made_where_the_user_cannot_go() {
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempdir().unwrap();
        let error = Walk::new(&folder.path().join("data"), &user()).unwrap().run().unwrap_err();
        assert!(error.to_string().contains("closed to `somebody`") || !rustix::process::geteuid().is_root(), "{error}");
    }

    #[test]
    fn links_are_followed_only_where_root_made_them() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        prepare(&link.join("data"), &user()).unwrap();
        assert_eq!(owner(&real.join("data")), user().uid);
        symlink(folder.path().join("loop"), folder.path().join("loop")).unwrap();
        assert!(prepare(&folder.path().join("loop/data"), &user()).is_err());
        if rustix::process::geteuid().is_root() {
            let foreign = folder.path().join("foreign");
            symlink(&real, &foreign).unwrap();
            std::os::unix::fs::lchown(&foreign, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
            let error = prepare(&foreign.join("other"), &user()).unwrap_err();
            assert!(error.to_string().contains("symbolic link"), "{error}");
            assert!(!real.join("other").exists());
        }
    }

    #[test]
    fn a_file_in_the_way_is_left_to_the_caller() {
        let folder = tempfile::tempdir().unwrap();
        fs::File::create(folder.path().join("file")).unwrap();
        prepare(&folder.path().join("file"), &user()).unwrap();
        prepare(&folder.path().join("file/below"), &user()).unwrap();
    }
}
