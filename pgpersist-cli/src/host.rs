//! The process that a command line runs in: the program's own, or another program's that brings the command along.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use pgpersist_core::error::{Error, Result};
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::server::continue_as::{self, THIS_PROGRAM};

/// What a command needs of the process that it runs in.
pub trait Host {
    /// What runs the command anew, as a child, without arguments yet.
    fn this_program(&self) -> Command;

    /// Goes on as `user` for good, with these variables added to the environment. Returns when this very process has become
    /// the user's, and then runs the command line from its beginning; or replaces it by another one and does not return.
    ///
    /// # Errors
    /// [`Error::Denied`] when the process cannot become that user, or root could be had again.
    fn continue_as(&self, user: &OsUser, arguments: &[OsString], handed: Vec<(OsString, OsString)>) -> Result<()>;

    /// Begins a child that runs the command line in a process group of its own, and calls `listen` before a signal or the
    /// child's death can be missed: its process id. `None` in a child that goes on with this very call.
    ///
    /// # Errors
    /// [`Error::File`] when there can be no child, and what `listen` returns.
    fn begin_child(&self, arguments: &[OsString], listen: &mut dyn FnMut() -> Result<()>) -> Result<Option<u32>>;
}

/// The program `pgpersist`, also when its path cannot be reached by the user it becomes.
pub(crate) struct ThisProgram;

impl Host for ThisProgram {
    fn this_program(&self) -> Command {
        let mut command = Command::new(THIS_PROGRAM);
        command.arg0("pgpersist");
        command
    }

    fn continue_as(&self, user: &OsUser, arguments: &[OsString], handed: Vec<(OsString, OsString)>) -> Result<()> {
        match continue_as::continue_as(user, OsStr::new(THIS_PROGRAM), arguments.iter().skip(1).cloned(), handed)? {}
    }

    fn begin_child(&self, arguments: &[OsString], listen: &mut dyn FnMut() -> Result<()>) -> Result<Option<u32>> {
        listen()?;
        // A group of its own: Ctrl-C reaches it through us, once.
        let child = self.this_program().args(arguments.iter().skip(1)).process_group(0).spawn();
        child.map(|child| Some(child.id())).map_err(|e| Error::file("run", THIS_PROGRAM, e))
    }
}
