//! How a process that is root works in places of somebody else: as that somebody.
//!
//! Who owns a folder can exchange at any moment what its names lead to. So root does nothing there by its own rights: a thread
//! made for the purpose takes on the rights of the owner, which on Linux each thread has of its own (*credentials(7)*), does
//! the work and ends. What it makes belongs to the owner from the first moment, and a planted link leads it nowhere that the
//! owner could not go alone. Its real and saved user stay root's: who owns the folder may neither signal nor trace it.
//!
//! The work must be file operations and connections alone: no callback of somebody else, and no program, which would find
//! its way back to root.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Gid, Uid};

use crate::error::{Error, Result};
use crate::fs::os_user::OsUser;

/// As many links as the kernel follows on one way.
const LINKS_MAX: u32 = 40;

/// Does work in a folder as whoever can change what the path leads to, where we are root; else, and in places of root's own,
/// simply does it. What of the path does not exist yet belongs to who owns the rest.
///
/// # Errors
/// What the work returns; [`Error::File`] when root may not take on another user's rights.
pub fn as_owner<T: Send>(folder: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if !rustix::process::geteuid().is_root() {
        return work();
    }
    match owner_of(folder).map_err(|e| Error::file("find who owns", folder, e))? {
        Some(owner) => as_identity(&Identity::of_owner(owner)?, folder, work),
        None => work(),
    }
}

/// Does work as this user, where we are root; else, or without a user, simply does it. `place` is where, for errors.
///
/// # Errors
/// As [`as_owner`].
pub fn as_user<T: Send>(user: Option<&OsUser>, place: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match user {
        Some(user) if rustix::process::geteuid().is_root() => as_identity(&Identity::of(user), place, work),
        _ => work(),
    }
}

/// [`as_user`] where one is named, else [`as_owner`].
///
/// # Errors
/// As [`as_owner`].
pub fn as_user_or_owner<T: Send>(user: Option<&OsUser>, folder: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match user {
        Some(_) => as_user(user, folder, work),
        None => as_owner(folder, work),
    }
}

/// The rights that a thread takes on.
#[derive(Debug)]
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    fn of(user: &OsUser) -> Self {
        let groups = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        Self { uid: Uid::from_raw(user.uid), gid: Gid::from_raw(user.gid), groups }
    }

    /// The groups of a user that this machine knows; of a mere number, the group of what it owns.
    fn of_owner((uid, gid): (u32, u32)) -> Result<Self> {
        Ok(match OsUser::with_id(uid)? {
            Some(user) => Self::of(&user),
            None => Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups: vec![Gid::from_raw(gid)] },
        })
    }

    /// Groups first, since afterwards nothing of it is allowed any more.
    fn take_on(&self) -> io::Result<()> {
        let (root, root_group) = (rustix::process::getuid(), rustix::process::getgid());
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(root_group, self.gid, root_group)?;
        rustix::thread::set_thread_res_uid(root, self.uid, root)?;
        Ok(())
    }
}

fn as_identity<T: Send>(identity: &Identity, place: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |error| Error::file("take on the rights of the owner of", place, error);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("on-behalf".to_owned()).spawn_scoped(scope, || {
            identity.take_on().map_err(failed)?;
            work()
        });
        thread.map_err(failed)?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// User and group of whoever can change what a path leads to: the last owner on the way who is not root. Somebody's link
/// leads on as that somebody, wherever it points to. `None` where all of it is root's.
fn owner_of(path: &Path) -> io::Result<Option<(u32, u32)>> {
    let mut ahead = names(&std::path::absolute(path)?);
    let (mut at, mut owner, mut links) = (PathBuf::from("/"), None, 0);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(&name);
        let metadata = match fs::symlink_metadata(&at) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => break,
            Err(error) => return Err(error),
        };
        if metadata.uid() != 0 {
            owner = Some((metadata.uid(), metadata.gid()));
        }
        if metadata.is_symlink() {
            if metadata.uid() != 0 {
                break;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = fs::read_link(&at)?;
            at = if target.is_absolute() { PathBuf::from("/") } else { at.parent().unwrap_or(Path::new("/")).to_owned() };
            names(&target).into_iter().rev().for_each(|name| ahead.push_front(name));
        }
    }
    Ok(owner)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, lchown, symlink};

    const SOMEBODY: u32 = 54_321;

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// A folder that others may pass, and in it one of somebody's.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        if is_root() {
            chown(&theirs, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        }
        (folder, theirs)
    }

    fn create(path: PathBuf) -> Result<()> {
        fs::File::create(&path).map(drop).map_err(|e| Error::file("create", path, e))
    }

    #[test]
    fn what_is_made_in_somebodys_folder_is_that_somebodys() {
        let (_folder, theirs) = place();
        as_owner(&theirs, || create(theirs.join("file"))).unwrap();
        assert_eq!(fs::metadata(theirs.join("file")).unwrap().uid(), fs::metadata(&theirs).unwrap().uid());
        as_owner(&theirs.join("not/yet"), || fs::create_dir_all(theirs.join("not/yet")).map_err(|e| Error::file("create", &theirs, e)))
            .unwrap();
        assert_eq!(fs::metadata(theirs.join("not/yet")).unwrap().uid(), fs::metadata(&theirs).unwrap().uid());
        assert_eq!(rustix::process::geteuid().is_root(), is_root(), "this thread has lost nothing");
    }

    #[test]
    fn somebodys_link_leads_root_nowhere_that_somebody_could_not_go() {
        if !is_root() {
            return;
        }
        let (folder, theirs) = place();
        let roots = folder.path().join("roots");
        fs::create_dir(&roots).unwrap();
        let link = theirs.join("link");
        symlink(&roots, &link).unwrap();
        lchown(&link, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        let error = as_owner(&link, || create(link.join("file"))).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Denied);
        assert_eq!(owner_of(&link).unwrap(), Some((SOMEBODY, SOMEBODY)));
        // One of root's own is a way like any other.
        let own = folder.path().join("own");
        symlink("theirs/../roots", &own).unwrap();
        assert_eq!(owner_of(&folder.path().join("to-theirs")).unwrap(), None);
        symlink("theirs", folder.path().join("to-theirs")).unwrap();
        assert_eq!(owner_of(&folder.path().join("to-theirs")).unwrap(), Some((SOMEBODY, SOMEBODY)));
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(owner_of(&folder.path().join("loop")).is_err());
    }

    #[test]
    fn a_panic_comes_through_and_threads_of_the_work_have_the_same_rights() {
        let (_folder, theirs) = place();
        let panicked = std::panic::catch_unwind(|| as_owner(&theirs, || -> Result<()> { panic!("as planned") }));
        assert!(panicked.is_err());
        let uid = as_owner(&theirs, || Ok(std::thread::scope(|scope| scope.spawn(|| rustix::process::geteuid().as_raw()).join().unwrap())));
        assert_eq!(uid.unwrap(), fs::metadata(&theirs).unwrap().uid());
    }
}
