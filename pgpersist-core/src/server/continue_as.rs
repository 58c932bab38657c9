//! Going on as somebody else: root becomes the cluster's user as a whole.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Uid};

use crate::error::{Error, Result};
use crate::server::os_user::OsUser;

/// The program that runs now, also when its path cannot be reached by the user it becomes, as below `/root`.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// The variables of the old user's session that would mislead the new one.
const STALE: &[&str] = &["XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MAIL", "OLDPWD"];

/// Gives up root for good and replaces this process by `program`, run as `user`. Returns only when that failed.
///
/// The groups, then the group, then the user are set, each for all its ids, so that nothing is left to return to; that is
/// tried. `HOME`, `USER` and `LOGNAME` are the user's; `environment` is added. Where the user cannot enter the current
/// directory, the new process starts in `/`: whoever passes relative paths on says so in `environment`.
///
/// The calling thread must be the only one: the ids of Linux belong to threads, see `credentials(7)`.
///
/// # Errors
/// [`Error::Denied`] when the ids cannot be set or root could be had again; [`Error::File`] when the program does not run.
pub fn continue_as(
    user: &OsUser,
    program: &OsStr,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Infallible> {
    give_up_root(user)?;
    // By its whole path: a directory below `/root` may be open itself and still be out of reach.
    let reachable = |directory: &Path| rustix::fs::access(directory, rustix::fs::Access::EXEC_OK).is_ok();
    if !std::env::current_dir().is_ok_and(|directory| reachable(&directory)) {
        std::env::set_current_dir("/").map_err(|e| Error::file("change to", Path::new("/"), e))?;
    }
    let mut command = Command::new(program);
    command.arg0("pgpersist").args(arguments).env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
    for name in STALE {
        command.env_remove(name);
    }
    command.envs(environment);
    Err(Error::file("run", Path::new(program), command.exec()))
}

fn give_up_root(user: &OsUser) -> Result<()> {
    let denied = |step: &str, error: rustix::io::Errno| Error::Denied {
        what: format!("could not {step} `{}`: {error}", user.name),
        remedy: Some(format!("run pgpersist as `{}` itself, or give the container the capabilities SETUID and SETGID", user.name)),
    };
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if uid.is_root() {
        return Err(Error::refused("PostgreSQL does not run as root", "set `[cluster] os_user` to another user, such as `postgres`"));
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(|e| denied("take the groups of", e))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|e| denied("take the group of", e))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| denied("become", e))?;
    let root = Uid::ROOT;
    let regained = rustix::thread::set_thread_res_uid(root, root, root).is_ok() || rustix::process::geteuid() != uid;
    if regained {
        return Err(Error::denied(
            format!("root could be had again after becoming `{}`", user.name),
            "run pgpersist without the capability to keep root, or as that user itself",
        ));
    }
    Ok(())
}
