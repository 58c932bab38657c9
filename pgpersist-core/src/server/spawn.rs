//! What must happen between fork and exec: the one place of pgpersist's own `unsafe`, with its reasons.

#![expect(unsafe_code, reason = "pre_exec is unsafe: its closures may only do what is async-signal-safe")]

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::fs::{Gid, Uid};
use rustix::io::FdFlags;

use crate::error::{Error, Result};
use crate::fs::durable::PreparedFile;
use crate::fs::os_user::OsUser;
use crate::server::lock::ServerLock;

/// A server about to be started.
#[derive(Debug)]
pub(crate) struct ServerSpawn {
    /// The `postgres` program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where its output goes.
    pub(crate) log: File,
    /// The server's lock, which it and its backends inherit and hold as long as one of them lives.
    pub(crate) lock: ServerLock,
    /// The record of the process, with ten characters at an offset that wait for its id.
    pub(crate) record: PreparedFile,
    /// Where the id goes in the record.
    pub(crate) pid_offset: u64,
    /// The user that the server runs as, where not ours.
    pub(crate) user: Option<OsUser>,
}

impl ServerSpawn {
    /// Starts the server in a session of its own. Our copy of the lock is closed on return; the server's remains.
    pub(crate) fn spawn(self) -> Result<Child> {
        let Self { program, arguments, log, lock, record, pid_offset, user } = self;
        let log_for_errors = log.try_clone().map_err(|e| Error::file("duplicate the descriptor of the log of", &program, e))?;
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(log_for_errors);
        clean_environment(&mut command);
        let identity = user.as_ref().map(Identity::of);
        if let Some(user) = &user {
            at_home(&mut command, user);
        }
        // SAFETY: the closure runs in the child between fork and exec. It makes only system calls on descriptors and
        // C strings made before the fork, and neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                keep_on_exec(&lock)?;
                record.publish_patched(&right_aligned(rustix::process::getpid().as_raw_nonzero().get()), pid_offset)?;
                identity.as_ref().map_or(Ok(()), Identity::take)
            });
        }
        command.spawn().map_err(|e| Error::file("run", program, e))
    }
}

/// What PostgreSQL's own programs, and whatever they start, may know of our environment: where programs, libraries and
/// files are, and how people write here. The server takes its settings from its files and arguments; our caller's passwords,
/// keys and configuration are nobody's business there, least of all that of a program in `COPY … TO PROGRAM`.
const INHERITED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TZDIR",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "KRB5_CONFIG",
    "KRB5_KTNAME",
    "OPENSSL_CONF",
    "PG_OOM_ADJUST_FILE",
    "PG_OOM_ADJUST_VALUE",
];

/// Leaves a program only what it needs of our environment. Variables that are set afterwards stay.
pub(crate) fn clean_environment(command: &mut Command) {
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        let is_locale = name.as_encoded_bytes().starts_with(b"LC_");
        if is_locale || INHERITED.iter().any(|inherited| name == *inherited) {
            command.env(name, value);
        }
    }
}

/// Makes a program run as another user: root's helpers such as `initdb` refuse to be root.
pub(crate) fn run_as(command: &mut Command, user: Option<&OsUser>) {
    let Some(user) = user else { return };
    at_home(command, user);
    let identity = Identity::of(user);
    // SAFETY: the closure makes only system calls, on values made before the fork.
    unsafe {
        command.pre_exec(move || identity.take());
    }
}

/// What a program of another user's finds: programs of PostgreSQL go back to where they were started, and look into HOME, and
/// fail where that is root's and closed to them.
fn at_home(command: &mut Command, user: &OsUser) {
    if rustix::process::geteuid().as_raw() != user.uid {
        command.current_dir("/").env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
    }
}

/// Makes a program, and whatever it starts, hold a lock until the last of them has ended: killing us alone then does not
/// free it while they still write.
pub(crate) fn hold_lock(command: &mut Command, lock: Option<&Arc<ServerLock>>) {
    let Some(lock) = lock.map(Arc::clone) else { return };
    // SAFETY: the closure makes only system calls on descriptors that were opened before the fork.
    unsafe {
        command.pre_exec(move || keep_on_exec(&lock));
    }
}

fn keep_on_exec(lock: &ServerLock) -> std::io::Result<()> {
    for descriptor in lock.descriptors() {
        rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(())
}

/// The ids of a user, in the form that the system calls want.
#[derive(Debug)]
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    fn of(user: &OsUser) -> Self {
        Self {
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups: user.groups.iter().map(|id| Gid::from_raw(*id)).collect(),
        }
    }

    /// Becomes that user for good: groups first, since afterwards nothing of it is allowed any more.
    fn take(&self) -> std::io::Result<()> {
        // Root has to ask for it in any case: a thread of root that only acts as this user could go back.
        if rustix::process::geteuid() == self.uid && rustix::process::getuid() == self.uid {
            return Ok(());
        }
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)?;
        Ok(())
    }
}

/// A process id in ten characters, without allocating.
fn right_aligned(pid: i32) -> [u8; 10] {
    let mut digits = [b' '; 10];
    let mut rest = pid.unsigned_abs();
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_are_right_aligned() {
        assert_eq!(&right_aligned(7), b"         7");
        assert_eq!(&right_aligned(4_194_304), b"   4194304");
        assert_eq!(&right_aligned(i32::MAX), b"2147483647");
    }
}
