//! Whom clusters belong to, and programs run as that user.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgpersist_core::fs::os_user::OsUser;

use crate::support::judge;

/// Whom pgpersist becomes when the tests run as root; `None` when they run as somebody else, who then is that user.
pub(crate) fn server_user() -> Option<OsUser> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    Some(OsUser::lookup("postgres").unwrap().expect("as root, the tests need a user `postgres`"))
}

/// The superuser of the clusters that `init` makes: whoever runs it.
pub(crate) fn superuser() -> String {
    match server_user() {
        Some(user) => user.name,
        None => pgpersist_core::fs::os_user::current_name().unwrap().expect("whoever runs the tests has a name"),
    }
}

/// Gives a path to the user whom clusters belong to.
pub(crate) fn hand_over(path: &Path) {
    if let Some(user) = server_user() {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// Makes a program that is about to run a plain user's.
pub(crate) fn run_as_user(command: &mut Command) {
    if let Some(user) = server_user() {
        // Without other groups too: the standard library drops those of root together with its id.
        command.uid(user.uid).gid(user.gid);
    }
}

/// pgpersist, to be run by a plain user.
pub(crate) fn pgpersist_as_user() -> (Command, Option<File>) {
    if server_user().is_none() {
        return (Command::new(env!("CARGO_BIN_EXE_pgpersist")), None);
    }
    // By its descriptor: the build may lie below a folder that is closed to others.
    let program = File::open(env!("CARGO_BIN_EXE_pgpersist")).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("pgpersist");
    run_as_user(&mut command);
    (command, Some(program))
}

/// A client program such as `psql`, found without pgpersist's help.
pub(crate) fn client(name: &str) -> PathBuf {
    judge::path(name)
}
