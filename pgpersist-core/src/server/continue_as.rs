//! Going on as somebody else: root becomes the cluster's user as a whole.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{DumpableBehavior, Gid, Uid};

use crate::error::{Error, Result};
use crate::fs::os_user::OsUser;

/// The program that runs now, also when its path cannot be reached by the user it becomes, as below `/root`.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// The variables of the old user's session that would mislead the new one.
const STALE: &[&str] = &["XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MAIL", "OLDPWD"];

/// The calls that set all ids of a process, the saved ones too.
pub trait Ids {
    /// Sets the supplementary groups.
    ///
    /// # Errors
    /// As `setgroups(2)`.
    fn set_groups(&self, groups: &[u32]) -> io::Result<()>;

    /// Sets the real, effective and saved group.
    ///
    /// # Errors
    /// As `setresgid(2)`.
    fn set_group(&self, gid: u32) -> io::Result<()>;

    /// Sets the real, effective and saved user.
    ///
    /// # Errors
    /// As `setresuid(2)`.
    fn set_user(&self, uid: u32) -> io::Result<()>;
}

/// The ids of a process whose calling thread is the only one: those of Linux belong to threads, see `credentials(7)`.
#[derive(Debug, Clone, Copy)]
struct OnlyThread;

impl Ids for OnlyThread {
    fn set_groups(&self, groups: &[u32]) -> io::Result<()> {
        let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        Ok(rustix::thread::set_thread_groups(&groups)?)
    }

    fn set_group(&self, gid: u32) -> io::Result<()> {
        let gid = Gid::from_raw(gid);
        Ok(rustix::thread::set_thread_res_gid(gid, gid, gid)?)
    }

    fn set_user(&self, uid: u32) -> io::Result<()> {
        let uid = Uid::from_raw(uid);
        Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
    }
}

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
    give_up_root(user, &OnlyThread)?;
    enter_what_is_open()?;
    let mut command = Command::new(program);
    command.arg0("pgpersist").args(arguments);
    for (name, value) in changed_variables(user, environment) {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Err(Error::file("run", Path::new(program), command.exec()))
}

/// As [`continue_as`] without another program: this process itself goes on as `user`, for one whose own program the user may
/// not be able to reach, as an interpreter below `/root`. Returns the variables that the caller has to set, and those without a
/// value to take away.
///
/// What the process has opened and read as root stays with it: call it early. `ids` must reach every thread.
///
/// # Errors
/// [`Error::Denied`] when the ids cannot be set or root could be had again.
pub fn continue_here_as(
    user: &OsUser,
    ids: &dyn Ids,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(OsString, Option<OsString>)>> {
    give_up_root(user, ids)?;
    enter_what_is_open()?;
    // The kernel hides what changes its user in `/proc` from that very user until it runs another program; those who look there
    // for whoever holds a lock are of that user.
    let shown = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    shown.map_err(|e| denied(user, "show the process to", e.into()))?;
    Ok(changed_variables(user, environment))
}

/// Changes to `/` where the current directory cannot be entered by its whole path: one below `/root` may be open itself and still
/// be out of reach.
fn enter_what_is_open() -> Result<()> {
    let reachable = |directory: &Path| rustix::fs::access(directory, rustix::fs::Access::EXEC_OK).is_ok();
    if std::env::current_dir().is_ok_and(|directory| reachable(&directory)) {
        return Ok(());
    }
    std::env::set_current_dir("/").map_err(|e| Error::file("change to", Path::new("/"), e))
}

fn changed_variables(user: &OsUser, added: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, Option<OsString>)> {
    let stale = STALE.iter().map(|name| (OsString::from(name), None));
    let own = [("HOME", user.home.as_os_str()), ("USER", OsStr::new(&user.name)), ("LOGNAME", OsStr::new(&user.name))];
    let own = own.into_iter().map(|(name, value)| (name.into(), Some(value.to_owned())));
    stale.chain(own).chain(added.into_iter().map(|(name, value)| (name, Some(value)))).collect()
}

fn denied(user: &OsUser, step: &str, error: io::Error) -> Error {
    Error::Denied {
        what: format!("could not {step} `{}`: {error}", user.name),
        remedy: Some(format!("run pgpersist as `{}` itself, or give the container the capabilities SETUID and SETGID", user.name)),
    }
}

fn give_up_root(user: &OsUser, ids: &dyn Ids) -> Result<()> {
    if user.uid == 0 {
        return Err(Error::refused("PostgreSQL does not run as root", "set `[cluster] os_user` to another user, such as `postgres`"));
    }
    ids.set_groups(&user.groups).map_err(|e| denied(user, "take the groups of", e))?;
    ids.set_group(user.gid).map_err(|e| denied(user, "take the group of", e))?;
    ids.set_user(user.uid).map_err(|e| denied(user, "become", e))?;
    if ids.set_user(0).is_ok() || rustix::process::geteuid().as_raw() != user.uid {
        return Err(Error::denied(
            format!("root could be had again after becoming `{}`", user.name),
            "run pgpersist without the capability to keep root, or as that user itself",
        ));
    }
    Ok(())
}
