//! The `pgpersist` command: the command line's library, in the process of an interpreter that is there for nothing else.

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use pyo3::prelude::*;

use pgpersist_cli::Host;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::server::continue_as::{self, Ids};

/// The exit code of a program that panicked.
const PANICKED: u8 = 101;

/// Runs one command line, the program's name first; returns its exit code. `host` is the process, as `pgpersist.__main__` has it.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>, host: Py<PyAny>) -> u8 {
    let interpreter = Interpreter { host };
    py.detach(|| {
        // The panic itself was told by then.
        let code = catch_unwind(AssertUnwindSafe(|| pgpersist_cli::run_in(&interpreter, arguments))).unwrap_or(PANICKED);
        // A program does this at its end, a library does not.
        let _ = io::stdout().flush();
        code
    })
}

/// The interpreter's process, by what Python can do with it: its calls reach every thread, and `os.environ` hears of them.
struct Interpreter {
    host: Py<PyAny>,
}

impl Interpreter {
    fn ask<T>(&self, ask: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> io::Result<T> {
        Python::attach(|py| ask(self.host.bind(py)).map_err(|error| system_error(py, &error)))
    }
}

impl Host for Interpreter {
    fn this_program(&self) -> Command {
        let words = self.ask(|host| host.call_method0("command")?.extract::<Vec<OsString>>());
        let mut words = words.unwrap_or_default().into_iter();
        let mut command = Command::new(words.next().unwrap_or_else(|| "python3".into()));
        command.args(words);
        command
    }

    fn continue_as(&self, user: &OsUser, _arguments: &[OsString], handed: Vec<(OsString, OsString)>) -> Result<()> {
        let variables = continue_as::continue_here_as(user, self, handed)?;
        let set = self.ask(|host| host.call_method1("set_variables", (variables,)).map(drop));
        set.map_err(|error| Error::Bug(format!("the environment could not be changed: {error}")))
    }

    fn begin_child(&self, _arguments: &[OsString], listen: &mut dyn FnMut() -> Result<()>) -> Result<Option<u32>> {
        let child = self.ask(|host| host.call_method0("fork")?.extract::<u32>());
        let child = child.map_err(|error| Error::file("fork", "the first process", error))?;
        if child == 0 {
            return Ok(None);
        }
        let listening = listen();
        let heard = self.ask(|host| host.call_method0("hear_signals").map(drop));
        listening?;
        heard.map_err(|error| Error::Bug(format!("the first process could not listen to signals: {error}"))).map(|()| Some(child))
    }
}

impl Ids for Interpreter {
    fn set_groups(&self, groups: &[u32]) -> io::Result<()> {
        self.ask(|host| host.call_method1("set_groups", (groups.to_vec(),)).map(drop))
    }

    fn set_group(&self, gid: u32) -> io::Result<()> {
        self.ask(|host| host.call_method1("set_group", (gid,)).map(drop))
    }

    fn set_user(&self, uid: u32) -> io::Result<()> {
        self.ask(|host| host.call_method1("set_user", (uid,)).map(drop))
    }
}

/// What the operating system has said, as the program itself would have it.
fn system_error(py: Python<'_>, error: &PyErr) -> io::Error {
    let number = error.value(py).getattr("errno").and_then(|number| number.extract::<i32>());
    number.map_or_else(|_| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}
